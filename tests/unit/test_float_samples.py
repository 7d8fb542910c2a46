"""Floats of 32 bits as samples: all at once, and one by one where that cannot be."""

from __future__ import annotations

import math
import random
import struct
from array import array

import pytest

from cosy_sync.errors import BadAudioError
from cosy_sync.riff import SampleFormat, to_pcm16

LAYOUT = SampleFormat(24_000, 1, is_float=True, width=4)


def right(value: float) -> int:
    return max(-32768, min(32767, round(value * 32768)))


def test_every_sample_of_16_bits_comes_back_from_its_float() -> None:
    samples = array("h", range(-32768, 32768))
    floats = array("f", [each / 32768 for each in samples])
    assert to_pcm16(floats.tobytes(), LAYOUT) == samples.tobytes()


@pytest.mark.parametrize("loud", [None, 1.0, 1.5, -1.00002, 32767.6 / 32768, -3e38])
def test_floats_are_rounded_to_even_and_clipped_whether_or_not_one_is_loud(loud) -> None:
    chance = random.Random(4)
    values = [chance.uniform(-1, 0.9999) for _ in range(5_000)]
    values += [(2 * step + 1) / 65536 for step in range(-50, 50)]
    floats = array("f", values if loud is None else [*values, loud])
    expected = array("h", map(right, floats)).tobytes()
    assert to_pcm16(floats.tobytes(), LAYOUT) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(BadAudioError, match="no numbers"):
        to_pcm16(struct.pack("<3f", 0.1, value, 0.2), LAYOUT)


def test_no_floats_are_no_samples() -> None:
    assert to_pcm16(b"", LAYOUT) == b""
