"""Forked children: notices them, also where Python's own hooks did not run, and renews what they
may not share with the parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from . import system  # noqa: F401  which says it where a system has no fork

__all__ = ["notice_fork", "renew_after_fork", "renewing"]

# Renewed by each of these, in this order.
_renewals: list[Callable[[], None]] = []
# The process that everything belongs to now.
_pid = os.getpid()
# A lock for each process, by its id: one that was made before the fork may be held by a thread that
# does not exist in the child. Re-entrant, for a signal's handler may come in here as well.
_locks: dict[int, threading.RLock] = {}


def renew_after_fork(renew: Callable[[], None]) -> None:
    """Have this called in each forked child before anything that it renews is used there."""
    _renewals.append(renew)


def notice_fork() -> None:
    """Renew everything if this process is a child that has not done so.

    Python's own hooks do it after os.fork. uWSGI, and whatever else forks from C, does not call
    them: so whoever uses what a client built asks here before.
    """
    if _pid != os.getpid():
        _renew()


def renewing() -> threading.RLock:
    """Return the lock under which this process renews what it took over from its parent."""
    return _locks.setdefault(os.getpid(), threading.RLock())


def _renew() -> None:
    global _pid
    with renewing():
        pid = os.getpid()
        if _pid != pid:  # else another thread was quicker
            for renew in _renewals:
                renew()
            _pid = pid


os.register_at_fork(after_in_child=_renew)
