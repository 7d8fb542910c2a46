"""A quick look at a recording: some samples of it, compared by C code in a few microseconds."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..models import Audio

__all__ = ["LOOKS", "Look", "hiss_seconds", "look_at"]

# A look compares so many places, evenly spread, each with the next.
LOOKS = 128
# Bytes from one place to the next: what is shorter is no speech.
_LEAST_STEP = 16
# The beginning is looked at more densely: so many times, each so many a second apart.
_EARLY, _EARLY_RATE = 48, 100
# The end is so many frames, of which each eighth is looked at; before it, of so many parts of a
# second, so many.
_END, _EIGHTH = 120, 8
_TAIL, _TAIL_LOOKS = 16, 24
# Places at which steps over 0 are counted.
_PLACES = 4_096

# Only high bytes are compared. By their places in the Gray code neighbours differ in one bit: where
# more bits differ, the samples do by more than 256. (The 2 % of pairs that differ in one bit and
# are no neighbours count as silent.)
_GRAY = bytes(byte ^ 0x80 ^ (byte ^ 0x80) >> 1 for byte in range(256))
_DIFFERS = bytes(bin(bits).count("1") > 1 for bits in range(256))
# One bit for samples above 255, another for those below -256, and the two exchanged: a step over 0
# is where both have a bit in common. Dither and faint noise have none.
_SIDES = bytes(0 if byte in (0, 255) else 1 if byte < 128 else 2 for byte in range(256))
_OTHERS = bytes(0 if byte in (0, 255) else 2 if byte < 128 else 1 for byte in range(256))
# How far from 0 a sample is.
_LEVEL = bytes(byte if byte < 128 else 255 - byte for byte in range(256))

# Noise before speech is looked for in so many seconds, in windows of as many looks; it is one where
# so many of them step over 0 (half of white noise does; of vowels a tenth).
_SEARCHED, _WINDOW, _WINDOW_LOOKS, _NOISY = 4.0, 0.05, 50, 12


class Look(NamedTuple):
    """What a look saw.

    `heard` has one byte for each place: 1 where there is sound, else 0. `early` is how many of 48
    places in the first half second step over 0, loudly. `end` is the loudest of the last samples,
    `tail` of the last 60 ms, in 128ths of full scale.
    """

    heard: bytes
    early: int
    end: int
    tail: int


# Makes a tuple of a class without a call of Python code.
_new = tuple.__new__
_NOTHING = Look(bytes(LOOKS), 0, 0, 0)


def look_at(audio: Audio) -> Look:
    """Look at the first channel of a recording; what is too short shows nothing."""
    data, start, frame = audio.data, audio.pcm_start + 1, 2 * audio.channels
    step = audio.pcm_size // (LOOKS + 1)
    step -= step % frame
    if step < _LEAST_STEP:
        return _NOTHING
    last = start + audio.pcm_size
    number = int.from_bytes
    gray = bytes(data[start : start + step * LOOKS : step]).translate(_GRAY)
    differ = number(gray, "big") ^ number(gray[1:] + gray[-2:-1], "big")
    dense = frame * (audio.sample_rate // _EARLY_RATE)
    early = min(start + _EARLY * dense, last - 2 * frame)
    first = number(bytes(data[start:early:dense]).translate(_SIDES), "little")
    beside = bytes(data[start + frame : early + frame : dense]).translate(_OTHERS)
    sixty = max(start, last - audio.sample_rate // _TAIL * frame)
    seen = (
        differ.to_bytes(LOOKS, "big").translate(_DIFFERS),
        (first & number(beside, "little")).bit_count(),
        max(bytes(data[last - _END * frame : last : _EIGHTH * frame]).translate(_LEVEL)),
        max(
            bytes(
                data[sixty : last : audio.sample_rate // (_TAIL * _TAIL_LOOKS) * frame]
            ).translate(_LEVEL)
        ),
    )
    return _new(Look, seen)


def crossing_of(audio: Audio) -> float:
    """Return the logarithm of the share of sound that steps over 0 from one sample to the next."""
    frame = 2 * audio.channels
    step = max(frame, audio.pcm_size // (_PLACES + 1) // frame * frame)
    start, end = audio.pcm_start + 1, audio.pcm_start + audio.pcm_size
    here = bytes(audio.data[start : end - frame : step])
    beside = bytes(audio.data[start + frame : end : step])
    one, other = here.translate(_SIDES), beside.translate(_OTHERS)
    steps = (int.from_bytes(one, "little") & int.from_bytes(other, "little")).bit_count()
    return math.log((steps + 0.5) / (len(one) - one.count(0) + 1))


def hiss_seconds(audio: Audio) -> float:
    """Return how many seconds of noise stand near the beginning: the longest stretch of them."""
    frame = 2 * audio.channels
    stride = max(1, round(audio.sample_rate * _WINDOW / _WINDOW_LOOKS)) * frame
    end = min(audio.pcm_size, int(_SEARCHED * audio.sample_rate) * frame)
    sound = bytes(audio.data[audio.pcm_start : audio.pcm_start + end])
    beside = sound[frame + 1 :: stride].translate(_OTHERS)
    here = sound[1::stride].translate(_SIDES)[: len(beside)]
    both = int.from_bytes(here, "little") & int.from_bytes(beside, "little")
    steps = both.to_bytes(len(beside), "little")
    noisy = longest = 0
    for at in range(0, len(steps) - _WINDOW_LOOKS + 1, _WINDOW_LOOKS):
        quiet = steps.count(0, at, at + _WINDOW_LOOKS)
        noisy = noisy + 1 if _WINDOW_LOOKS - quiet >= _NOISY else 0
        longest = max(longest, noisy)
    return longest * _WINDOW
