"""Requests are written as if each were the first one."""

from __future__ import annotations

import itertools

import pytest

from cosy_sync.errors import ConfigError
from cosy_sync.net.request_encoder import RequestEncoder
from cosy_sync.net.request_encoding import encode_request

START = "POST /batch HTTP/1.1\r\nHost: tts.example.com\r\n"
KEY, AGENT, LENGTH = ("Authorization", "Bearer k"), ("User-Agent", "mine"), ("Content-Length", "9")
HEADERS = [
    (),
    (KEY,),
    (KEY, ("X-Request-Id", "a-1")),
    (KEY, ("X-Request-Id", "a-2")),
    (KEY, ("X-Request-ID", "a-2")),
    (("Authorization", "Bearer other"), ("X-Request-Id", "a-3")),
    (KEY, AGENT),
    (KEY, ("User-Agent", "other")),
    (AGENT, ("X-Request-Id", "a-4")),
    (KEY, LENGTH),
    (LENGTH, ("X-Request-Id", "a-5")),
    (KEY, ("X", "é")),
    (KEY, ("X", "plain")),
    (("X-Odd", "\0"), ("X-Request-Id", "\0")),
]


@pytest.mark.parametrize("before", HEADERS)
def test_a_request_does_not_depend_on_those_before_it(before: tuple[tuple[str, str], ...]) -> None:
    for headers, body in itertools.product(HEADERS, (b"", b'{"texts":[]}')):
        encoder = RequestEncoder(START)
        for each in (before, headers, before, headers):
            assert encoder.encode(each, body) == encode_request(START, each, body)


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\rb", "中"])
def test_a_header_that_would_end_its_line_is_refused_after_a_good_one_too(value: str) -> None:
    encoder = RequestEncoder(START)
    encoder.encode((KEY, ("X", "good")), b"")
    for _ in range(2):
        with pytest.raises(ConfigError, match="headers"):
            encoder.encode((KEY, ("X", value)), b"")
    assert encoder.encode((KEY, ("X", "good")), b"").count(b"\r\n") == 7
