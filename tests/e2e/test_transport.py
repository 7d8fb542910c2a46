"""HTTP/1.1 over real sockets: replies, right and wrong, whole and broken."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from scripted import (
    CHUNKED,
    FINISH,
    HEAD,
    HOLD,
    INTERIM,
    MANY,
    OK,
    READ,
    RESET,
    Peer,
    Scripted,
    eventually,
    post,
    reply,
)

from cosy_sync.config import PoolConfig, TimeoutConfig
from cosy_sync.errors import (
    BadAudioError,
    ClosedError,
    CosyError,
    CutError,
    ReplyTimeout,
    ShedError,
    TransportError,
)
from cosy_sync.messages import Request
from cosy_sync.net import PoolTransport, Sender
from cosy_sync.net.connection import Connection
from cosy_sync.net.pool import ConnectionPool
from cosy_sync.net.route import Route
from cosy_sync.version import VERSION

Make = Callable[..., Sender]

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("each_way_of_waiting")]

# -- replies that are right -----------------------------------------------------------------------

WITH_DATE = CHUNKED.replace(b"\r\n\r\n", b"\r\nDate: today\r\n\r\n")
GOOD: dict[str, tuple[bytes, int, bytes]] = {
    "content-length": (reply(b"hello"), 200, b"hello"),
    "empty": (reply(b""), 200, b""),
    "binary": (reply(bytes(range(256))), 200, bytes(range(256))),
    "lower case": (b"HTTP/1.1 200 ok\r\ncontent-length:2\r\n\r\nhi", 200, b"hi"),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "chunked": (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
    "chunk extensions": (CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n', 200, b"abc"),
    "upper-case hex": (CHUNKED + b"00A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789"),
    "trailers": (WITH_DATE + b"2\r\nhi\r\n0\r\nContent-Encoding: gzip\r\n\r\n", 200, b"hi"),
    "empty chunked": (CHUNKED + b"0\r\n\r\n", 200, b""),
    "interim replies": (INTERIM + reply(b"hello"), 200, b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
    # Apache offers HTTP/2 so.
    "upgrade offered": (reply(b"hi", "Upgrade: h2,h2c", "Connection: Upgrade"), 200, b"hi"),
    "refusal": (reply(b"busy", "Retry-After: 3", status="503 Busy"), 503, b"busy"),
}
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\nhello"
good = pytest.mark.parametrize("name", GOOD)


@good
def test_a_right_reply_is_read_and_its_connection_reused(name: str, sender: Sender) -> None:
    wire, status, body = GOOD[name]
    with Scripted([READ, wire, READ, wire, READ, wire, HOLD]) as server:
        for _ in range(3):
            got = post(sender, server)
            assert (got.status, bytes(got.body)) == (status, body)
        assert [len(requests) for requests in server.requests] == [3]
        assert sender.connections() == (1, 1)


@good
def test_a_reply_may_be_split_anywhere(name: str, sender: Sender) -> None:
    wire, status, body = GOOD[name]
    splits = range(1, min(len(wire), 120))
    script = [step for at in splits for step in (READ, wire[:at], 0.0005, wire[at:])]
    with Scripted([*script, HOLD]) as server:
        for at in splits:
            got = post(sender, server)
            assert (at, got.status, bytes(got.body)) == (at, status, body)
        assert len(server.peers) == 1


@good
def test_a_reply_may_come_byte_by_byte(name: str, sender: Sender) -> None:
    wire, status, body = GOOD[name]
    with Scripted([READ, lambda peer: peer.drip(wire, 0.0002), HOLD]) as server:
        got = post(sender, server)
        assert (got.status, bytes(got.body)) == (status, body)


def test_the_request_is_exactly_what_http_asks_for(sender: Sender) -> None:
    with Scripted([READ, reply(), HOLD]) as server:
        post(sender, server.url + "?a=b%20c", b"0123456789")
        expected = (
            b"POST /batch?a=b%%20c HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Content-Type: application/json\r\nUser-Agent: cosy-sync/%b\r\n"
            b"Content-Length: 10\r\n\r\n0123456789" % (server.port, VERSION.encode())
        )
        assert server.requests == [[expected]]


def test_a_name_of_its_own_stands_in_place_of_ours(sender: Sender) -> None:
    with Scripted([READ, reply(), HOLD]) as server:
        request = Request(server.url, (("user-agent", "mine/1"),), b"")
        sender.post(request, 10.0, MANY)
        [[sent]] = server.requests
        assert sent.lower().count(b"user-agent:") == 1 and b"user-agent: mine/1\r\n" in sent


LENGTHS = {
    "beside chunks": (
        CHUNKED[:-2] + b"Content-Length: 99\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        False,
    ),
    "in a list": (OK + b"Content-Length: 5, 5\r\n\r\nhello", True),
    "twice": (OK + b"Content-Length: 5\r\nA: b\r\ncontent-length: 5\r\n\r\nhello", True),
    "twice, by bytes": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", True),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_length_that_is_said_too_often_is_read_as_others_do(sender: Sender, name: str) -> None:
    data, reused = LENGTHS[name]
    steps = [data] if "bytes" not in name else [lambda peer: peer.drip(data)]
    with Scripted([READ, *steps, HOLD]) as server:
        assert bytes(post(sender, server).body) == b"hello"
        assert sender.connections() == ((1, 1) if reused else (0, 0))


@pytest.mark.parametrize(
    "head", [b"Content-Length: 5, 6\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n"]
)
def test_two_different_lengths_are_refused(sender: Sender, head: bytes) -> None:
    with (
        Scripted([READ, OK + head + b"\r\nhello!", HOLD]) as server,
        pytest.raises(TransportError, match="not HTTP"),
    ):
        post(sender, server)


def test_without_a_length_the_end_of_the_connection_ends_the_reply(sender: Sender) -> None:
    with Scripted([READ, UNTIL_CLOSE, 0.01, b" world"]) as server:
        assert bytes(post(sender, server).body) == b"hello world"
        assert sender.connections() == (0, 0)


CLOSING: dict[str, bytes] = {
    "connection: close": reply(b"hello", "Connection: close"),
    "close in a list": reply(b"hello", "Connection: te, Close"),
    "chunked and close": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close"
    b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "http/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("name", CLOSING)
def test_a_server_that_will_close_is_not_asked_again(name: str, sender: Sender) -> None:
    with Scripted([READ, CLOSING[name], HOLD]) as server:
        for _ in range(2):
            assert bytes(post(sender, server).body) == b"hello"
        assert sender.connections() == (0, 0)
        assert [len(requests) for requests in server.requests] == [1, 1]


def test_http_1_0_with_keep_alive_is_reused(sender: Sender) -> None:
    wire = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    with Scripted([READ, wire, READ, wire, HOLD]) as server:
        assert [bytes(post(sender, server).body) for _ in range(2)] == [b"hi", b"hi"]
        assert len(server.peers) == 1


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_large_replies_come_whole(size: int, sender: Sender) -> None:
    body = bytes(range(250)) * (size // 250)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (body[:7], body[7:999], body[999:]))
    replies = [reply(body), CHUNKED + chunks + b"0\r\n\r\n"]
    with Scripted([READ, replies[0], READ, replies[1], HOLD]) as server:
        for _ in replies:
            assert bytes(post(sender, server).body) == body
        assert len(server.peers) == 1


def test_a_header_that_comes_twice_is_a_list(sender: Sender) -> None:
    with Scripted([READ, reply(b"", "Via: a", "via: b"), HOLD]) as server:
        assert post(sender, server).headers["via"] == "a, b"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello" * 99, mtime=0)),
        ("GZIP", gzip.compress(b"hello" * 99, mtime=0)),
        ("deflate", zlib.compress(b"hello" * 99)),
    ],
)
def test_compressed_replies_are_inflated(encoding: str, packed: bytes, sender: Sender) -> None:
    coded = f"Content-Encoding: {encoding}"
    chunked = CHUNKED.replace(b"\r\n\r\n", b"\r\n" + coded.encode() + b"\r\n\r\n")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    with Scripted([READ, reply(packed, coded), READ, chunked + chunks, HOLD]) as server:
        for _ in range(2):
            got = post(sender, server)
            assert (bytes(got.body), got.received) == (b"hello" * 99, len(packed))


def test_an_error_whose_body_cannot_be_inflated_keeps_its_status(sender: Sender) -> None:
    wire = reply(b"not gzip", "Content-Encoding: gzip", status="503 Busy")
    with Scripted([READ, wire, HOLD]) as server:
        got = post(sender, server)
        assert (got.status, bytes(got.body)) == (503, b"")


def test_a_head_request_has_a_reply_without_its_body() -> None:
    transport = PoolTransport(PoolConfig(), TimeoutConfig(first_byte=10, idle=10), MANY)
    client = httpx.Client(transport=transport, trust_env=False)
    with Scripted([READ, OK + b"Content-Length: 5\r\n\r\n", HOLD]) as server, client:
        assert client.head(server.url).headers["content-length"] == "5"


def test_a_users_own_httpx_client_can_ride_on_the_transport() -> None:
    transport = PoolTransport(PoolConfig(), TimeoutConfig(), MANY)
    wire = reply(gzip.compress(b"hello"), "Content-Encoding: gzip")
    with Scripted([READ, wire, READ, wire, HOLD]) as server:
        with httpx.Client(transport=transport, trust_env=False) as client:
            got = client.get(server.url, params={"q": "1"}, headers={"Host": "tts.example.com"})
            assert got.text == "hello"
            assert client.post(server.url, content=iter([b"a", b"b"])).text == "hello"
        first, second = server.requests[0]
        assert first.startswith(b"GET /batch?q=1 HTTP/1.1\r\nHost: tts.example.com\r\n")
        assert first.lower().count(b"host:") == 1
        assert second.endswith(b"\r\n\r\nab") and b"chunked" not in second


def test_room_is_made_once_before_the_body_is_read(sender: Sender) -> None:
    sizes: list[int] = []
    with Scripted([READ, reply(b"hello"), READ, CHUNKED, b"0\r\n\r\n", HOLD]) as server:
        request = Request(server.url, (), b"")
        sender.post(request, 15, MANY, sizes.append)
        sender.post(request, 15, MANY, sizes.append)
    assert sizes == [5, 0]


def test_no_room_ends_the_request_and_its_connection(sender: Sender) -> None:
    def refuse(size: int) -> None:
        raise ShedError("no room")

    with Scripted([READ, reply(b"hello"), HOLD]) as server:
        with pytest.raises(ShedError):
            sender.post(Request(server.url, (), b""), 15, MANY, refuse)
        assert sender.connections() == (0, 0)


# -- replies that are wrong -----------------------------------------------------------------------

BAD: dict[str, bytes] = {
    "garbage": b"\x00\x01\x02\x03 rubbish\r\n\r\n",
    "other protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "html": b"<html>Bad gateway</html>\r\n\r\n",
    "version 9": b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "switching without a word": b"HTTP/1.1 101 Switching\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "header without colon": OK + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "space before colon": OK + b"A : b\r\nContent-Length: 0\r\n\r\n",
    "folded header": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "nul in a header": OK + b"A: \x00\r\nContent-Length: 0\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "signed length": OK + b"Content-Length: +1\r\n\r\nx",
    "fractional length": OK + b"Content-Length: 1.5\r\n\r\nx",
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "huge lengths": OK + b"Content-Length: %s, %s\r\n\r\n" % (b"9" * 30, b"9" * 30),
    "conflicting lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "unknown coding": OK + b"Transfer-Encoding: identity\r\n\r\nhi",
    "zipped and chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size no number": CHUNKED + b"xyz\r\nhi\r\n0\r\n\r\n",
    "chunk size negative": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "chunk size missing": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "chunk size huge": CHUNKED + b"fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "chunk with bare line feeds": CHUNKED + b"2\nhi\n0\n\n",
    "header bomb": OK + b"A: " + b"b" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "bomb of many headers": OK + b"A: b\r\n" * 40_000 + b"Content-Length: 0\r\n\r\n",
    "bomb of interim replies": b"HTTP/1.1 100 Continue\r\n\r\n" * 8_000 + reply(),
    "bomb of empty lines": b"\r\n" * 100_000 + reply(),
    "trailer bomb": CHUNKED + b"2\r\nhi\r\n0\r\n" + b"A: b\r\n" * 40_000 + b"\r\n",
    "extension bomb": CHUNKED + b"2;" + b"a" * 200_000 + b"\r\nhi\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_reply_is_an_error_at_once_and_its_connection_dropped(
    name: str, sender: Sender
) -> None:
    with Scripted([READ, BAD[name], HOLD]) as server:
        with pytest.raises(TransportError) as caught:
            post(sender, server)
        assert type(caught.value) is TransportError
        assert sender.connections() == (0, 0)


RUBBISH: dict[str, bytes] = {
    "another reply": reply(b"WRONG"),
    "half a reply": b"HTTP/1.1 200 OK\r\nContent-Le",
    "one letter": b"H",
    "noise": b"\x00\xffrubbish",
}


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", ["content-length", "chunked", "no content", "empty"])
def test_what_follows_a_reply_is_never_read_as_the_next(
    name: str, rubbish: str, sender: Sender
) -> None:
    wire, status, body = GOOD[name]
    right = [READ, reply(b"right"), HOLD]
    with Scripted([READ, wire + RUBBISH[rubbish], HOLD], right) as server:
        got = post(sender, server)
        assert (got.status, bytes(got.body)) == (status, body)
        assert bytes(post(sender, server).body) == b"right"
        assert [len(requests) for requests in server.requests] == [1, 1]


LAST: dict[str, tuple[bytes, int, bytes]] = {
    "another reply after close": (
        reply(b"hello", "Connection: close") + reply(b"WRONG"),
        200,
        b"hello",
    ),
    "another reply after HTTP/1.0": (
        reply(b"hello").replace(b"1.1", b"1.0") + reply(b"WRONG"),
        200,
        b"hello",
    ),
    "no content with a body": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nWRONG",
        204,
        b"",
    ),
    "not modified with a body": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nWRONG",
        304,
        b"",
    ),
    "no content in chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nWRONG\r\n0\r\n\r\n",
        204,
        b"",
    ),
}


@pytest.mark.parametrize("name", LAST)
def test_after_a_reply_that_was_the_last_nothing_is_read_and_nothing_reused(
    name: str, sender: Sender
) -> None:
    wire, status, body = LAST[name]
    with Scripted([READ, wire, HOLD], [READ, reply(b"right"), HOLD]) as server:
        got = post(sender, server)
        assert (got.status, bytes(got.body)) == (status, body)
        assert sender.connections() == (0, 0)
        assert bytes(post(sender, server).body) == b"right"


@pytest.mark.parametrize("size", [5, 300_000])
def test_rubbish_that_comes_later_spoils_the_connection(size: int, sender: Sender) -> None:
    told = threading.Event()

    def wait_and_talk(peer: Peer) -> None:
        told.wait(10)
        peer.sock.sendall(reply(b"WRONG"))
        peer.requests.append(b"said")

    first = [READ, reply(b"a" * size), wait_and_talk, HOLD]
    with Scripted(first, [READ, reply(b"right"), HOLD]) as server:
        assert len(post(sender, server).body) == size
        told.set()
        assert eventually(lambda: b"said" in server.requests[0])
        assert bytes(post(sender, server).body) == b"right"
        assert len(server.peers) == 2


# -- early replies --------------------------------------------------------------------------------

LARGE = b"x" * 5_000_000


def test_an_early_refusal_is_seen_though_nobody_reads_the_request(sender: Sender) -> None:
    with Scripted([HEAD, reply(status="413 Large"), HOLD]) as server:
        assert post(sender, server, LARGE).status == 413
        assert sender.connections() == (0, 0)


def test_an_early_refusal_is_seen_when_the_server_half_closes(sender: Sender) -> None:
    with Scripted([HEAD, reply(status="413 Large"), FINISH]) as server:
        assert post(sender, server, LARGE).status == 413


def test_an_early_refusal_lost_to_a_reset_is_a_cut(sender: Sender) -> None:
    # Whether the reply outlives the reset that follows it, TCP does not promise.
    with Scripted([HEAD, reply(status="413 Large", body=b"")]) as server:
        with contextlib.suppress(CutError):
            assert post(sender, server, LARGE).status == 413
        assert sender.connections() == (0, 0)
        assert len(server.peers) == 1


def test_an_interim_reply_does_not_end_the_sending(sender: Sender) -> None:
    with Scripted([INTERIM, READ, reply(b"done"), HOLD]) as server:
        assert bytes(post(sender, server, LARGE).body) == b"done"
        assert server.requests[0][0].endswith(LARGE)
        assert sender.connections() == (1, 1)


def test_request_and_reply_may_both_be_large_and_simultaneous(sender: Sender) -> None:
    # The server reads nothing until all of its reply is taken: whoever only sends, hangs.
    with Scripted([reply(LARGE), READ, HOLD]) as server:
        assert len(post(sender, server, LARGE).body) == len(LARGE)


def test_a_slow_reader_gets_a_large_request_whole(sender: Sender) -> None:
    with Scripted([0.1, READ, reply(b"done"), READ, reply(b"done"), HOLD]) as server:
        for _ in range(2):
            assert bytes(post(sender, server, LARGE).body) == b"done"
        assert [len(requests) for requests in server.requests] == [2]


def test_a_server_that_takes_nothing_is_a_timeout(make: Make) -> None:
    sender = make(TimeoutConfig(idle=0.2))
    with Scripted([HOLD]) as server:
        with pytest.raises(ReplyTimeout) as caught:
            post(sender, server, LARGE)
        assert caught.value.phase == "send"


# -- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize("end", [RESET, 0.0], ids=["reset", "close"])
def test_a_stale_connection_is_replaced_once(
    end: Any, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)
    with Scripted([READ, reply(b"one"), end], [READ, reply(b"two"), HOLD]) as server:
        assert bytes(post(sender, server).body) == b"one"
        assert bytes(post(sender, server, b"again").body) == b"two"
        assert [len(requests) for requests in server.requests] == [1, 1]
        assert sender.connections() == (1, 1)


@pytest.mark.parametrize("end", [RESET, 0.0], ids=["reset", "close"])
def test_a_reused_connection_that_dies_on_the_request_is_replaced_once(
    end: Any, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)
    with Scripted([READ, reply(b"one"), READ, end], [READ, end], [HOLD]) as server:
        assert bytes(post(sender, server).body) == b"one"
        with pytest.raises(CutError):
            post(sender, server)
        assert [len(requests) for requests in server.requests] == [2, 1]


def test_a_reused_connection_that_dies_later_had_taken_the_request_up(sender: Sender) -> None:
    with Scripted([READ, reply(), READ, 0.1, RESET]) as server:
        post(sender, server)
        with pytest.raises(CutError):
            post(sender, server)
        assert [len(requests) for requests in server.requests] == [2]


@pytest.mark.parametrize("end", [RESET, 0.0], ids=["reset", "close"])
def test_a_fresh_connection_that_dies_is_a_cut_and_not_repeated(end: Any, sender: Sender) -> None:
    with Scripted([READ, end]) as server:
        with pytest.raises(CutError) as caught:
            post(sender, server)
        assert caught.value.retryable and caught.value.partial == b""
        assert [len(requests) for requests in server.requests] == [1]
        assert sender.connections() == (0, 0)


CUTS: dict[str, tuple[bytes, bytes]] = {
    "head": (b"HTTP/1.1 200 OK\r\nContent-Le", b""),
    "after the head": (OK + b"Content-Length: 9\r\n\r\n", b""),
    "sized": (OK + b"Content-Length: 9\r\n\r\nhello", b"hello"),
    "large": (OK + b"Content-Length: 900000\r\n\r\n" + b"a" * 300_000, b"a" * 300_000),
    "chunk": (CHUNKED + b"9\r\nhello", b"hello"),
    "between chunks": (CHUNKED + b"5\r\nhello\r\n", b"hello"),
    "last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"hello"),
}


@pytest.mark.parametrize("end", [RESET, 0.0], ids=["reset", "close"])
@pytest.mark.parametrize("name", CUTS)
def test_a_cut_carries_what_came(name: str, end: Any, sender: Sender) -> None:
    wire, partial = CUTS[name]
    with Scripted([READ, wire, 0.1, end]) as server:
        with pytest.raises(CutError) as caught:
            post(sender, server)
        assert caught.value.partial == partial
        assert sender.connections() == (0, 0)
        assert len(server.peers) == 1


def test_a_cut_in_the_middle_on_a_reused_connection_is_not_repeated(sender: Sender) -> None:
    with Scripted([READ, reply(), READ, b"HTTP/1.1 200"]) as server:
        post(sender, server)
        with pytest.raises(CutError):
            post(sender, server)
        assert [len(requests) for requests in server.requests] == [2]


def test_a_reset_cuts_a_reply_without_a_length(sender: Sender) -> None:
    with Scripted([READ, UNTIL_CLOSE, 0.1, RESET]) as server:
        with pytest.raises(CutError) as caught:
            post(sender, server)
        assert caught.value.partial == b"hello"


# -- sizes ----------------------------------------------------------------------------------------


def test_a_reply_that_announces_too_much_is_refused_before_it_is_read(sender: Sender) -> None:
    with Scripted([READ, OK + b"Content-Length: 9999999999999\r\n\r\n", HOLD]) as server:
        with pytest.raises(BadAudioError) as caught:
            post(sender, server, max_bytes=1000)
        assert caught.value.reason == "too_large" and not caught.value.retryable
        assert sender.connections() == (0, 0)


@pytest.mark.parametrize("head", [CHUNKED, OK + b"\r\n"], ids=["chunked", "until close"])
def test_a_reply_that_grows_too_large_is_refused_while_it_is_read(
    head: bytes, sender: Sender
) -> None:
    def flood(peer: Peer) -> None:
        for _ in itertools.count():
            peer.sock.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")

    with Scripted([READ, head, flood]) as server:
        with pytest.raises(BadAudioError) as caught:
            post(sender, server, max_bytes=100_000)
        assert caught.value.reason == "too_large"
        assert sender.connections() == (0, 0)


def test_a_gzip_bomb_is_refused_while_it_is_inflated(sender: Sender) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with Scripted([READ, reply(bomb, "Content-Encoding: gzip"), HOLD]) as server:
        with pytest.raises(BadAudioError) as caught:
            post(sender, server, max_bytes=1_000_000)
        assert caught.value.reason == "too_large"


def test_a_reply_of_exactly_the_limit_is_accepted(sender: Sender) -> None:
    with Scripted([READ, reply(b"a" * 1000), HOLD]) as server:
        assert len(post(sender, server, max_bytes=1000).body) == 1000


# -- a second sending, and replies of others ------------------------------------------------------


def test_the_second_sending_is_asked_for_with_what_ended_the_first(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)
    asked: list[CosyError] = []
    with Scripted([READ, reply(), READ], [READ, reply(b"two"), HOLD]) as server:
        for _ in range(2):
            got = sender.post(Request(server.url, (), b"", again=asked.append), 10.0, MANY)
    assert bytes(got.body) == b"two"
    assert [type(error) for error in asked] == [CutError]


def test_where_it_is_refused_nothing_is_sent_again(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)

    def refuse(_: CosyError) -> None:
        raise ClosedError("no")

    with Scripted([READ, reply(), READ]) as server:
        post(sender, server)
        with pytest.raises(ClosedError):
            sender.post(Request(server.url, (), b"", again=refuse), 10.0, MANY)
        assert [len(requests) for requests in server.requests] == [2]
    assert sender.connections() == (0, 0)


def test_a_connection_that_was_dead_before_sending_is_replaced_without_asking(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It dies, or says something, between being taken out of the pool and the look before sending.
    real = ConnectionPool.pop

    def pop(self: ConnectionPool, route: Route, now: float) -> Connection | None:
        connection = real(self, route, now)
        assert connection is None or connection.wait(now + 10.0)
        return connection

    monkeypatch.setattr(ConnectionPool, "pop", pop)
    for end in ([RESET], [reply(b"WRONG"), HOLD]):
        asked: list[CosyError] = []
        with Scripted([READ, reply(), 0.05, *end], [READ, reply(b"two"), HOLD]) as server:
            post(sender, server)
            got = sender.post(Request(server.url, (), b"", again=asked.append), 10.0, MANY)
            assert bytes(got.body) == b"two" and not asked
            assert [len(requests) for requests in server.requests] == [1, 1]


def test_an_idle_connection_that_lives_is_used_before_a_new_one_whatever_died_above_it(
    sender: Sender,
) -> None:
    assert sender._transport is not None
    pool = sender._transport.connections
    with Scripted([READ, reply(b"alive"), HOLD], [0.1, RESET], [0.1, RESET]) as server:
        route = sender._transport.route(httpx.URL(server.url))
        opened = [pool.open(route, time.monotonic() + 10.0) for _ in range(3)]
        for connection in opened:
            pool.give_back(connection)
        assert opened[1].wait(time.monotonic() + 10.0) and opened[2].wait(time.monotonic() + 10.0)
        assert post(sender, server).body == b"alive"
        assert sender.connections() == (1, 1)


ID = "0123456789ab-7"


@pytest.mark.parametrize(
    ("echo", "misplaced"),
    [
        (ID, False),
        (ID.upper(), False),
        ("0123456789ab-6", True),
        ("0123456789ab-71", True),
        ("ba9876543210-6", False),  # another process's, or the service's own
        ("0123456789ab-6-1", False),
        ("4b5c1a4e-7a0e-4f2a-9d53-6", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "503 Busy"])
def test_a_reply_that_names_another_request_of_ours_is_refused_and_its_connection_dropped(
    echo: str, misplaced: bool, status: str, sender: Sender
) -> None:
    wire = reply(b"hello", f"X-Request-ID: {echo}", status=status)
    with Scripted([READ, wire, HOLD]) as server:
        request = Request(server.url, (("X-Request-Id", ID),), b"")
        if misplaced:
            with pytest.raises(BadAudioError) as caught:
                sender.post(request, 10.0, MANY)
            assert caught.value.reason == "misplaced" and caught.value.retryable
            assert sender.connections() == (0, 0)
        else:
            assert bytes(sender.post(request, 10.0, MANY).body) == b"hello"
            assert sender.connections() == (1, 1)
