"""One thread that waits for all replies, and wakes the threads that read them one by one."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
import weakref
from collections import deque
from typing import Any

from .connection import Connection

__all__ = ["ReplyPoller"]

_LOG = logging.getLogger("cosy_sync")

# How many threads may read a reply at once. More would only wait for each other's GIL.
_READERS = 1
# Seconds after which a reader that does not go on is not waited for any more: another is woken.
_HELD_UP = 0.01
# Seconds after which the thread looks whether its pool still exists.
_LOOK = 1.0
_EVENTS = 1024


class ReplyPoller:
    """Waits for many sockets on one thread (epoll), and wakes their readers in order of arrival.

    Where hundreds of threads each wait in a poll of their own, all whose replies came wake up at
    once, and then wait for the GIL: each of them asks for it every 5 ms, and every system call
    hands it to another. Here a reader is woken only when the one before it has read its reply.

    A connection is known to it once `watch` was called. Each of its replies takes these steps;
    every step is one atomic operation on a dict, a set or a deque, so no lock is contended:

    * `wait` puts it into `_waiting`; taking it out of there is the right to wake its thread.
    * An event puts it into `_ready`. Whoever holds a turn takes it from there and wakes its thread,
      which then holds the turn. If nobody waits yet, `_arrived` remembers the event.
    * `done`, or the next `wait`, hands the turn to the next that is ready.

    A turn whose holder is held up is not waited for: another is made, and one too many is dropped.
    """

    def __init__(self, owner: object) -> None:
        self._owner = weakref.ref(owner)
        self._epoll = select.epoll()
        # Written to in order to end the thread's wait.
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._close_bell = weakref.finalize(self, os.close, self._bell)
        self._close_bell.atexit = False
        self._epoll.register(self._bell, select.EPOLLIN)
        self._known: dict[int, Connection] = {}
        self._waiting: dict[int, Connection] = {}
        self._arrived: set[int] = set()
        self._ready: deque[int] = deque()
        self._turns: deque[None] = deque([None] * _READERS, _READERS)
        self._woken_at = 0.0
        # Guards: _thread, _closed.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    @staticmethod
    def is_of_use() -> bool:
        """Return whether this platform has what it needs, and threads that wait for each other."""
        gil: Any = getattr(sys, "_is_gil_enabled", lambda: True)
        return hasattr(select, "epoll") and hasattr(os, "eventfd") and gil()

    def watch(self, connection: Connection) -> bool:
        """Wait for this connection's replies from now on; return whether that is possible."""
        fd = connection.fd
        try:
            self._known[fd] = connection
            # Edges, so that no reply needs a system call to ask for it.
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            if self._start():
                return True
        except (OSError, ValueError, RuntimeError):  # too many watches, closed, out of threads
            pass
        self.forget(connection)
        return False

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is about to be closed."""
        fd = connection.fd
        if self._known.get(fd) is connection:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fd)
            self._known.pop(fd, None)
            self._arrived.discard(fd)
            if self._closed and not self._known:
                self._ring()
        self.done(connection)

    def begin(self, connection: Connection) -> None:
        """Forget what came before: it was read, or will be seen by a look at the socket."""
        self._arrived.discard(connection.fd)

    def wait(self, connection: Connection, seconds: float) -> bool:
        """Wait until something can be read, at most so many seconds; return whether it can."""
        self.done(connection)
        fd = connection.fd
        self._waiting[fd] = connection
        if fd in self._arrived:
            self._arrived.discard(fd)
            if self._waiting.pop(fd, None) is not None:
                return True
        try:
            if not connection.wakeup.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
                if self._waiting.pop(fd, None) is not None:
                    return False
                connection.wakeup.acquire()  # it is being woken at this very moment
        except BaseException:
            if self._waiting.pop(fd, None) is None:
                self._hand_on()
            raise
        connection.holds_turn = True
        return True

    def done(self, connection: Connection) -> None:
        """Let the next thread read: this one has its reply, or gave it up."""
        if connection.holds_turn:
            connection.holds_turn = False
            self._hand_on()

    def close(self) -> None:
        """End the thread once the last connection is closed; wait for it where there is none."""
        with self._lock:
            self._closed = True
            thread = None if self._known else self._thread
            if self._thread is None:
                self._release()
                return
        self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self._known.clear()
        self._release()

    def _ring(self) -> None:
        if self._close_bell.alive:
            with contextlib.suppress(OSError):
                os.eventfd_write(self._bell, 1)

    # -- turns ----------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        if not self._wake_next():
            self._turns.append(None)
            self._dispatch()  # an event may have come just before, and found no turn

    def _dispatch(self) -> None:
        """Wake as many readers as there are turns."""
        while self._ready:
            try:
                self._turns.pop()
            except IndexError:
                return
            if not self._wake_next():
                self._turns.append(None)

    def _wake_next(self) -> bool:
        """Wake the first that is ready and waits; return whether there was one."""
        while True:
            try:
                fd = self._ready.popleft()
            except IndexError:
                return False
            connection = self._waiting.pop(fd, None)
            if connection is None:
                self._arrived.add(fd)
                # It may have begun to wait just before that.
                connection = self._waiting.pop(fd, None)
            if connection is not None:
                self._woken_at = time.monotonic()
                connection.wakeup.release()
                return True

    # -- the thread -----------------------------------------------------------------------------

    def _start(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="cosy-poller", daemon=True)
                thread.start()
                self._thread = thread
        return True

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._look(_HELD_UP if self._ready else _LOOK)
            except Exception:
                if self._epoll.closed:
                    return
                _LOG.exception("the thread that waits for replies met an error, and goes on")

    def _look(self, seconds: float) -> None:
        for fd, _ in self._epoll.poll(seconds, _EVENTS):
            if fd == self._bell:
                os.eventfd_read(fd)
            else:
                self._ready.append(fd)
        if self._ready and time.monotonic() - self._woken_at > _HELD_UP:
            self._turns.append(None)
        self._dispatch()

    def _is_over(self) -> bool:
        """Return whether nobody needs the thread any more."""
        if self._known and self._owner() is not None:
            return False
        with self._lock:
            # Whoever makes a connection known looks for the thread afterwards.
            if self._known and self._owner() is not None:
                return False
            self._thread = None
            if self._closed or self._owner() is None:
                self._release()
        return True

    def _release(self) -> None:
        self._epoll.close()
        self._close_bell()
