"""Time, connections kept for reuse, and proxies, over real sockets."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted import (
    CHUNKED,
    HOLD,
    INTERIM,
    OK,
    READ,
    Peer,
    Scripted,
    eventually,
    post,
    reply,
)

from cosy_sync.config import TimeoutConfig
from cosy_sync.errors import (
    ClosedError,
    ConfigError,
    ConnectError,
    CosyError,
    ReplyTimeout,
    ShedError,
)
from cosy_sync.messages import Reply
from cosy_sync.net import Sender

Make = Callable[..., Sender]

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("each_way_of_waiting")]
# A forked child's poller is its own, and knows nothing of these connections.
IN_A_CHILD = pytest.mark.parametrize("each_way_of_waiting", ["each thread waits"], indirect=True)

# -- time -----------------------------------------------------------------------------------------


def test_a_silent_server_is_left_at_the_first_byte_limit(make: Make) -> None:
    sender = make(TimeoutConfig(first_byte=0.1))
    with Scripted([READ, HOLD]) as server:
        with pytest.raises(ReplyTimeout) as caught:
            post(sender, server)
        assert caught.value.phase == "first byte"
        assert sender.connections() == (0, 0)
        assert len(server.peers) == 1


def test_a_silent_server_is_left_at_the_deadline(sender: Sender) -> None:
    with Scripted([READ, reply(), READ, HOLD]) as server:
        post(sender, server)
        with pytest.raises(ReplyTimeout) as caught:
            post(sender, server, seconds=0.1)
        assert caught.value.phase == "first byte"
        assert len(server.peers) == 1


def test_an_interim_reply_leaves_the_first_byte_limit_in_force(make: Make) -> None:
    sender = make(TimeoutConfig(idle=0.1))
    with Scripted([READ, INTERIM, 0.5, reply(b"hello"), HOLD]) as server:
        assert bytes(post(sender, server).body) == b"hello"


@pytest.mark.parametrize(
    "start", [OK + b"A:", OK + b"Content-Length: 9\r\n\r\nhe", CHUNKED + b"9\r\nhe"]
)
def test_a_reply_that_stops_is_left_at_the_idle_limit(start: bytes, make: Make) -> None:
    sender = make(TimeoutConfig(idle=0.1))
    with Scripted([READ, start, HOLD]) as server:
        with pytest.raises(ReplyTimeout) as caught:
            post(sender, server)
        assert caught.value.phase == "idle"


DRIBBLES: dict[str, list[Any]] = {
    "the head": [READ, lambda peer: peer.drip(OK + b"A: " + b"b" * 9999, 0.05)],
    "a body": [READ, reply(b"a" * 9999)[:-9999], lambda peer: peer.drip(b"a" * 9999, 0.05)],
    "chunks": [READ, CHUNKED, lambda peer: peer.drip(b"1\r\na\r\n" * 9999, 0.05)],
    "a body without end": [READ, OK + b"\r\n", lambda peer: peer.drip(b"a" * 9999, 0.05)],
}


@pytest.mark.parametrize("name", DRIBBLES)
def test_dribbling_does_not_outlive_the_deadline(name: str, sender: Sender) -> None:
    with Scripted(DRIBBLES[name]) as server, pytest.raises(ReplyTimeout):
        post(sender, server, seconds=0.3)


def test_a_flood_does_not_outlive_the_deadline(sender: Sender) -> None:
    def flood(peer: Peer) -> None:
        for _ in itertools.count():
            peer.sock.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")

    with Scripted([READ, CHUNKED, flood]) as server, pytest.raises(ReplyTimeout):
        post(sender, server, seconds=0.3, max_bytes=1 << 40)


def test_no_time_is_refused_before_anything_is_sent(sender: Sender) -> None:
    with Scripted([READ, reply(), HOLD]) as server:
        with pytest.raises(ReplyTimeout) as caught:
            post(sender, server, seconds=0.0)
        assert not caught.value.sent
        assert server.peers == []


def test_times_without_end_are_taken(make: Make) -> None:
    sender = make(TimeoutConfig(connect=1e9, first_byte=1e9, idle=1e9))
    body = b"x" * 8_000_000  # more than the network takes at once
    with Scripted([0.1, READ, reply(b"hello"), HOLD]) as server:
        assert bytes(post(sender, server, body, seconds=1e9).body) == b"hello"


def test_a_reply_tells_when_its_request_left(sender: Sender) -> None:
    with Scripted([READ, 0.2, reply(), READ, 0.2, reply(), HOLD]) as server:
        for _ in range(2):  # on a new connection, and on one that is reused
            before = time.monotonic()
            left = post(sender, server).left
            # After the call began, and before the server waited.
            assert before <= left <= time.monotonic() - 0.2


def test_a_full_backlog_is_a_connect_timeout(make: Make) -> None:
    sender = make(TimeoutConfig(connect=0.3))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with pytest.raises(ConnectError, match="in time") as caught:
            post(sender, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert caught.value.retryable and not caught.value.sent
    assert sender.connections() == (0, 0)


def test_nobody_listening_is_a_connect_error(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match="refused; is the service running") as caught:
        post(sender, f"http://127.0.0.1:{port}/")
    assert caught.value.retryable
    assert sender.connections() == (0, 0)


def test_an_unknown_name_is_a_connect_error(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectError, match=r"nowhere\.invalid.*check the host") as caught:
        post(sender, "http://nowhere.invalid/")
    assert caught.value.__dict__["phase"] == "dns"


def test_the_next_address_of_a_name_is_tried(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted([READ, reply(), HOLD]) as server:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*kind, (address, server.port)) for address in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert post(sender, f"http://two.example.com:{server.port}/").status == 200


def test_ipv6_addresses_work(sender: Sender) -> None:
    try:
        server = Scripted([READ, reply(), HOLD], address="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert post(sender, f"http://[::1]:{server.port}/batch").status == 200
        assert b"\r\nHost: [::1]:%d\r\n" % server.port in server.requests[0][0]


# -- the pool -------------------------------------------------------------------------------------

AGAIN = [READ, reply()] * 20 + [HOLD]


def keepers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "cosy-keeper"]


def test_idle_connections_are_closed_and_the_keeper_ends_with_the_last(make: Make) -> None:
    sender = make(idle_expiry=0.05)
    with Scripted(AGAIN) as server:
        for _ in range(2):  # a new keeper comes with a new connection
            post(sender, server)
            assert eventually(lambda: sender.connections() == (0, 0))
            assert eventually(lambda: not keepers())
        assert len(server.peers) == 2


def test_one_keeper_serves_all_connections(sender: Sender) -> None:
    with Scripted(AGAIN) as one, Scripted(AGAIN) as two:
        post(sender, one)
        post(sender, two)
        eventually(keepers)  # a thread of its own starts it
        assert keepers() == ["cosy-keeper"]
        assert sender.connections() == (2, 2)


def test_the_oldest_idle_connection_makes_room_for_another_route(make: Make) -> None:
    sender = make(max_connections=2)
    with Scripted(AGAIN) as one, Scripted(AGAIN) as two, Scripted(AGAIN) as three:
        for server in (one, two, one, three, one):
            post(sender, server)
            assert sender.connections()[0] <= 2
        assert [len(server.peers) for server in (one, two, three)] == [1, 1, 1]
        post(sender, two)
        assert len(two.peers) == 2  # it was the oldest when the third came


def test_a_pool_of_busy_connections_sheds(make: Make) -> None:
    sender = make(max_connections=1)
    with Scripted([READ, HOLD]) as server:
        thread = Waiter(sender, server)
        assert eventually(lambda: [len(r) for r in server.requests] == [1])
        with pytest.raises(ShedError, match="max_connections"):
            post(sender, server)
        sender.cut()
        assert isinstance(thread.end(), ClosedError)


class Waiter(threading.Thread):
    """Posts once on a thread of its own, and keeps what came of it."""

    def __init__(self, sender: Sender, server: Scripted) -> None:
        super().__init__()
        self._post = lambda: post(sender, server)
        self._result: Reply | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._post()
        except Exception as error:
            self._result = error

    def end(self) -> Reply | Exception | None:
        self.join(20)
        assert not self.is_alive()
        return self._result


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe"])
@pytest.mark.parametrize("reused", [False, True])
def test_cut_wakes_who_waits_and_nothing_is_sent_again(
    before: bytes, reused: bool, sender: Sender
) -> None:
    first = [READ, reply()] if reused else []
    with Scripted([*first, READ, before, HOLD]) as server:
        if reused:
            post(sender, server)
        waiter = Waiter(sender, server)
        assert eventually(lambda: [len(r) for r in server.requests] == [1 + reused])
        sender.cut()
        assert isinstance(waiter.end(), ClosedError)
        with pytest.raises(ClosedError):
            post(sender, server)
        assert len(server.peers) == 1
        assert sender.connections() == (0, 0)


def test_close_lets_running_requests_finish_and_closes_behind_them(sender: Sender) -> None:
    answer = threading.Event()
    with Scripted([READ, lambda _: answer.wait(10) and None, reply(), HOLD]) as server:
        waiter = Waiter(sender, server)
        assert eventually(lambda: [len(r) for r in server.requests] == [1])
        sender.close()
        with pytest.raises(ClosedError):
            post(sender, server)
        answer.set()
        assert isinstance(waiter.end(), Reply)
        assert sender.connections() == (0, 0)
        assert eventually(lambda: not keepers())


def test_close_during_traffic_ends_every_request_and_connection(sender: Sender) -> None:
    ends: list[type] = []

    def work() -> None:
        try:
            while True:
                post(sender, server)
        except CosyError as error:
            ends.append(type(error))

    with Scripted([READ, reply()] * 9999) as server:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: sum(map(len, server.requests)) > 200)
        sender.close()
        for thread in threads:
            thread.join(20)
        assert ends == [ClosedError] * 8
        assert sender.connections() == (0, 0)
        assert eventually(lambda: not keepers())


@IN_A_CHILD
def test_abandon_closes_our_end_without_a_word(make: Make) -> None:
    sender = make(idle_expiry=0.2)
    with Scripted([READ, reply(), HOLD]) as server:
        post(sender, server)
        sender.abandon()
        assert sender.connections() == (0, 0)
        with pytest.raises(ClosedError):
            post(sender, server)
        assert server.peers[0].requests == [server.requests[0][0]]


# -- proxies --------------------------------------------------------------------------------------


def test_a_proxy_is_given_the_whole_url_and_its_password(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted([READ, reply(b"far"), READ, reply(b"far"), HOLD]) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert bytes(post(sender, "http://tts.example.com/batch?a=1").body) == b"far"
        first = proxy.requests[0][0]
        assert first.startswith(
            b"POST http://tts.example.com/batch?a=1 HTTP/1.1\r\nHost: tts.example.com\r\n"
            b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n"
        )
        assert len(proxy.peers) == 1


def test_no_proxy_goes_the_straight_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Scripted(AGAIN) as server:
        monkeypatch.setenv("no_proxy", f"localhost,127.0.0.1:{server.port}")
        assert post(make(), server).status == 200
        monkeypatch.delenv("no_proxy")
        assert post(make(trust_env=False), server).status == 200
        with pytest.raises(ConnectError, match="through the proxy"):
            post(make(), server)


def test_a_socks_proxy_is_a_config_error(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:secret@127.0.0.1:1080")
    with pytest.raises(ConfigError, match=r"socks5://127\.0\.0\.1") as caught:
        post(sender, "http://tts.example.com/batch")
    assert "secret" not in str(caught.value)
