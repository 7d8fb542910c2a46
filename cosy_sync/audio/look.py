"""A quick look at a recording: some samples of it, compared by C code in a few microseconds."""

from __future__ import annotations

from typing import NamedTuple

from ..models import Audio

__all__ = ["LOOKS", "Look", "hiss_seconds", "look_at"]

# A look compares so many places, evenly spread: each with the next, and at each samples that lie 1
# and 3 apart, which 8 bytes of one channel hold.
LOOKS = 128
_FOUR = 8
# Bytes from one place to the next: what is shorter is no speech.
_LEAST_STEP = 16
# The beginning is looked at more densely: so many times, each so many a second apart.
_EARLY, _EARLY_RATE = 48, 100
# The end is so many frames, of which each eighth is looked at.
_END, _EIGHTH = 120, 4

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
_SIGNS = int.from_bytes(b"\x80" * LOOKS, "little")

# Noise before speech is looked for in so many seconds, in windows of as many looks; it is one where
# so many of them step over 0 (half of white noise does; of vowels a tenth).
_SEARCHED, _WINDOW, _WINDOW_LOOKS, _NOISY = 4.0, 0.05, 50, 12


class Look(NamedTuple):
    """What a look saw.

    `heard` has one byte for each place: 1 where there is sound, else 0. `early` is how many of 48
    places in the first half second step over 0, loudly; `alternating` how many of all places step
    over it and back within three samples, loudly or not: sound above a sixth of the rate. `end` is
    the loudest of the last samples, in 128ths of full scale. `crossings` is how many places step
    over 0, loudly; it is counted only where more places than usual are looked at.
    """

    heard: bytes
    early: int
    alternating: int
    end: int
    crossings: int


# Makes a tuple of a class without a call of Python code.
_new = tuple.__new__
_NOTHING = Look(bytes(LOOKS), 0, 0, 0, 0)


def look_at(audio: Audio, places: int = LOOKS) -> Look:
    """Look at the first channel of a recording; what is too short shows nothing.

    Args:
        places: How many to look at; more are more exact, and cost more.
    """
    data, size, frame = audio.data, audio.pcm_size, 2 * audio.channels
    step = size // (places * _FOUR + _FOUR) * _FOUR
    if step < _LEAST_STEP:
        return _NOTHING
    at = audio.pcm_start
    last, end = at + size, at + step * places
    if frame == 2 and not isinstance(data, bytes):
        # Of a view, strides of 8 bytes are as slow as those of one.
        four = bytes(data[at:end].cast("Q")[:: step // _FOUR])
        here, second, third = four[1::_FOUR], four[3::_FOUR], four[7::_FOUR]
    else:
        step -= step % frame
        at, end = at + 1, at + 1 + step * places
        here = bytes(data[at:end:step])
        second = bytes(data[at + frame : end + frame : step])
        third = bytes(data[at + 3 * frame : end + 3 * frame : step])
    number = int.from_bytes
    gray = here.translate(_GRAY)
    differ = number(gray, "big") ^ number(gray[1:] + gray[-2:-1], "big")
    middle = number(second, "little")
    signs = _SIGNS if places == LOOKS else number(b"\x80" * places, "little")
    both = (number(here, "little") ^ middle) & (middle ^ number(third, "little")) & signs
    at = audio.pcm_start + 1
    dense = frame * (audio.sample_rate // _EARLY_RATE)
    early = min(at + _EARLY * dense, last - 2 * frame)
    first = number(bytes(data[at:early:dense]).translate(_SIDES), "little")
    beside = number(bytes(data[at + frame : early + frame : dense]).translate(_OTHERS), "little")
    seen = (
        differ.to_bytes(places, "big").translate(_DIFFERS),
        (first & beside).bit_count(),
        both.bit_count(),
        max(bytes(data[last - _END * frame + 1 : last : _EIGHTH * frame]).translate(_LEVEL)),
        _count_steps(here, second) if places > LOOKS else 0,
    )
    return _new(Look, seen)


def _count_steps(here: bytes, beside: bytes) -> int:
    one, other = here.translate(_SIDES), beside.translate(_OTHERS)
    return (int.from_bytes(one, "little") & int.from_bytes(other, "little")).bit_count()


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
