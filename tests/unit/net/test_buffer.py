"""Memory for replies: of their size, writable, and large ones apart from the heap."""

from __future__ import annotations

import mmap
import socket
import time
from contextlib import closing

import pytest

from cosy_sync.net.buffer import new_buffer
from cosy_sync.net.connection import Connection
from cosy_sync.net.exchange import exchange
from cosy_sync.net.exchange_limits import ExchangeLimits
from cosy_sync.net.route import Route


@pytest.mark.parametrize("length", [0, 1, (1 << 19) - 1, 1 << 19, (1 << 21) - 1, 1 << 21, 1 << 24])
def test_a_buffer_has_its_size_and_can_be_written(length: int) -> None:
    view = memoryview(new_buffer(length))
    assert len(view) == length
    view[:] = b"x" * length
    assert view == b"x" * length


@pytest.mark.parametrize(("length", "apart"), [((1 << 19) - 1, False), (1 << 19, True)])
def test_a_large_buffer_is_a_mapping_of_its_own(length: int, apart: bool) -> None:
    assert isinstance(new_buffer(length), mmap.mmap) is apart


def test_a_mapping_is_given_back_with_its_last_view() -> None:
    piece = memoryview(new_buffer(1 << 20))[5:10]
    mapping = piece.obj
    with pytest.raises(BufferError):
        mapping.close()
    piece.release()
    mapping.close()


def test_a_reply_that_waits_for_room_has_begun_and_no_more() -> None:
    body = b"x" * 100_000
    near, far = socket.socketpair()
    with closing(near), closing(far):
        near.setblocking(False)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body)
        seen: list[int] = []

        def make_room(size: int) -> None:
            seen.append(size)
            seen.append(len(near.recv(1 << 20, socket.MSG_PEEK)))

        limits = ExchangeLimits(5.0, 5.0, time.monotonic() + 5.0, 1 << 20, make_room)
        connection = Connection(Route("127.0.0.1", 80, False, None), near)
        reply = exchange(connection, b"GET", limits, reused=False)
    assert bytes(reply.body) == body
    assert seen[0] == 100_000 and seen[1] > 65_000


class CountingSocket(socket.socket):
    """A socket that counts how often it was asked for bytes."""

    asked = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.asked += 1
        return super().recv(size, flags)


def test_a_small_reply_takes_one_receive_and_is_not_copied() -> None:
    near, far = socket.socketpair()
    with closing(CountingSocket(fileno=near.detach())) as counting, closing(far):
        counting.setblocking(False)
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 21000\r\n\r\n" + b"x" * 21_000)
        limits = ExchangeLimits(5.0, 5.0, time.monotonic() + 5.0, 1 << 20)
        connection = Connection(Route("127.0.0.1", 80, False, None), counting)
        reply = exchange(connection, b"GET", limits, reused=False)
        assert (counting.asked, reply.body) == (1, b"x" * 21_000)
        assert isinstance(reply.body, memoryview) and isinstance(reply.body.obj, bytes)
