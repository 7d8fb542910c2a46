"""What a thread waits on until another one wakes it: a lock, or a bell."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from typing import Protocol

__all__ = ["Bell", "Wakeup", "new_bell", "new_lock"]

# A bell takes a descriptor. There are bells where the process may have so many at least, and only
# as long as it uses less than this share of them.
_PLENTY = 4096
_SHARE = 4
# Seconds that one poll may last: the system counts its milliseconds in 31 bits.
_LONGEST = 1_000_000.0


class Wakeup(Protocol):
    """Released once for each time that a thread is to go on; it begins acquired."""

    def acquire(self, *, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...


class Bell:
    """A wake-up that is rung without the GIL.

    A lock is released with the GIL held: whoever wakes up for it asks for the GIL before the other
    has blocked and let go of it, and waits once more. That is three to five switches between
    threads for each hand-over instead of two, and on several cores each waits for another core.

    Its descriptor is closed with the last reference, never before: whoever rings a closed one might
    write into another file that has its number by then.
    """

    __slots__ = ("_fd", "_poll")

    def __init__(self) -> None:
        """Build it. Raises OSError where the process may have no more descriptors."""
        self._fd = -1
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        self._poll = poller.poll

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def acquire(self, *, timeout: float = -1) -> bool:
        """Wait until it is rung, at most `timeout` seconds, -1 for ever; return whether it was."""
        if not self._poll(-1 if timeout < 0 else min(timeout, _LONGEST) * 1000):
            return False
        os.eventfd_read(self._fd)
        return True

    def release(self) -> None:
        """Ring it."""
        os.eventfd_write(self._fd, 1)


def new_lock() -> threading.Lock:
    """Return a lock that is held: who acquires it waits until another one releases it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def new_bell(fd: int) -> Wakeup:
    """Return a bell for whoever waits for the socket of this descriptor; a lock, where descriptors
    may become scarce. The system gives the lowest numbers, so that `fd` tells how many there
    are."""
    try:
        if _SHARE * fd < _most_files() >= _PLENTY:
            return Bell()
    except OSError:
        pass
    return new_lock()


def _most_files() -> float:
    """Return how many descriptors this process may have."""
    if sys.platform == "win32":
        return 0
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft
