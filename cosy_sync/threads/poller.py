"""One thread that waits for the replies of many, and lets the threads that it wakes run in turn."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any

from ..forks import renew_after_fork
from ..user_code import log_failure

__all__ = ["Watched", "enter", "leave", "watch"]

# Seconds after which a thread that does not go on is not waited for any more: another is woken.
_HELD_UP = 0.01
# Seconds that a thread waits to be let in at most: who comes too late runs all the same.
_PATIENCE = 1.0
# Seconds after which the poller looks whether anything is still watched.
_LOOK = 1.0
_EVENTS = 1024

# Whether this thread has the run slot, and the lock that it waits on.
_here = threading.local()


class Watched:
    """A socket whose replies one thread waits for. Its wait wakes up holding the run slot."""

    __slots__ = ("_poller", "fd", "wakeup")

    def __init__(self, poller: _Poller, fd: int) -> None:
        self._poller = poller
        self.fd = fd
        self.wakeup = _locked()

    def begin(self) -> None:
        """Forget what came before: it was read, or will be seen by a look at the socket."""
        self._poller.arrived.discard(self.fd)

    def wait(self, seconds: float) -> bool:
        """Wait until something may be read, at most so many seconds; return whether it may."""
        leave()
        return self._poller.wait(self.fd, self.wakeup, seconds)

    def forget(self) -> None:
        """Let go of the socket, which is about to be closed."""
        self._poller.forget(self)


class _Poller:
    """Waits for sockets (epoll), and hands out the run slot.

    Hundreds of threads that each wait in a poll of their own wake up as their replies come, and
    then wait for the GIL: each asks for it every 5 ms, and each system call hands it to another.
    Here one thread waits, and wakes a reader when no other runs. Whoever blocks, or is done, hands
    the slot to the next that is ready, or back to the poller, which then waits for sockets again.

    Every step is one atomic operation on a dict, a set or a deque, so that no lock is contended:

    * Who waits puts its lock into `_waiting`, by its socket or by the lock itself; taking it out of
      there is the right, and the duty, to release that lock.
    * An event puts the socket into `_ready`; who wants the slot puts its lock there.
    * Who has the slot takes the first from `_ready` and wakes it, which then has the slot. Where
      nobody waits for that socket yet, `arrived` remembers the event.

    A holder that is held up for long (in a user's code, in a call of C) is not waited for: there is
    one slot more until one comes back.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self.arrived: set[int] = set()
        self._waiting: dict[object, threading.Lock] = {}
        self._ready: deque[Any] = deque()
        # A None for each slot beyond the one.
        self._extra: deque[None] = deque()
        # Held while the slot is with a reader; whether the poller waits for sockets; when a reader
        # was woken last.
        self._mine = _locked()
        self._parked = False
        self._woken_at = 0.0
        # The sockets that it waits for; whether it has ended, as there were none. Set under _lock.
        self.known: set[int] = set()
        self.over = False

    def watch(self, fd: int) -> None:
        """Wait for a known socket. Raises OSError where the system watches too many."""
        # Edges, so that no reply needs a system call to ask for it.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, watched: Watched) -> None:
        """Wait for a socket no more."""
        if watched.fd in self.known:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(watched.fd)
            self.arrived.discard(watched.fd)
            with _lock:
                self.known.discard(watched.fd)
            if not self.known:
                self._ring()

    def wait(self, key: object, wakeup: threading.Lock, seconds: float) -> bool:
        """Wait for the slot, by a socket or the lock; return whether this thread has it now, or may
        read without."""
        self._waiting[key] = wakeup
        if key in self.arrived:
            self.arrived.discard(key)
            if self._waiting.pop(key, None) is not None:
                return True
        try:
            if not wakeup.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
                if self._waiting.pop(key, None) is not None:
                    return False
                wakeup.acquire()  # it is being released at this very moment
        except BaseException:
            if self._waiting.pop(key, None) is None:
                self.hand_on()
            raise
        _here.holds = self
        return True

    def enter(self) -> None:
        """Wait for the slot."""
        wakeup = getattr(_here, "wakeup", None)
        if wakeup is None:
            wakeup = _here.wakeup = _locked()
        self._waiting[wakeup] = wakeup
        self._ready.append(wakeup)
        if self._parked:
            self._ring()
        self.wait(wakeup, wakeup, _PATIENCE)

    def hand_on(self) -> None:
        """Let the next run."""
        if self._extra:
            with contextlib.suppress(IndexError):
                self._extra.pop()
                return
        while not self._wake_next():
            events = [] if self.over else self._epoll.poll(0, _EVENTS)
            if not events:
                with contextlib.suppress(RuntimeError):  # it took over, as this one was held up
                    self._mine.release()
                return
            self._ready.extend([fd for fd, _ in events])

    def _wake_next(self) -> bool:
        """Wake the first that is ready and waits; return whether there was one."""
        while True:
            try:
                key = self._ready.popleft()
            except IndexError:
                return False
            wakeup = self._waiting.pop(key, None)
            if wakeup is None and key in self.known:
                self.arrived.add(key)
                # It may have begun to wait just before that.
                wakeup = self._waiting.pop(key, None)
            if wakeup is not None:
                self._woken_at = time.monotonic()
                wakeup.release()
                return True

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)

    # -- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        """Wait for sockets, and wake readers, as long as anything is watched."""
        while not self._is_over():
            try:
                self._look()
            except Exception:
                log_failure("the thread that waits for replies met an error, and goes on")
                time.sleep(_HELD_UP)
        while self._wake_next():  # those who want the slot need none
            pass
        self.close()

    def _look(self) -> None:
        self._parked = True
        events = self._epoll.poll(0 if self._ready else _LOOK, _EVENTS)
        self._parked = False
        for fd, _ in events:
            if fd == self._bell:
                with contextlib.suppress(OSError):
                    os.eventfd_read(fd)
            else:
                self._ready.append(fd)
        if not self._wake_next():
            return
        while not self._mine.acquire(timeout=_HELD_UP):
            if time.monotonic() - self._woken_at > _HELD_UP:
                self._extra.append(None)
                return

    def _is_over(self) -> bool:
        with _lock:
            self.over = not self.known
            return self.over

    def close(self) -> None:
        """Close what it has of the system's; in a forked child, of the parent's."""
        self._epoll.close()
        with contextlib.suppress(OSError):
            os.close(self._bell)


