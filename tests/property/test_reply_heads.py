"""A head that is read without a parser is read as httptools reads it, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from cosy_sync.errors import CosyError
from cosy_sync.net import reply_parser
from cosy_sync.net.connection import Connection
from cosy_sync.net.exchange import exchange
from cosy_sync.net.exchange_limits import ExchangeLimits
from cosy_sync.net.reply_head import named, read_plain_head
from cosy_sync.net.route import Route

ROUTE = Route("127.0.0.1", 80, False, None)
REQUEST = b"%b / HTTP/1.1\r\nX-Request-Id: 0123456789ab-7\r\nContent-Length: 0\r\n\r\n"
LIMIT = 200
BODY = b"0123456789"

NAMES = [
    *(b"Content-Length ", b" Date", b"", b"X Y", b"X\tY", b"\xe9", b"X\x00", b"(X)", b"X\n"),
    b"!#$%&'*+-.^_`|~",
]
LENGTHS = [
    *(b"10", b"010", b"0010", b"+10", b"-10", b"1 0", b"1_0", b"0xa", b"10, 10", b"10,11", b"5"),
    *(b"0", b"00", b"11", b"200", b"201", b"", b"10 ", b" 10", b"\t10", b"10\t", b"9" * 30),
    *(b"0" * 20 + b"10", "１０".encode(), "١٠".encode(), b"1e1", b"10.0", b"10;x"),
]
VALUES = [
    *(b"a\tb", b"a\x00b", b"a\rb", b"a\nb", b"a\r\n b", b"\xe9", b"a  ", b"", b" ", b"\t"),
    *(b"a: b", b"\x7f", b'"a\\"b"', b"\x01"),
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b""]
COLONS = [b": ", b":", b":  ", b" : ", b":\t", b"", b"::"]
# Headers that decide where the reply ends, or what becomes of the connection.
DECIDING = [
    b"%b: %b\r\n" % pair
    for pair in itertools.product(
        (
            *(b"Connection", b"connection", b"Transfer-Encoding", b"Upgrade", b"Trailer"),
            *(b"Proxy-Connection", b"Keep-Alive", b"Content-Encoding", b"X-Request-Id"),
        ),
        (
            *(b"close", b"CLOSE", b"keep-alive, close", b"upgrade", b"Keep-Alive", b"x", b"gzip"),
            *(b"chunked", b"gzip, chunked", b"identity", b"h2c", b"0123456789AB-7"),
            b"0123456789ab-6",
        ),
    )
]
HEADERS = [
    *DECIDING,
    *(b"%b: a\r\n" % name for name in NAMES),
    *(b"X:%b\r\n" % value for value in VALUES),
    *(b"X%ba\r\n" % colon for colon in COLONS),
    *(b"X: a" + end for end in ENDS),
    *(b"Content-Length: %b\r\n" % length for length in LENGTHS),
]
LINES = [
    *(b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"http/1.1 200 OK"),
    *(b"HTTP/1.1  200 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 100 Continue"),
    *(b"HTTP/1.1 200\tOK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\xe9K", b"HTTP/1.1 204 No"),
    *(b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 O\rK", b" HTTP/1.1 200 OK", b"HTTP/1.1 304 No"),
    *(b"HTTP/1.1 200 OK X: y", b"HTTP/1.1 200 \x7f", b"HTTP/2 200 OK", b"HTTP/1.1 +200 OK"),
    *(b"\r\nHTTP/1.1 200 OK", b"HTTP/1.1 503 Busy", b"ICY 200 OK", b"HTTP/1.2 200 OK", b""),
]
BODIES = [b"", BODY[:4], BODY + b"more", BODY * 20, b"HTTP/1.1 200 OK\r\n\r\n"]
PLAIN = st.builds(
    lambda name, space, value: b"%b:%b%b\r\n" % (name, space, value),
    st.sampled_from([b"Date", b"X-Request-Id", b"Content-Type", b"Connection", b"Server", b"Date"]),
    st.sampled_from([b"", b" "]),
    st.sampled_from([b"a", b"a: b", b"keep-alive", b"0123456789ab-7", b"0123456789ab-6", b"a  b "]),
)
SIZES = [b"Content-Length:%b\r\n" % length for length in LENGTHS]


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    """Draw what a server may send: right, but for up to two places."""
    odd = draw(
        st.sets(st.sampled_from(["line", "end", "size", "header", "body", "byte"]), max_size=2)
    )
    headers = draw(st.lists(PLAIN, max_size=4))
    size = draw(st.sampled_from(SIZES)) if "size" in odd else b"Content-Length: 10\r\n"
    headers.insert(draw(st.integers(0, len(headers))), size)
    if "header" in odd:
        headers.insert(draw(st.integers(0, len(headers))), draw(st.sampled_from(HEADERS)))
    line = draw(st.sampled_from(LINES)) if "line" in odd else b"HTTP/1.1 200 OK"
    end = st.sampled_from(ENDS) if "end" in odd else st.just(b"\r\n")
    body = draw(st.sampled_from(BODIES)) if "body" in odd else BODY
    wire = line + draw(end) + b"".join(headers) + draw(end) + body
    if "byte" in odd:
        at = draw(st.integers(0, len(wire)))
        wire = wire[:at] + draw(st.binary(max_size=2)) + wire[at + draw(st.integers(0, 3)) :]
    return wire


def read(wire: bytes, method: bytes) -> tuple[Any, bytes]:
    """Return what becomes of a reply, and what is left of it on the connection."""
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        near.setblocking(False)
        far.sendall(wire)
        far.shutdown(socket.SHUT_WR)
        limits = ExchangeLimits(5.0, 5.0, time.monotonic() + 5.0, LIMIT, max_refusal=None)
        got: Any
        try:
            reply = exchange(Connection(ROUTE, near), REQUEST % method, limits, reused=False)
        except CosyError as error:
            got = type(error), str(error), getattr(error, "partial", b"")
        else:
            headers = [(name.lower(), value) for name, value in reply.pairs()]
            same = {"first_byte": 0.0, "left": 0.0, "body": bytes(reply.body), "headers": headers}
            got = dataclasses.replace(reply, **same)
        return got, near.recv(1 << 16)


@settings(deadline=None, max_examples=400)
@given(wires(), st.sampled_from([b"POST", b"POST", b"HEAD", b"CONNECT"]))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", b"POST")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 10\r\n\r\n0123456789", b"POST")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789more", b"POST")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX: a\r\n b\r\n\r\n0123456789", b"POST")
@example(b"HTTP/1.1 200 OK\nContent-Length: 10\n\n0123456789", b"POST")
@example(
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"POST"
)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-Request-Id: 0123456789ab-6\r\n\r\n", b"POST")
def test_both_readers_make_the_same_of_every_reply(wire: bytes, method: bytes) -> None:
    event(f"plain: {read_plain_head(wire) is not None}")
    got = read(wire, method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reply_parser, "read_plain_head", lambda _: None)
        assert got == read(wire, method)


def one_oddity() -> Iterator[bytes]:
    """Yield replies that are right, but for one place."""
    size, end = b"Content-Length: 10\r\n", b"\r\n"
    for line in LINES:
        yield line + end + size + end + BODY
    for odd in ENDS:
        yield b"HTTP/1.1 200 OK" + odd + size + end + BODY
        yield b"HTTP/1.1 200 OK\r\n" + size + odd + BODY
    for header in HEADERS:
        yield b"HTTP/1.1 200 OK\r\n" + header + size + end + BODY
        yield b"HTTP/1.1 200 OK\r\n" + size + header + end + BODY
    for length in SIZES:
        yield b"HTTP/1.1 200 OK\r\n" + length + end + BODY
    for body in BODIES:
        yield b"HTTP/1.1 200 OK\r\n" + size + end + body


def test_both_readers_make_the_same_of_every_single_oddity(monkeypatch: pytest.MonkeyPatch) -> None:
    wires = list(one_oddity())
    got = [read(wire, b"POST") for wire in wires]
    monkeypatch.setattr(reply_parser, "read_plain_head", lambda _: None)
    for wire, plain in zip(wires, got, strict=True):
        assert plain == read(wire, b"POST"), wire


@pytest.mark.parametrize("end", [b"", b"Connection: keep-alive\r\n", b"Date: today\r\nX: a: b\r\n"])
def test_a_plain_head_is_read_without_a_parser(end: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n" + end + b"\r\n"
    found = read_plain_head(head + BODY)
    assert found is not None
    names, length, start = found
    lines = head.split(b"\r\n")[1:-2]
    assert names == named([(name, value) for name, _, value in (x.partition(b": ") for x in lines)])
    assert (length, start) == (10, len(head))


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: today\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_whatever_is_not_plain_is_left_to_the_parser(head: bytes) -> None:
    assert read_plain_head(head + BODY) is None
