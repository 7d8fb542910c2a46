"""One exchange over a socket pair: what came before the request, and who waits for the reply."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from cosy_sync.net.connection import Connection
from cosy_sync.net.exchange import exchange
from cosy_sync.net.exchange_limits import ExchangeLimits, StaleConnection
from cosy_sync.net.route import Route
from cosy_sync.threads import leave, watch

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Line:
    """A connection, and its other end."""

    def __init__(self, watched: bool) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.connection = Connection(Route("127.0.0.1", 80, False, None), near)
        if watched:
            self.connection.watched = watch(near.fileno())
            if self.connection.watched is None:
                pytest.skip("each thread waits by itself here")

    def hear(self, data: bytes) -> None:
        """Have this arrive, and be noticed."""
        self.far.sendall(data)
        assert self.connection.wait(time.monotonic() + 10.0)
        watched = self.connection.watched
        if watched is not None:
            watched.poller.arrived.add(watched.fd)  # as where nobody waited for it

    def exchange(self, *, reused: bool) -> bytes:
        limits = ExchangeLimits(2.0, 2.0, time.monotonic() + 2.0, 1 << 20)
        return bytes(exchange(self.connection, REQUEST, limits, reused=reused).body)


@pytest.fixture(params=[False, True], ids=["waits itself", "watched"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    line = Line(request.param)
    yield line
    leave()
    line.connection.close()
    line.far.close()


def test_what_came_before_the_request_over_a_used_connection_is_never_its_reply(line: Line) -> None:
    line.hear(REPLY)
    with pytest.raises(StaleConnection) as caught:
        line.exchange(reused=True)
    assert caught.value.lost is None
    line.far.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing was sent
        line.far.recv(1)


def test_a_service_that_speaks_first_over_a_new_connection_is_heard(line: Line) -> None:
    # A refusal on sight, mostly, by a service that has no room.
    line.hear(REPLY)
    assert line.exchange(reused=False) == b"hello"


def test_a_reply_that_comes_between_the_look_and_the_wait_is_not_missed(line: Line) -> None:
    real = line.connection.sock.send

    class Answers:
        def __getattr__(self, name: str) -> object:
            return getattr(sock, name)

        def send(self, data: bytes) -> int:
            sent = real(data)
            line.far.sendall(REPLY)
            return sent

    sock, line.connection.sock = line.connection.sock, Answers()  # type: ignore[assignment]
    assert line.exchange(reused=True) == b"hello"
