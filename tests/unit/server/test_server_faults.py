"""Fault names, odds, and what each content fault does to a reply."""

import base64
import binascii
import random
import struct
from collections import Counter

import pytest

from cosy_sync.server.batch import Part
from cosy_sync.server.corrupt import _CORRUPTIONS, corrupt
from cosy_sync.server.faults import CONTENT_FAULTS, FAULTS, FaultPlan, check_fault
from cosy_sync.server.sound import Clip, Failure, encode_clip

RATE = 24_000


def pcm(value: int) -> bytes:
    return struct.pack("<h", value) * 4_800


def corrupted(fault: str, count: int = 4, audio_format: str = "wav") -> list[Part]:
    kind = "audio/wav" if audio_format == "wav" else "audio/L16"
    parts = [
        Part(i, encode_clip(Clip.of(pcm(i + 1)), audio_format, RATE), kind) for i in range(count)
    ]
    corrupt(fault, parts, RATE, random.Random(1))
    return parts


def audio(part: Part) -> bytes:
    assert isinstance(part.content, Clip)
    assert part.content.size == len(part.content.data)
    return part.content.data


def odd_one(parts: list[Part]) -> bytes:
    """Return the audio of the one part that was changed."""
    right = {encode_clip(Clip.of(pcm(i + 1)), "wav", RATE).data for i in range(4)}
    right |= {pcm(i + 1) for i in range(4)}
    [wrong] = [audio(part) for part in parts if audio(part) not in right]
    return wrong


def test_a_near_miss_is_suggested_and_all_names_are_listed() -> None:
    with pytest.raises(ValueError, match=r"'status-500'.*bad-base64.*too-many"):
        check_fault("status500")


def test_draws_follow_the_odds_and_the_seed() -> None:
    odds = {"cut": 0.25, "reset": 0.5}
    first, second = FaultPlan(odds, 7), FaultPlan(odds, 7)
    drawn = [first.draw() for _ in range(4_000)]
    assert drawn == [second.draw() for _ in range(4_000)]
    counts = Counter(drawn)
    assert 850 < counts["cut"] < 1150
    assert 1850 < counts["reset"] < 2150
    assert set(counts) == {"cut", "reset", ""}


def test_no_odds_never_draw() -> None:
    assert FaultPlan({}, None).draw() == ""
    assert {FaultPlan({"cut": 0}, 1).draw() for _ in range(100)} == {""}


def test_every_content_fault_has_its_corruption() -> None:
    assert set(_CORRUPTIONS) == set(CONTENT_FAULTS) <= set(FAULTS)


def test_empty_audio_leaves_no_byte() -> None:
    assert odd_one(corrupted("empty-audio")) == b""


@pytest.mark.parametrize("audio_format", ["wav", "pcm"])
def test_silent_audio_keeps_its_length(audio_format: str) -> None:
    wrong = odd_one(corrupted("silent-audio", audio_format=audio_format))
    assert wrong[-9_600:] == bytes(9_600)
    assert len(wrong) == 9_600 + (44 if audio_format == "wav" else 0)


def test_same_audio_stands_in_all_places() -> None:
    assert len({audio(part) for part in corrupted("same-audio")}) == 1


@pytest.mark.parametrize("audio_format", ["wav", "pcm"])
def test_odd_audio_has_half_a_sample_at_its_end(audio_format: str) -> None:
    assert len(odd_one(corrupted("odd-audio", audio_format=audio_format))) % 2 == 1


def test_bad_wav_claims_more_than_it_has() -> None:
    wrong = odd_one(corrupted("bad-wav"))
    assert struct.unpack("<I", wrong[40:44])[0] == 2 * (len(wrong) - 44)


def test_short_audio_is_a_right_wav_of_20_ms() -> None:
    wrong = odd_one(corrupted("short-audio"))
    assert struct.unpack("<I", wrong[40:44])[0] == len(wrong) - 44 == 960


def test_swapped_type_puts_an_error_where_audio_is_promised() -> None:
    assert odd_one(corrupted("swapped-type")).startswith(b'{"error"')


def test_text_error_meets_one_text() -> None:
    assert sum(isinstance(part.content, Failure) for part in corrupted("text-error")) == 1


def test_bad_base64_does_not_decode() -> None:
    [wrong] = [part.base64 for part in corrupted("bad-base64") if part.base64]
    with pytest.raises(binascii.Error):
        base64.b64decode(wrong, validate=True)


def test_too_few_drops_one() -> None:
    assert len(corrupted("too-few")) == 3
    assert corrupted("too-few", 1) == []


def test_too_many_adds_an_index_that_was_not_asked_for() -> None:
    assert [part.index for part in corrupted("too-many")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 4])
def test_double_index_says_one_index_twice(count: int) -> None:
    indexes = [part.index for part in corrupted("double-index", count)]
    assert len(set(indexes)) == len(indexes) - 1


def test_missing_index_leaves_one_out() -> None:
    assert [part.index for part in corrupted("missing-index")].count(None) == 1
