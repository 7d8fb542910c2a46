"""An entry is what was put there, or it is refused: no byte may be wrong."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosy_sync import Audio, CosyError, TextError, Timing, Word
from cosy_sync.cache.entry import decode, encode

DIGEST = "ab" * 20
TIMING = Timing(
    started=1, queued=1, connect=1, first_byte=1, total=1, attempts=1, endpoint="e", request_id="r"
)
AUDIO = Audio(b"RIFFsamples", "wav", 24_000, 1, 4, 6, TIMING, words=(Word("你", 0.1, 0.2),))


def test_audio_comes_back_without_its_timing() -> None:
    found = decode(DIGEST, encode(DIGEST, AUDIO, 12.5))
    assert isinstance(found.result, Audio) and found.until == 12.5
    assert found.result == AUDIO and found.result.data == AUDIO.data
    assert found.result.words == AUDIO.words and found.result.format == "wav"
    assert found.result.timing is None and found.result.from_cache and not AUDIO.from_cache


def test_a_refusal_comes_back_as_its_error() -> None:
    error = TextError("the text is refused", status=400, code="bad", index=None)
    found = decode(DIGEST, encode(DIGEST, error, 1.0)).result
    assert type(found) is TextError and (found.status, found.code) == (400, "bad")
    assert str(found) == str(error)


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(place: int, value: int) -> None:
    whole = bytearray(encode(DIGEST, AUDIO, 1.0))
    whole[place % len(whole)] ^= value
    with pytest.raises(ValueError):
        decode(DIGEST, bytes(whole))


@given(size=st.integers(0, 10_000))
def test_a_cut_entry_is_noticed(size: int) -> None:
    whole = encode(DIGEST, AUDIO, 1.0)
    with pytest.raises(ValueError):
        decode(DIGEST, whole[: size % len(whole)])


def test_another_texts_entry_is_noticed() -> None:
    with pytest.raises(ValueError, match="another"):
        decode("cd" * 20, encode(DIGEST, AUDIO, 1.0))


@pytest.mark.parametrize("data", [None, "text", 3, b"", b"CSC2" + bytes(40)])
def test_what_is_no_entry_is_refused(data: object) -> None:
    with pytest.raises(ValueError):
        decode(DIGEST, data)  # type: ignore[arg-type]


def test_no_pickle_is_in_it() -> None:
    data = encode(DIGEST, CosyError("x"), 1.0)
    (size,) = struct.unpack_from(">I", data, 8)
    assert json.loads(data[12 : 12 + size])["error"]["type"] == "CosyError"
