"""Formats beside WAV: MP3, Opus, Ogg Vorbis and FLAC, encoded and decoded by soundfile."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from ..errors import ConfigError
from ..hints import install_line
from ..joining import as_wav
from ..loading import load
from ..models import Audio

__all__ = [
    "CODECS",
    "Codec",
    "Encoder",
    "as_array",
    "check_encoder",
    "decode",
    "encode",
    "resample",
]


class Codec(NamedTuple):
    """How libsndfile calls a format, the sample rates that it takes (none: any), and whether it
    has a quality."""

    container: str
    subtype: str
    rates: tuple[int, ...] = ()
    lossy: bool = True


# The lengths of all of them are exact: each tells its decoder what the encoder added. An MP3 of a
# constant low bit rate has no room to tell, so MP3 is of variable bit rate.
CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "mp3": Codec(
            "MP3",
            "MPEG_LAYER_III",
            (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        ),
        "opus": Codec("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
        "ogg": Codec("OGG", "VORBIS"),
        "flac": Codec("FLAC", "PCM_16", lossy=False),
    }
)

# Frames that an encoder gets at once: libvorbis copies all that it gets at first onto the stack,
# and a thread's may have 128 kB.
_MOST_FRAMES = 8_192


class Encoder:
    """Writes 16-bit samples to a file as they come, in the format of a codec.

    Raises ConfigError where soundfile is missing, and for a quality that cannot be.
    """

    def __init__(
        self,
        file: BinaryIO | int,
        format: str,
        sample_rate: int,
        channels: int,
        quality: float | None,
    ) -> None:
        codec = CODECS[format]
        self._channels = channels
        self._lossy = codec.lossy
        self._rate = sample_rate
        self._to = _nearest(sample_rate, codec.rates)
        if self._to != sample_rate:
            soxr = need("soxr", f"{format} at {sample_rate} Hz")
            self._resampler = soxr.ResampleStream(sample_rate, self._to, channels, dtype="float32")
        options: dict[str, Any] = {}
        if quality is not None:
            # Nothing takes the very smallest.
            options["compression_level"] = min(0.99, 1.0 - _checked(quality, format, codec))
        if format == "mp3":
            options["bitrate_mode"] = "VARIABLE"
        self._np = need("numpy", f"writing {format}")
        soundfile = need("soundfile", f"writing {format}")
        try:
            self._file = soundfile.SoundFile(
                file,
                "w",
                samplerate=self._to,
                channels=channels,
                format=codec.container,
                subtype=codec.subtype,
                closefd=False,
                **options,
            )
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"format: {format} cannot be written with {sample_rate} Hz and {channels} "
                f"channels ({error}); save it as .wav or .flac"
            ) from error

    def write(self, pcm: bytes | memoryview, *, last: bool = False) -> None:
        """Add samples, whole frames of them; the last ones are told so."""
        sound = self._np.frombuffer(pcm, dtype="<i2").reshape(-1, self._channels)
        if self._lossy:
            # Of whole numbers in two channels libsndfile 1.2 makes noise as MP3.
            sound = sound.astype("float32") / 32_768
        if self._to != self._rate:
            sound = self._resampler.resample_chunk(sound, last=last)
        for start in range(0, len(sound), _MOST_FRAMES):
            self._file.write(sound[start : start + _MOST_FRAMES])

    def close(self) -> None:
        """Write the end of the file, and let go of it."""
        self._file.close()


def encode(audio: Audio, format: str, quality: float | None = None) -> Audio:
    """Return a sound in another format: `mp3`, `opus`, `ogg` or `flac`. Raises ConfigError."""
    if format not in CODECS:
        known = ", ".join(("wav", "pcm", *CODECS))
        raise ConfigError(f"format: must be one of {known}, got {format!r}")
    if not audio.pcm_size:
        raise ConfigError("format: there is no sound in it to encode")
    file = io.BytesIO()
    encoder = Encoder(file, format, audio.sample_rate, audio.channels, quality)
    encoder.write(audio.pcm(), last=True)
    encoder.close()
    return replace(audio, data=file.getvalue(), format=format, pcm_start=0)


def decode(audio: Audio) -> bytes:
    """Return the samples of an encoded sound, 16-bit little-endian. Raises ConfigError."""
    soundfile = need("soundfile", f"reading {audio.format}")
    with soundfile.SoundFile(io.BytesIO(audio.data)) as file:
        # As floats: of Vorbis and Opus libsndfile lets whole numbers that are too loud wrap round.
        sound = file.read(dtype="float32", always_2d=True)
        rate = file.samplerate
    np = need("numpy", f"reading {audio.format}")
    if rate != audio.sample_rate:
        sound = need("soxr", "another rate").resample(sound, rate, audio.sample_rate)
    return bytes(np.clip(np.rint(sound * 32_768.0), -32_768, 32_767).astype("<i2").tobytes())


def as_array(audio: Audio) -> Any:
    """Return the samples as an array of int16; one axis for one channel. Raises ConfigError."""
    sound = need("numpy", "an array").frombuffer(bytearray(audio.pcm()), dtype="<i2")
    return sound if audio.channels == 1 else sound.reshape(-1, audio.channels)


def resample(audio: Audio, sample_rate: int) -> Audio:
    """Return a sound at another rate in Hz, as a WAV file. Raises ConfigError."""
    if not (type(sample_rate) is int and 4_000 <= sample_rate <= 384_000):
        raise ConfigError(f"sample_rate: must be 4000 to 384000 Hz, got {sample_rate!r}")
    if sample_rate == audio.sample_rate:
        return audio
    soxr, np = need("soxr", "resampling"), need("numpy", "resampling")
    sound = np.frombuffer(audio.pcm(), dtype="<i2").reshape(-1, audio.channels)
    changed = soxr.resample(sound, audio.sample_rate, sample_rate)
    made = as_wav([changed.astype("<i2").tobytes()], sample_rate, audio.channels)
    return replace(made, timing=audio.timing, words=audio.words)


def check_encoder(format: str, quality: float | None, sample_rate: int | None = None) -> None:
    """Raise ConfigError where a codec's format, that quality of it or that rate, where it is known,
    cannot be written here."""
    load("numpy", "soundfile")
    for package in ("numpy", "soundfile"):
        need(package, f"writing {format}")
    if quality is not None:
        _checked(quality, format, CODECS[format])
    if sample_rate is not None:
        Encoder(io.BytesIO(), format, sample_rate, 1, quality).close()


def need(package: str, why: str) -> Any:
    """Import a package of the extra `audio`. Raises ConfigError with the line that installs it."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: the package without its C library
        raise ConfigError(f"format: {why} needs {package}: {install_line('audio')}") from error


def _nearest(rate: int, rates: tuple[int, ...]) -> int:
    """Return the lowest rate that a codec takes and that loses nothing, else its highest."""
    if not rates or rate in rates:
        return rate
    return next((each for each in rates if each >= rate), rates[-1])


def _checked(quality: float, format: str, codec: Codec) -> float:
    if not codec.lossy:
        raise ConfigError(f"quality: {format} loses nothing and has none; leave it out")
    if not (isinstance(quality, (int, float)) and 0 <= quality <= 1):
        raise ConfigError(f"quality: must be 0 (smallest file) to 1 (best), got {quality!r}")
    return float(quality)
