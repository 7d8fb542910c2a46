"""multipart/mixed taken apart."""

from __future__ import annotations

import pytest

from cosy_sync.errors import BadAudioError
from cosy_sync.wires import multipart
from cosy_sync.wires.multipart import split_parts

TYPE = "multipart/mixed; boundary=b1"
KINDS = [bytes, bytearray, memoryview]


def bodies(body: bytes, content_type: str = TYPE) -> list[bytes]:
    found = []
    for kind in KINDS:
        parts = split_parts(content_type, kind(body), 64)
        assert all(type(part.body) is memoryview for part in parts)
        found.append([bytes(part.body) for part in parts])
    assert found[0] == found[1] == found[2]
    return found[0]


def refusal(body: bytes, content_type: str = TYPE) -> str:
    reasons = set()
    for kind in KINDS:
        with pytest.raises(BadAudioError) as caught:
            split_parts(content_type, kind(body), 64)
        reasons.add(caught.value.reason)
    [reason] = reasons
    return str(reason)


def test_parts_are_cut_at_the_boundary() -> None:
    assert bodies(b"--b1\r\n\r\none\r\n--b1\r\nA: b\r\n\r\ntwo\r\n--b1--") == [b"one", b"two"]


def test_header_names_have_no_case_and_values_no_margin() -> None:
    [part] = split_parts(TYPE, b"--b1\r\nX-INDEX:  7 \r\ncontent-type:\r\n\r\none\r\n--b1--", 64)
    assert part.headers == {"x-index": "7", "content-type": ""}


def test_preamble_and_epilogue_are_dropped() -> None:
    assert bodies(b"hello\r\n--b1\r\n\r\none\r\n--b1--\r\n--b1\r\n\r\nno\r\n--b1--") == [b"one"]
    assert bodies(b"--b1x\r\n--b1\r\n\r\none\r\n--b1--bye") == [b"one"]


def test_blanks_behind_a_boundary_are_dropped() -> None:
    assert bodies(b"--b1 \t \r\n\r\none\r\n--b1 \r\n\r\ntwo\r\n--b1--") == [b"one", b"two"]
    body = b"--b1\r\nContent-Length: 3\r\n\r\none\r\n--b1 \r\n\r\ntwo\r\n--b1--"
    assert bodies(body) == [b"one", b"two"]


def test_a_length_lets_the_body_hold_the_boundary() -> None:
    inner = b"x\r\n--b1\r\n\r\ny"
    body = b"--b1\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner + b"\r\n--b1--"
    assert bodies(body) == [inner]


def test_what_only_begins_like_a_boundary_is_content() -> None:
    inner = b"\r\n--b1x\r\n--b\r\n-\r\r\n"
    assert bodies(b"--b1\r\n\r\n" + inner + b"\r\n--b1--") == [inner]


@pytest.mark.parametrize("size", [0, 1, 1_022, 1_024, 65_534, 65_536, 200_000])
def test_bodies_of_any_size_are_found(size: int) -> None:
    inner = b"\r\n--b" * (size // 5) + b"x" * (size % 5)
    assert bodies(b"--b1\r\n\r\n" + inner + b"\r\n--b1--") == [inner]


def test_an_empty_body_may_share_its_line_break() -> None:
    assert bodies(b"--b1\r\nA: b\r\n\r\n--b1\r\nA: b\r\n\r\n\r\n--b1--") == [b"", b""]


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/mixed; boundary="a b:1"',
        'multipart/mixed; charset=x; BOUNDARY = "a b:1"; q=1',
        'multipart/mixed; boundary="a\\ b:1"',
    ],
)
def test_a_boundary_may_be_quoted(content_type: str) -> None:
    assert bodies(b"--a b:1\r\n\r\none\r\n--a b:1--", content_type) == [b"one"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed",
        "multipart/mixed; boundary=",
        'multipart/mixed; boundary=""',
        "multipart/mixed; xboundary=b1",
        "multipart/mixed; boundary=ü",
        f"multipart/mixed; boundary={'x' * 71}",
    ],
)
def test_a_boundary_that_is_none_is_a_bad_header(content_type: str) -> None:
    assert refusal(b"--b1\r\n\r\none\r\n--b1--", content_type) == "header"


@pytest.mark.parametrize(
    "body",
    [
        b"--b1\r\n\r\none",
        b"--b1\r\n\r\none\r\n--b1",
        b"--b1\r\n\r\none\r\n--b1\r",
        b"--b1\r\n\r\none\r\n--b1-",
        b"--b1\r\n\r\none\r\n--b1\r\n",
        b"--b1\r\n\r\none\r\n--b1\r\nX-Index: 1\r\n",
        b"--b1\r\nContent-Length: 9\r\n\r\none",
        b"--b1\r\nContent-Length: 3\r\n\r\none\r\n--b",
        b"--b1\r\nContent-Length: 3\r\n\r\none\r\n--b1",
        b"--b1",
    ],
)
def test_an_end_too_early_is_cut(body: bytes) -> None:
    assert refusal(body) == "cut"


@pytest.mark.parametrize(
    "body",
    [
        b"--b1\r\nno header\r\n\r\none\r\n--b1--",
        b"--b1\r\n: x\r\n\r\none\r\n--b1--",
        b"--b1\r\nA: b\r\n folded: line\r\n\r\none\r\n--b1--",
        b"--b1\r\nX-Index: 1\r\nX-Index: 2\r\n\r\none\r\n--b1--",
        b"--b1\r\nContent-Length: 2\r\n\r\none\r\n--b1--",
        b"--b1\r\nContent-Length: -3\r\n\r\none\r\n--b1--",
        b"--b1\r\nContent-Length: \xb2\r\n\r\none\r\n--b1--",
        b"--b1\r\nContent-Length: 3\r\n\r\none\r\n--b1xx\r\n--b1--",
        b"--b1\r\nX: " + b"x" * 20_000 + b"\r\n\r\none\r\n--b1--",
    ],
)
def test_headers_that_are_none_are_refused(body: bytes) -> None:
    assert refusal(body) == "header"


@pytest.mark.parametrize("body", [b"hello", b"--b2\r\n\r\none\r\n--b2--", b"x--b1\r\n", b"--b1xx"])
def test_no_part_at_all_is_not_audio(body: bytes) -> None:
    assert refusal(body) == "not_audio"


def test_more_parts_than_allowed_are_refused() -> None:
    with pytest.raises(BadAudioError) as caught:
        split_parts(TYPE, b"--b1\r\n\r\n\r\n" * 3 + b"--b1--", 2)
    assert caught.value.reason == "count"


def test_an_end_at_once_has_no_parts() -> None:
    assert multipart.split_parts(TYPE, b"--b1--", 64) == []
