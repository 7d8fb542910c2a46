"""JSON with long strings reads like any JSON, and leaves the audio where it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosy_sync.wires import long_strings
from cosy_sync.wires.long_strings import load_with_views

KEYS = frozenset({"audio"})


@pytest.fixture(autouse=True, scope="module")
def small() -> Any:
    """Make everything long and large, so that a few bytes meet every border."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_strings, "LARGE_BODY", 0)
        patch.setattr(long_strings, "_LONG", 4)
        patch.setattr(long_strings, "_WINDOW", 7)
        yield


def read(value: Any, **options: Any) -> Any:
    return load_with_views(json.dumps(value, **options).encode(), KEYS)


def plain(value: Any) -> Any:
    """Return it with every view as the str that it stands for."""
    if isinstance(value, memoryview):
        return str(value, "utf-8")
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_only_audio_and_the_items_of_arrays_are_views() -> None:
    found = read({"audio": "x" * 30, "said": "y" * 30, "all": ["z" * 30]})
    assert isinstance(found["audio"], memoryview) and bytes(found["audio"]) == b"x" * 30
    assert found["said"] == "y" * 30
    assert isinstance(found["all"][0], memoryview) and bytes(found["all"][0]) == b"z" * 30


def test_a_view_is_no_copy() -> None:
    body = bytearray(b'{"audio": "AAAAAAAAAAAA"}')
    found = load_with_views(body, KEYS)
    body[11:12] = b"B"
    assert bytes(found["audio"]) == b"BAAAAAAAAAAA"


@pytest.mark.parametrize(
    "inside", ["a\\b" * 5, 'quote"' * 5, "end\\", '\\"' * 9, "ä" * 9, "\n" * 9]
)
def test_strings_with_escapes_are_read_as_ever(inside: str) -> None:
    assert plain(read({"audio": inside, "next": "n" * 20})) == {"audio": inside, "next": "n" * 20}


def test_short_strings_stay_strings() -> None:
    assert read({"audio": "abc", "b": ["abc"]}) == {"audio": "abc", "b": ["abc"]}


@pytest.mark.parametrize(
    "body", [b"", b'"', b'"\\"', b'{"audio": "' + b"x" * 50, b"[1,", b'"\\\\\\"']
)
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        load_with_views(body, KEYS)


def test_small_bodies_are_left_to_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_strings, "LARGE_BODY", 1 << 18)
    assert read({"audio": "x" * 100}) == {"audio": "x" * 100}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["audio", "said", "a key that is long"]), inner)
    ),
    max_leaves=12,
)


@given(value=JSON, ascii=st.booleans(), kind=st.sampled_from([bytes, bytearray, memoryview]))
def test_any_json_is_what_it_was(value: Any, ascii: bool, kind: type) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        json.loads(body)
    except ValueError:
        return
    assert plain(load_with_views(kind(body), KEYS)) == value
