"""Connections kept for reuse: a stack per route, checked out and in without waiting."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from ..errors import ClosedError, ShedError
from .route import Route

__all__ = ["Connection", "ConnectionPool"]

Dial = Callable[[Route, float], socket.socket]


class Connection:
    """One open socket to one route."""

    __slots__ = ("_poller", "idle_since", "route", "sock")

    def __init__(self, route: Route, sock: socket.socket) -> None:
        self.route = route
        self.sock = sock
        self.idle_since = 0.0
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    def is_quiet(self) -> bool:
        """Return whether nothing has come since the last reply: no goodbye, no rubbish."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        return not self._poller.poll(0)

    def close(self) -> None:
        """Close without a word; closing twice is harmless."""
        self.sock.close()

    def cut(self) -> None:
        """Wake the thread that reads from this connection: it sees the end of the stream."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ConnectionPool:
    """The open connections to all routes, at most `max_connections`.

    Check-out takes the connection that came back last (the one least likely to be stale), in
    constant time and without a lock: append and pop of a deque are atomic. Nobody ever waits
    here: how many requests are in flight is decided before.
    """

    def __init__(self, dial: Dial, *, max_connections: int, idle_expiry: float) -> None:
        self._dial = dial
        self._max = max_connections
        self._expiry = idle_expiry
        # Guards: _open, _stacks (its keys), _closed, _sweeper.
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._stacks: dict[Route, deque[Connection]] = {}
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None

    def take(self, route: Route) -> Connection | None:
        """Take an idle connection that is fresh enough to be used, or None."""
        stack = self._stacks.get(route)
        while stack:
            try:
                connection = stack.pop()
            except IndexError:  # another thread was quicker
                return None
            if time.monotonic() - connection.idle_since < self._expiry and connection.is_quiet():
                return connection
            self.drop(connection)
        return None

    def open(self, route: Route, until: float) -> Connection:
        """Open a new connection, closing the oldest idle one where the pool is full.

        Raises ConnectError, ShedError when all connections are busy, ClosedError.
        """
        self._make_room()
        connection = Connection(route, self._dial(route, until))
        with self._lock:
            late = self._closed.is_set()
            if not late:
                self._open.add(connection)
                self._stacks.setdefault(route, deque())
                self._wake_sweeper()
        if late:
            connection.close()
            raise ClosedError("the client was closed while it connected")
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose reply was read to its end."""
        connection.idle_since = time.monotonic()
        self._stacks[connection.route].append(connection)
        # close() may have emptied the stacks just before: what came later is ours to close.
        if self._closed.is_set():
            self.expire(float("inf"))

    def drop(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def expire(self, now: float) -> None:
        """Close the connections that have been idle for too long at this instant."""
        for stack in list(self._stacks.values()):
            while stack and now - stack[0].idle_since >= self._expiry:
                try:
                    self.drop(stack.popleft())
                except IndexError:  # taken meanwhile
                    break

    def count(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are idle."""
        idle = sum(len(stack) for stack in list(self._stacks.values()))
        return len(self._open), idle

    def close(self) -> None:
        """Close what is idle, and soon what is busy; nothing new is opened."""
        self._closed.set()
        self.expire(float("inf"))
        sweeper = self._sweeper
        if sweeper is not None and sweeper is not threading.current_thread():
            sweeper.join()

    def cut(self) -> None:
        """Wake every thread that waits for a reply; their requests end as errors."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.cut()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets without talking on them."""
        for connection in self._open:
            connection.sock.close()

    def _make_room(self) -> None:
        with self._lock:
            if self._closed.is_set():
                raise ClosedError("the client is closed")
            full = len(self._open) >= self._max
        if not full:
            return
        for stack in list(self._stacks.values()):
            try:
                self.drop(stack.popleft())
                return
            except IndexError:
                continue
        raise ShedError(f"all {self._max} connections are busy; raise PoolConfig(max_connections)")

    def _wake_sweeper(self) -> None:
        if self._sweeper is None:
            args = (weakref.ref(self), self._closed, self._expiry)
            self._sweeper = threading.Thread(
                target=_sweep, args=args, name="cosy-keeper", daemon=True
            )
            self._sweeper.start()

    def _swept(self) -> bool:
        # Under the lock no connection can be opened, so none misses a sweeper that ends here.
        with self._lock:
            done = not self._open
            if done:
                self._sweeper = None
            return done


def _sweep(pool_ref: weakref.ref[ConnectionPool], closed: threading.Event, expiry: float) -> None:
    """Close idle connections while there are any; ends with the last one, or with the pool."""
    while not closed.wait(expiry / 2):
        pool = pool_ref()
        if pool is None:
            return
        pool.expire(time.monotonic())
        if pool._swept():
            return
        del pool
