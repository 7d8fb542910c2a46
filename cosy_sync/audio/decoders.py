"""Sound that the standard library cannot read: other files, arrays, other rates."""

from __future__ import annotations

import importlib
import io
from array import array
from typing import Any

from ..errors import ConfigError
from ..hints import install_line

__all__ = ["decode", "from_array", "resample"]

# Together 184 MB for the 30 s that are read.
_MOST_CHANNELS = 8
_MOST_RATE = 192_000
# Floats a little above 1 are what filters leave behind; far above it is another scale.
_MOST_FLOAT = 2.0


def decode(data: bytes, seconds: float) -> tuple[array[int], int]:
    """Decode a sound file to mono samples of 16 bits; return them and their rate in Hz.

    Reads one sample more than so many seconds, so that what is longer shows. Raises ConfigError.
    """
    soundfile = _need("soundfile", "is no WAV file with 16-bit samples")
    np = _need("numpy", "is no WAV file with 16-bit samples")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if 0 < rate <= _MOST_RATE and 0 < channels <= _MOST_CHANNELS:
                # In one go: between two reads soundfile seeks, which silences what follows in MP3.
                sound = file.read(int(seconds * rate) + 1, dtype="float32", always_2d=True)
                return _whole_numbers(np, sound.mean(axis=1)), rate
    except ConfigError:
        raise
    except (RuntimeError, ValueError, TypeError):  # SoundFileError is one of the first
        raise _bad("is no sound file that can be read") from None
    raise _bad(f"claims {rate} Hz and {channels} channels")


def from_array(samples: Any, most: int) -> array[int]:
    """Return an array's first samples as mono of 16 bits; of two axes, the short one is the
    channels. Raises ConfigError."""
    np = _need("numpy", "is an array")
    try:
        sound = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError):
        raise _bad("is no array that numpy can read") from None
    if sound.ndim == 2:
        if sound.shape[0] < sound.shape[1]:
            sound = sound.T
        if not 0 < sound.shape[1] <= _MOST_CHANNELS:
            raise _bad(f"has {sound.shape[1]} channels")
    elif sound.ndim != 1:
        raise _bad(f"has {sound.ndim} axes; samples have one, or a second one for channels")
    sound = sound[:most]
    if sound.dtype.kind == "f":
        return _whole_numbers(np, sound if sound.ndim == 1 else sound.mean(axis=1))
    if (sound.dtype.kind, sound.dtype.itemsize) != ("i", 2):
        raise _bad(f"holds {sound.dtype}; give int16, or floats from -1 to 1")
    if sound.ndim == 2:
        sound = np.floor(sound.mean(axis=1))
    return array("h", sound.astype("=i2").tobytes())


def resample(samples: array[int], rate: int, wanted: int) -> array[int]:
    """Bring samples to another rate. Raises ConfigError."""
    what = f"has {rate} Hz, and {wanted} are needed"
    soxr, np = _need("soxr", what), _need("numpy", what)
    # As floats: soxr would add random noise to whole numbers, and the digest must not change.
    sound = np.frombuffer(samples, dtype="int16").astype("float32") / 32_768
    return _whole_numbers(np, soxr.resample(sound, rate, wanted))


def _whole_numbers(np: Any, sound: Any) -> array[int]:
    if sound.size and not float(np.abs(sound).max()) <= _MOST_FLOAT:  # NaN is no better
        raise _bad("has samples beyond -1 to 1; give floats in that range, or int16")
    scaled = np.clip(np.rint(sound.astype("float64") * 32_768), -32_768, 32_767)
    return array("h", scaled.astype("=i2").tobytes())


def _need(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: the package without its C library
        raise ConfigError(
            f"reference: the recording {what}: {install_line('clips')}, or convert it by "
            "hand: ffmpeg -i IN -t 29 -ac 1 -ar 24000 -c:a pcm_s16le OUT.wav"
        ) from error


def _bad(what: str) -> ConfigError:
    return ConfigError(
        f"reference: the recording {what}; use WAV, FLAC, Ogg or MP3, or samples and their rate"
    )
