"""The tone engine: audio that is a pure function of the request, and nearly free.

Every text gets a slice of one prepared waveform, behind a few quiet samples made of a hash of
the text. So no two texts sound the same, tests can compute what the right answer is, and a
reply of megabytes costs a view instead of a copy.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

from .sound import SAMPLE_BYTES, Clip, Failure, encode_clip
from .voices import DEFAULT_VOICE, PRESETS

SECONDS_PER_CHAR = 0.1

# Samples in the prepared waveform before it repeats.
_PERIOD = 32_768
# Whole cycles per period of the three partials: prime to each other, so that no two offsets
# give the same slice, and the seam between two repetitions is smooth.
_CYCLES = (301, 457, 1009)
_MARK_SAMPLES = 16

# Larger than the mark, so that some of the waveform is heard behind it.
MIN_AUDIO_BYTES = 4 * _MARK_SAMPLES


@cache
def _period() -> bytes:
    """Compute one period of the waveform, PCM16LE."""
    step = 2 * math.pi / _PERIOD
    partials = [
        [math.sin(step * ((cycles * i) % _PERIOD)) for i in range(_PERIOD)] for cycles in _CYCLES
    ]
    wave = array("h", [int(8000 * sum(values)) for values in zip(*partials, strict=True)])
    return _little_endian(wave)


@cache
def _repeated(periods: int) -> memoryview:
    return memoryview(_period() * periods)


def _waveform(samples: int) -> memoryview:
    """Give a waveform with room for any offset in front of this many samples."""
    needed = -(-samples // _PERIOD) + 1
    # Powers of two: a handful of sizes stay in memory, whatever the texts.
    return _repeated(1 << (needed - 1).bit_length())


def _little_endian(samples: array[int]) -> bytes:
    if array("H", [1]).tobytes() == b"\x00\x01":
        samples.byteswap()
    return samples.tobytes()


def _mark(digest: bytes) -> bytes:
    """Write the hash as samples below the level that one would hear."""
    return _little_endian(array("h", [byte - 128 for byte in digest]))


def tone_pcm(text: str, voice: str, sample_rate: int, speed: float, samples: int) -> Clip:
    """Give the PCM of one text: always the same for the same arguments."""
    key = f"{text}\0{voice}\0{sample_rate}\0{float(speed)!r}"
    digest = blake2b(key.encode(), digest_size=_MARK_SAMPLES).digest()
    offset = int.from_bytes(digest[:4], "little") % _PERIOD
    start, end = offset + _MARK_SAMPLES, offset + samples
    body = _waveform(samples)[start * SAMPLE_BYTES : end * SAMPLE_BYTES]
    return Clip((_mark(digest), body), samples * SAMPLE_BYTES)


class ToneEngine:
    """Deterministic tones instead of speech."""

    def __init__(
        self, *, audio_bytes: int | None = None, seconds_per_char: float = SECONDS_PER_CHAR
    ) -> None:
        """Prepare the waveform.

        Args:
            audio_bytes: PCM bytes for every text, whatever its length; None lets it grow.
            seconds_per_char: at speed 1.0.
        """
        self.voices: tuple[str, ...] = tuple(PRESETS)
        self._audio_bytes = audio_bytes
        self._seconds_per_char = seconds_per_char
        _period()

    async def synthesize(
        self, texts: Sequence[str], voice: str, sample_rate: int, speed: float
    ) -> list[Clip | Failure]:
        """Give each text its tone; never waits."""
        return [self.clip(text, voice, sample_rate, speed) for text in texts]

    def clip(self, text: str, voice: str, sample_rate: int, speed: float) -> Clip:
        """Give the PCM of one text."""
        if self._audio_bytes is not None:
            samples = self._audio_bytes // SAMPLE_BYTES
        else:
            samples = int(len(text) * self._seconds_per_char * sample_rate / speed)
        return tone_pcm(text, voice, sample_rate, speed, max(samples, MIN_AUDIO_BYTES // 2))

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def tone_wav(
    text: str,
    *,
    sample_rate: int = 24_000,
    speed: float = 1.0,
    voice: str = DEFAULT_VOICE,
    audio_bytes: int | None = None,
    seconds_per_char: float = SECONDS_PER_CHAR,
) -> bytes:
    """Give the WAV file that a server with the tone engine answers for this text."""
    engine = ToneEngine(audio_bytes=audio_bytes, seconds_per_char=seconds_per_char)
    return encode_clip(engine.clip(text, voice, sample_rate, speed), "wav", sample_rate).data
