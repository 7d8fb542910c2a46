"""Whatever bytes a server sends end as a reply or as an error of ours, within the deadline."""

from __future__ import annotations

import contextlib
import socket
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosy_sync.errors import BadAudioError, CosyError, CutError, TransportError
from cosy_sync.net.connection import Connection
from cosy_sync.net.exchange import RawReply, exchange
from cosy_sync.net.exchange_limits import ExchangeLimits, StaleConnection
from cosy_sync.net.route import Route

ROUTE = Route("127.0.0.1", 80, False, None)
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
LIMIT = 4096


def answered(
    pieces: list[bytes], *, close: bool = True, reused: bool = False, seconds: float = 5.0
) -> tuple[RawReply | Exception, bool]:
    """Return what becomes of these bytes, and whether the connection was left quiet."""
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        near.setblocking(False)
        connection = Connection(ROUTE, near)
        for piece in pieces:
            far.sendall(piece)
        if close:
            far.shutdown(socket.SHUT_WR)
        limits = ExchangeLimits(seconds, seconds, time.monotonic() + seconds, LIMIT)
        try:
            return exchange(connection, REQUEST, limits, reused=reused), connection.is_quiet()
        except (CosyError, StaleConnection) as error:
            return error, False


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a right reply that leaves its connection open, and its body."""
    body = draw(st.binary(max_size=300))
    head = b"HTTP/1.1 200 OK\r\nX-Id: 7\r\n"
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), body
    sizes = draw(st.lists(st.integers(1, 100), max_size=5))
    chunks, rest = [], body
    for size in [*sizes, len(body)]:
        chunk, rest = rest[:size], rest[size:]
        if chunk:
            chunks.append(b"%x;x=y\r\n%b\r\n" % (len(chunk), chunk))
    last = b"0\r\nX-Trailer: 1\r\n\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + last, body


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(replies())[0])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(wire) - 1)) if wire else 0
        action = draw(st.sampled_from(["replace", "delete", "insert", "double", "cut"]))
        if action == "replace" and wire:
            wire[at] = draw(st.integers(0, 255))
        elif action == "delete":
            del wire[at : at + draw(st.integers(1, 20))]
        elif action == "insert":
            wire[at:at] = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
        elif action == "double":
            wire[at:at] = wire[at : at + draw(st.integers(1, 40))]
        else:
            del wire[at:]
    return bytes(wire)


PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"ffffffff\r\n"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 ", b"Content-Length: 99999999\r\n", b"\x00", b": "),
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=500) | mutated() | st.lists(st.sampled_from(PIECES)).map(b"".join))
@example(b"HTTP/1.1 200 OK\r\n\r\n")
@example(b"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
def test_any_bytes_end_as_a_reply_or_as_a_transport_error(wire: bytes) -> None:
    got, _ = answered([wire])
    assert isinstance(got, (RawReply, TransportError, BadAudioError))
    if isinstance(got, RawReply):
        assert 200 <= got.status <= 999
        assert len(got.body) <= LIMIT


NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"


@settings(deadline=None, max_examples=150)
@given(mutated(), st.booleans())
def test_a_connection_that_counts_as_reusable_gives_the_next_reply(wire: bytes, tls: bool) -> None:
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        near.setblocking(False)
        connection = Connection(ROUTE, near)
        connection.tls = tls  # reads first and waits afterwards
        far.sendall(wire)
        for number in range(2):
            limits = ExchangeLimits(0.02, 0.02, time.monotonic() + 0.02, LIMIT)
            try:
                got = exchange(connection, REQUEST, limits, reused=False)
            except (TransportError, BadAudioError):
                assert number == 0
                return
            if not got.reusable or not connection.is_quiet():
                return
            assert number == 0 or bytes(got.body) == b"right"
            far.sendall(NEXT)


@settings(deadline=None, max_examples=200)
@given(replies(), st.data())
def test_right_replies_are_read_however_they_are_cut_up(
    reply: tuple[bytes, bytes], data: st.DataObject
) -> None:
    wire, body = reply
    at = data.draw(st.integers(0, len(wire)))
    got, quiet = answered([wire[:at], wire[at:]], close=False)
    assert isinstance(got, RawReply)
    assert bytes(got.body) == body
    assert got.reusable and quiet


@settings(deadline=None, max_examples=200)
@given(replies(), st.data())
def test_a_reply_that_is_cut_anywhere_is_a_cut_with_the_start_of_its_body(
    reply: tuple[bytes, bytes], data: st.DataObject
) -> None:
    wire, body = reply
    got, _ = answered([wire[: data.draw(st.integers(0, len(wire) - 1))]])
    assert isinstance(got, CutError)
    assert body.startswith(got.partial)


@settings(deadline=None, max_examples=200)
@given(replies(), st.binary(min_size=1, max_size=80))
def test_whatever_follows_a_reply_spoils_the_connection_and_not_the_reply(
    reply: tuple[bytes, bytes], rest: bytes
) -> None:
    wire, body = reply
    got, quiet = answered([wire + rest], close=False)
    assert isinstance(got, RawReply)
    assert bytes(got.body) == body
    assert not (got.reusable and quiet) or not rest.strip(b"\r\n")


def test_the_end_before_the_first_byte_is_stale_only_on_a_reused_connection() -> None:
    assert isinstance(answered([], reused=True)[0], StaleConnection)
    assert isinstance(answered([], reused=False)[0], CutError)
    # What was there before the request was sent belongs to nobody.
    assert isinstance(answered([b"H"], reused=True)[0], StaleConnection)
