"""JSON and base64 are the same with and without the fast libraries."""

from __future__ import annotations

import sys

import pytest

from cosy_sync.wires import fastjson


@pytest.fixture(params=["fast", "standard"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "fast":
        pytest.importorskip("orjson")
        pytest.importorskip("pybase64")
    else:
        monkeypatch.setitem(sys.modules, "orjson", None)
        monkeypatch.setitem(sys.modules, "pybase64", None)
    load, dump = fastjson._find_json()
    monkeypatch.setattr(fastjson, "_load", load)
    monkeypatch.setattr(fastjson, "_dump", dump)
    monkeypatch.setattr(fastjson, "_b64decode", fastjson._find_base64())


def test_json_is_compact_utf_8() -> None:
    assert fastjson.dump_json(["你好", 1.0]) == '["你好",1.0]'.encode()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_json_is_read_from_any_kind_of_bytes(kind: type) -> None:
    assert fastjson.load_json(kind('{"a":["你好",null]}'.encode())) == {"a": ["你好", None]}


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        fastjson.load_json(body)


def test_half_a_character_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        fastjson.dump_json(["\ud800"])


def test_base64_is_read() -> None:
    assert fastjson.from_base64("UklGRg==") == b"RIFF"


@pytest.mark.parametrize(
    "text", ["UklGRg", "UklG Rg==", "UklGRg==\n", "Ukl£", "\ud800", "UklG=Rg="]
)
def test_base64_forgives_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        fastjson.from_base64(text)
