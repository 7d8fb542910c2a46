"""Reference recordings: read from whatever the user has, checked once, kept as one WAV file."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import warnings
from array import array
from typing import Any

from ..errors import BadAudioError, ConfigError
from ..models import Recording, wav_header
from .wav import parse_wav

__all__ = ["load_recording"]

# Bytes of a file: 30 s of eight channels at 192 kHz are 92 MB, but nobody records a voice so.
_MOST_BYTES = 64_000_000
_RATES = range(8_000, 192_001)
# Seconds. The official runtimes refuse more than 30 (frontend.py), vLLM-Omni less than 1; what is
# cut ends well before the limit, since services differ in whether they take the limit itself.
_SHORTEST, _LONGEST, _CUT_TO = 1.0, 30.0, 29.0
# -60 dB of full scale: the noise of a microphone into which nobody speaks.
_SILENT_PEAK = 32
# Share of the samples at full scale from which a recording sounds distorted.
_CLIPPED = 0.001
# Below this rate the official runtimes refuse a recording; raised, it passes but sounds dull.
_DULL_RATE = 16_000
_ADDRESSES = ("http:", "https:", "data:", "file:", "ftp:", "oss:", "s3:")
_CONVERT = "ffmpeg -i IN -t 29 -ac 1 -ar 24000 -c:a pcm_s16le OUT.wav"


def load_recording(
    source: Any, *, rates: tuple[int, int] = (16_000, 48_000), whole: bool = False
) -> Recording:
    """Read a reference recording, check it, and make it mono with 16-bit samples.

    What is distorted, or has little to hear, is told by a UserWarning.

    Args:
        source: A Recording, the path or bytes of a sound file, or samples with their rate in Hz:
            whole numbers of 16 bits or floats from -1 to 1, of one channel, or of a numpy array
            with several.
        rates: The lowest and highest Hz that are wanted; what lies beyond is resampled.
        whole: Refuse what is longer than services take, instead of leaving out the rest.

    Raises ConfigError for what is no speech of 1 to 30 s, and where the extra `clips` is needed.
    """
    if isinstance(source, Recording):
        if rates[0] <= source.sample_rate <= rates[1]:
            return source
        source = source.wav
    samples, rate = _pair(source) if isinstance(source, tuple) else _decoded(_bytes_of(source))
    samples = _within_length(samples, rate, whole)
    _check_sound(samples)
    wanted = min(max(rate, rates[0]), rates[1])
    if wanted != rate:
        if rate < _DULL_RATE:
            _warn(f"has only {rate} Hz, so the voice may sound dull; record at 24000 Hz")
        from .decoders import resample

        samples, rate = resample(samples, rate, wanted), wanted
    return _recording(samples, rate)


def _recording(samples: array[int], rate: int) -> Recording:
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    pcm = samples.tobytes()
    wav = wav_header(rate, 1, len(pcm)) + pcm
    return Recording(wav, rate, len(samples) / rate, hashlib.sha256(wav).hexdigest())


# -- reading ------------------------------------------------------------------------------------


def _bytes_of(source: Any) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        data = _file(os.fspath(source))
    else:
        raise ConfigError(
            "reference: expected the path or the bytes of a sound file, or samples and their rate "
            f"such as (array, 24_000), got {type(source).__name__}"
        )
    if len(data) > _MOST_BYTES:
        raise _bad(f"has more than {_MOST_BYTES // 10**6} MB", f"cut it to 30 s: {_CONVERT}")
    return data


def _file(path: Any) -> bytes:
    # What is too long for a path may be the recording itself, in base64.
    shown = repr(path) if len(path) < 300 else f"of {len(path)} characters"
    if str(path).startswith(_ADDRESSES):
        raise _bad("is an address", "download it, and give the file's path or bytes")
    try:
        # A pipe or a device might never end, or never begin.
        if stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "rb") as file:
                return file.read(_MOST_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"reference: cannot read the recording {shown}: {why}") from None
    except ValueError:
        pass  # not a path either: a NUL is in it, or half a surrogate pair
    raise _bad(f"{shown} is no file", "give the path of a sound file")


def _decoded(data: bytes) -> tuple[array[int], int]:
    """Return the samples of a sound file, mono, and their rate; a little more than the limit."""
    if not data:
        raise _bad("is empty", "give a sound file of 3 to 30 s of speech")
    try:
        rate, channels, start, size = parse_wav(data)
    except BadAudioError as error:
        if error.reason in ("not_audio", "header"):
            from .decoders import decode

            samples, rate = decode(data, _LONGEST)
            _check_rate(rate)
            return samples, rate
        what = {"empty": "holds no sound", "odd": "ends with half a sample"}
        raise _bad(what.get(error.reason, "is cut off"), f"convert it anew: {_CONVERT}") from None
    frames = min(size // (2 * channels), int(_LONGEST * rate) + 1)
    sound = array("h", data[start : start + frames * 2 * channels])
    if sys.byteorder == "big":
        sound.byteswap()
    return _mono(sound, channels), rate


def _mono(sound: array[int], channels: int) -> array[int]:
    if channels == 1:
        return sound
    sides = [sound[side::channels] for side in range(channels)]
    return array("h", [sum(frame) // channels for frame in zip(*sides, strict=True)])


def _pair(source: tuple[Any, ...]) -> tuple[array[int], int]:
    if len(source) != 2:
        raise ConfigError("reference: expected samples and their rate, such as (array, 24_000)")
    samples, rate = source
    if not hasattr(rate, "__index__") or isinstance(rate, bool):
        raise ConfigError("reference: the rate behind the samples must be a whole number of Hz")
    rate = int(rate.__index__())
    _check_rate(rate)
    if hasattr(samples, "__array__"):
        from .decoders import from_array

        return from_array(samples, int(_LONGEST * rate) + 1), rate
    if isinstance(samples, (str, bytes)) or not hasattr(samples, "__getitem__"):
        raise ConfigError(
            f"reference: expected an array or a list of samples, got {type(samples).__name__}"
        )
    try:
        return _from_numbers(samples[: int(_LONGEST * rate) + 1]), rate
    except (TypeError, ValueError, OverflowError, KeyError):
        raise ConfigError(
            "reference: samples must be whole numbers of 16 bits, or floats from -1 to 1"
        ) from None


def _from_numbers(values: Any) -> array[int]:
    if all(isinstance(value, int) for value in values):
        return array("h", values)
    scaled = [round(32_768 * value) for value in values]
    # A little above 1 is what filters leave behind; far above it is another scale.
    if max(scaled) > 65_536 or min(scaled) < -65_536:
        raise ValueError("another scale")
    return array("h", [min(max(value, -32_768), 32_767) for value in scaled])


# -- checks -------------------------------------------------------------------------------------


def _check_rate(rate: int) -> None:
    if rate not in _RATES:
        raise _bad(f"has {rate} Hz", f"it must have {_RATES[0]} to {_RATES[-1]}, best 24000")


def _within_length(samples: array[int], rate: int, whole: bool) -> array[int]:
    seconds = len(samples) / rate
    if seconds < _SHORTEST:
        raise _bad(f"has {seconds:.2f} s", "a voice needs 1 s at least; 3 to 10 s are best")
    if seconds <= _LONGEST:
        return samples
    if whole:
        raise _bad(
            f"is longer than {_LONGEST:g} s",
            "no service takes that; cut it, and the transcript with it, to 3 to 10 s",
        )
    _warn(f"is longer than {_LONGEST:g} s, so only its first {_CUT_TO:g} s are used")
    return samples[: int(_CUT_TO * rate)]


def _check_sound(samples: array[int]) -> None:
    high, low = max(samples), min(samples)
    # The difference, since a bad sound card shifts everything to one side.
    if high - low <= 2 * _SILENT_PEAK:
        raise _bad("is silent", "give 3 to 10 s of clear speech")
    clipped = samples.count(32_767) + samples.count(-32_768)
    if clipped > _CLIPPED * len(samples):
        _warn("is distorted: it was recorded too loud, and the voice will sound so too")


def _warn(what: str) -> None:
    warnings.warn(f"reference: the recording {what}", UserWarning, stacklevel=2)


def _bad(what: str, fix: str) -> ConfigError:
    return ConfigError(f"reference: the recording {what}; {fix}")
