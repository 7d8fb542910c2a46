"""Steps that Ctrl-C on the main thread, and a finaliser on any thread, find whole or not begun.

A signal's exception, or the collector, comes between any two calls of Python code. Inside of an
Event or a Condition it can leave their lock taken for ever. Single calls of C code, and a `with`
of a bare lock, have no such gap.
"""

from __future__ import annotations

import _thread
import contextlib
import math
import operator
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = [
    "BareCondition",
    "Flag",
    "on_main_thread",
    "release_last",
    "run_aside",
    "start_aside",
    "start_thread",
    "wait_for",
]

# Seconds after which the main thread looks whether a signal came just before it began to wait:
# that would not end its wait.
_GLANCE = 1.0

_release = operator.methodcaller("release")


def on_main_thread() -> bool:
    """Return whether this is the thread that signals come to; a bare one may ask as well."""
    return threading.get_ident() == threading.main_thread().ident


def wait_for(lock: threading.Lock, seconds: float) -> bool:
    """Take the lock, waiting at most `seconds`; return whether that worked."""
    seconds = min(seconds, threading.TIMEOUT_MAX)
    if seconds <= _GLANCE or not on_main_thread():
        return lock.acquire(timeout=seconds)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if lock.acquire(timeout=min(left, _GLANCE)):
            return True
    return False


def release_last(locks: deque[threading.Lock]) -> None:
    """Take the last lock out and release it. Raises IndexError when there is none."""
    deque(map(_release, map(deque.pop, (locks,))), 0)


def start_thread(places: list[tuple[()]], work: Callable[[], None]) -> None:
    """Take a place and start a bare thread in it.

    Raises IndexError when there is no place, RuntimeError when the machine is out of threads.
    """
    try:
        deque(map(_thread.start_new_thread, (work,), map(list.pop, (places,))), 0)
    except RuntimeError:
        places.append(())
        raise


def start_aside(work: Callable[[], None], name: str, *, daemon: bool = True) -> None:
    """Do the work on a thread of its own. Raises RuntimeError when the machine is out of threads.

    A bare thread starts the thread: Thread.start takes locks, and waits for an Event.
    """

    def start() -> None:
        try:
            threading.Thread(target=work, name=name, daemon=daemon).start()
        except RuntimeError:
            work()

    _thread.start_new_thread(start, ())


def run_aside(work: Callable[[], None], name: str, *, daemon: bool = True) -> None:
    """Do the work on a thread of its own, and wait for it. Ctrl-C ends the wait, not the work.

    Raises RuntimeError when the machine is out of threads.
    """
    done = threading.Lock()
    done.acquire()
    held = [work]

    def run() -> None:
        try:
            held.pop()()  # the thread, which ends a little later, holds nothing of it
        finally:
            done.release()

    start_aside(run, name, daemon=daemon)
    done.acquire()


class BareCondition(threading.Condition):
    """A Condition that `with` enters as it does a bare lock: in one call of C code each way."""

    # Slots, as `with` looks at the class: they find what an instance keeps in them.
    __slots__ = ("__enter__", "__exit__")

    def __init__(self) -> None:
        super().__init__()
        lock = self._lock  # type: ignore[attr-defined]
        self.__enter__ = lock.__enter__  # type: ignore[method-assign]
        self.__exit__ = lock.__exit__  # type: ignore[method-assign]


class Flag(threading.Event):
    """An Event whose lock cannot be lost: it has none.

    `raised` is what `is_set` returns, without the price of a call.
    """

    def __init__(self) -> None:
        # Nothing of the base is used, but its type.
        self.raised = False
        # A locked lock for each thread that waits. Every use is one atomic step.
        self._waiting: deque[threading.Lock] = deque()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self.raised

    def set(self) -> None:
        """Set it, and wake everybody."""
        self.raised = True
        with contextlib.suppress(IndexError):
            while True:
                release_last(self._waiting)

    def clear(self) -> None:
        """Make it as new; whoever waits goes on to do so."""
        self.raised = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        if not self.raised:
            lock = threading.Lock()
            lock.acquire()
            # Whoever sets it looks at those who wait afterwards: of the two one sees the other.
            self._waiting.append(lock)
            if not self.raised:
                wait_for(lock, math.inf if timeout is None else max(0.0, timeout))
            with contextlib.suppress(ValueError):
                self._waiting.remove(lock)
        return self.raised

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self.raised else 'unset'}>"