# Guards: _poller, the one in use, which may be over; what it knows.
_lock = threading.Lock()
_poller: _Poller | None = None


def watch(fd: int) -> Watched | None:
    """Have one thread wait for this socket's replies; None where that is not possible, or of no
    use: where threads run side by side (free-threaded), or there is no epoll (macOS, gevent)."""
    if not _is_of_use():
        return None
    try:
        poller = _join(fd) or _make(fd)
        try:
            poller.watch(fd)
        except BaseException:
            with _lock:
                poller.known.discard(fd)
            raise
    except (OSError, ValueError, RuntimeError):  # too many watches, files or threads
        return None
    return Watched(poller, fd)


def enter() -> None:
    """Wait until this thread may run beside the others; at once where few replies are awaited.

    Whoever enters must `leave` before it blocks, and when it is done.
    """
    poller = _poller
    if poller is not None and not poller.over and getattr(_here, "holds", None) is None:
        poller.enter()


def leave() -> None:
    """Let another thread run, if this one holds the slot: it is about to block, or is done."""
    if _poller is not None:
        poller = getattr(_here, "holds", None)
        if poller is not None:
            _here.holds = None
            poller.hand_on()


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _is_of_use() -> bool:
    gil: Any = getattr(sys, "_is_gil_enabled", lambda: True)
    return hasattr(select, "epoll") and hasattr(os, "eventfd") and bool(gil())


def _join(fd: int) -> _Poller | None:
    """Have the poller in use know a socket; return it, None where there is none."""
    with _lock:
        if _poller is None or _poller.over:
            return None
        _poller.known.add(fd)
        return _poller


def _make(fd: int) -> _Poller:
    """Return a new poller, or the one that another thread has just made."""
    global _poller
    made = _Poller()
    made.known.add(fd)
    while (poller := _join(fd)) is None:
        with _lock:
            if _poller is None or _poller.over:
                _poller = made
                break
    else:
        made.close()
        return poller
    try:
        threading.Thread(target=made.run, name="cosy-poller", daemon=True).start()
    except RuntimeError:
        made.over = True
        made.close()
        raise
    return made


def _begin_anew() -> None:
    """In a forked child: let go of the parent's sockets; the thread does not exist here."""
    global _poller, _lock, _here
    _lock = threading.Lock()
    poller, _poller = _poller, None
    _here = threading.local()
    if poller is not None:
        poller.close()


renew_after_fork(_begin_anew)
