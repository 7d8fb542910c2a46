"""A thread beside the calls that does one thing again and again."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable

from ..user_code import log_failure

__all__ = ["Keeper"]

# Seconds until the next step after one that broke.
_AFTER_A_BUG = 1.0
# Seconds of one wait that make sense; Event.wait raises for much longer ones.
_LONGEST = 3600.0


class Keeper:
    """Calls `step` on a thread of its own; what it returns is the wait for the next, in seconds.

    The thread starts with the first ring, and ends with `close` or with the owner of the step.
    """

    def __init__(self, step: Callable[[], float], name: str) -> None:
        self._step = weakref.WeakMethod(step)
        self._name = name
        self._bell = threading.Event()
        self._over = threading.Event()
        # Guards: _thread, and that none starts after the end.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Do the next step now, and once more when one is being done."""
        self._bell.set()
        if self._thread is None:
            self._start()

    def close(self, seconds: float) -> None:
        """End the thread; wait for it at most `seconds`."""
        self._over.set()
        with self._lock:
            thread = self._thread
        self._bell.set()
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # not started yet: then it ends by itself
                thread.join(seconds)

    def _start(self) -> None:
        # A daemon: a server that does not answer must not hold up the end of the program.
        thread = threading.Thread(
            target=_run, args=(self._step, self._bell, self._over), name=self._name, daemon=True
        )
        with self._lock:
            if self._thread is not None or self._over.is_set():
                return
            self._thread = thread
        try:
            thread.start()  # it waits until the thread runs, and so for a lock
        except RuntimeError:  # no more threads; whoever rings next tries again
            with self._lock:
                self._thread = None


def _run(
    wanted: weakref.WeakMethod[Callable[[], float]], bell: threading.Event, over: threading.Event
) -> None:
    while True:
        bell.clear()  # before the step: who rings during it gets another
        step = wanted()
        if over.is_set() or step is None:
            return
        try:
            seconds = step()
        except BaseException:  # a storage is made by the user's code
            log_failure("a step of %s failed", step)
            seconds = _AFTER_A_BUG
        if not 0.0 <= seconds <= _LONGEST:  # no number, say
            seconds = _AFTER_A_BUG
        del step  # or its owner would live as long as this thread
        bell.wait(seconds)
