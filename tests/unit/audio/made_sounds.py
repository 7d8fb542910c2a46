"""Recordings for tests: tones, and files made of them."""

from __future__ import annotations

import math
from array import array

from cosy_sync.models import wav_header


def tone(
    seconds: float = 2.0, rate: int = 24_000, hertz: float = 1_000, peak: float = 16_000
) -> array[int]:
    """Return a sine."""
    step = 2 * math.pi * hertz / rate
    return array("h", [round(peak * math.sin(step * n)) for n in range(round(seconds * rate))])


def wav(samples: array[int], rate: int = 24_000, channels: int = 1) -> bytes:
    """Return a WAV file of samples whose channels alternate."""
    pcm = samples.tobytes()
    return wav_header(rate, channels, len(pcm)) + pcm


def interleaved(*sides: array[int]) -> array[int]:
    """Return one row of samples out of a row for each channel."""
    return array("h", [sample for frame in zip(*sides, strict=True) for sample in frame])


def share_at(samples: array[int], rate: int, hertz: float) -> float:
    """Return which share of the power lies at one frequency (Goertzel 1958)."""
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    last = before = 0.0
    for sample in samples:
        last, before = sample + turn * last - before, last
    power = last * last + before * before - turn * last * before
    return 2 * power / (len(samples) * sum(sample * sample for sample in samples))
