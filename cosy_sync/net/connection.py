"""One open connection: a non-blocking socket, and the wait for it."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import time
from collections import deque
from typing import Protocol

from ..threads import Watched
from .route import Route

__all__ = ["BLOCKED", "Connection", "Stack", "Stream"]

# Seconds that one poll may last: the system counts its milliseconds in 31 bits.
LONGEST = 1_000_000.0

# What a socket raises that has nothing to read, or no room to send.
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream(Protocol):
    """What a connection needs of a non-blocking socket, with TLS or without."""

    def send(self, data: bytes | memoryview, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def recv_into(self, view: memoryview, /) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Connection:
    """One open socket to one route.

    The socket never blocks, so that a wait is one `poll` with the time that is left, and a
    request costs one send, one poll and one receive: no `settimeout`, which is a system call too.
    """

    __slots__ = (
        *("expires", "idle_since", "is_distrusted", "poll", "route", "sock", "stack", "tls"),
        "watched",
    )

    def __init__(self, route: Route, sock: Stream) -> None:
        self.route = route
        self.sock = sock
        # TLS may hold decrypted bytes that no poll can see: there, read first and wait afterwards.
        self.tls = not isinstance(sock, socket.socket) or isinstance(sock, ssl.SSLSocket)
        self.idle_since = 0.0
        # Where it waits while it is idle.
        self.stack = Stack()
        # The instant from which on it takes no further request.
        self.expires = math.inf
        # What comes over it may be another request's.
        self.is_distrusted = False
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN)
        # Waits so many milliseconds at most for something to read.
        self.poll = poller.poll
        # What waits in place of the thread that reads, where many do.
        self.watched: Watched | None = None

    def distrust(self) -> None:
        """Have it closed as soon as nobody uses it; see Link."""
        self.is_distrusted = True
        self.expires = -math.inf

    def send(self, data: bytes | memoryview) -> int:
        """Send what the network takes now, and return how many bytes that were."""
        try:
            return self.sock.send(data)
        except BLOCKED:
            return 0

    def receive(self, size: int) -> bytes | None:
        """Return what has come, b"" at the end of the stream, None when nothing has come."""
        try:
            return self.sock.recv(size)
        except BLOCKED:
            return None

    def wait(self, until: float, now: float | None = None) -> bool:
        """Wait until there is something to read; return False when the instant came first.
        `now`: the instant, where it is known."""
        left = min(until - (time.monotonic() if now is None else now), LONGEST)
        watched = self.watched
        if watched is not None and watched.poller.runs:
            return left > 0 and watched.wait(left)
        return left > 0 and bool(self.poll(left * 1000))

    def wait_both(self, until: float) -> tuple[bool, bool]:
        """Wait until something can be read or sent; return which, or neither when time is up."""
        left = min(until - time.monotonic(), LONGEST)
        if left <= 0:
            return False, False
        poller = select.poll()
        poller.register(self.sock.fileno(), select.POLLIN | select.POLLOUT)
        events = poller.poll(left * 1000)
        happened = events[0][1] if events else 0
        return bool(happened & ~select.POLLOUT), bool(happened & select.POLLOUT)

    def is_quiet(self) -> bool:
        """Return whether nothing has come since the last reply: no goodbye, no rubbish."""
        if not self.tls:
            return not self.poll(0)
        try:
            # TLS itself may have had something to say (a session ticket): reading settles it.
            return self.receive(1) is None
        except OSError:
            return False

    def close(self) -> None:
        """Close without a word; closing twice is harmless."""
        if self.watched is not None:
            self.watched.forget()
        self.sock.close()

    def cut(self) -> None:
        """Wake the thread that reads from this connection: it sees the end of the stream."""
        with contextlib.suppress(OSError):
            if isinstance(self.sock, socket.socket):
                # SSLSocket's own shutdown would take TLS away from under the reading thread.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            else:
                self.sock.shutdown(socket.SHUT_RDWR)


class Stack(deque[Connection]):
    """The idle connections of one route, the one that came back last on top."""

    # When a good reply last came over this route, in time.monotonic's seconds.
    alive_at = -math.inf
    # The route is not used any more: what still comes back is closed.
    forgotten = False
