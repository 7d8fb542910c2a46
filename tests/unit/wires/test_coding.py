"""JSON and base64 are the same with and without the fast libraries."""

from __future__ import annotations

import sys

import pytest

from cosy_sync.wires import coding


@pytest.fixture(params=["fast", "standard"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "fast":
        pytest.importorskip("orjson")
        pytest.importorskip("pybase64")
    else:
        monkeypatch.setitem(sys.modules, "orjson", None)
        monkeypatch.setitem(sys.modules, "pybase64", None)
    load, dump = coding._find_json()
    monkeypatch.setattr(coding, "_load", load)
    monkeypatch.setattr(coding, "_dump", dump)
    monkeypatch.setattr(coding, "_b64decode", coding._find_base64())


def test_json_is_compact_utf_8() -> None:
    assert coding.dump_json(["你好", 1.0]) == '["你好",1.0]'.encode()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_json_is_read_from_any_kind_of_bytes(kind: type) -> None:
    assert coding.load_json(kind('{"a":["你好",null]}'.encode())) == {"a": ["你好", None]}


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        coding.load_json(body)


def test_half_a_character_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        coding.dump_json(["\ud800"])


def test_base64_is_read() -> None:
    assert coding.from_base64("UklGRg==") == b"RIFF"


@pytest.mark.parametrize(
    "text", ["UklGRg", "UklG Rg==", "UklGRg==\n", "Ukl£", "\ud800", "UklG=Rg="]
)
def test_base64_forgives_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        coding.from_base64(text)
