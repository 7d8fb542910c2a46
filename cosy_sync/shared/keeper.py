"""A thread beside the calls that does one thing again and again."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable

from ..atomic import Flag, start_thread
from ..user_code import log_failure

__all__ = ["Keeper"]

# Seconds until the next step after one that broke.
_AFTER_A_BUG = 1.0
# Seconds of one wait that make sense.
_LONGEST = 3600.0


class Keeper:
    """Calls `step` on a thread of its own; what it returns is the wait for the next, in seconds.

    The thread starts with the first ring, and ends with `close` or with the owner of the step. It
    is started in one atomic step, as callers ring, and Ctrl-C may come between any others.
    """

    def __init__(self, step: Callable[[], float], name: str) -> None:
        self._step = weakref.WeakMethod(step)
        self._name = name
        self._bell, self._over, self._ended = Flag(), Flag(), Flag()
        # An entry until the thread is started: whoever takes it does that.
        self._places: list[tuple[()]] = [()]
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Do the next step now, and once more when one is being done."""
        self._bell.set()
        if self._places and not self._over.is_set():
            # Somebody else was quicker; or no more threads: whoever rings next tries again.
            with contextlib.suppress(IndexError, RuntimeError):
                start_thread(self._places, self._launch)

    def close(self, seconds: float) -> None:
        """End the thread; wait for it at most `seconds`."""
        self._over.set()
        self._bell.set()
        if self._places or self._thread is threading.current_thread():
            return
        until = time.monotonic() + seconds
        self._ended.wait(seconds)
        if self._ended.is_set() and self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))

    def _launch(self) -> None:
        # A daemon: a server that does not answer must not hold up the end of the program.
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads; but this one, a bare one, is there
            self._thread = None
            self._run()

    def _run(self) -> None:
        begun = False
        try:
            while True:
                self._bell.clear()  # before the step: who rings during it gets another
                step = self._step()
                if step is None or (begun and self._over.is_set()):
                    return
                try:
                    seconds = step()
                except BaseException:  # a storage is made by the user's code
                    log_failure("a step of %s failed", step)
                    seconds = _AFTER_A_BUG
                if not 0.0 <= seconds <= _LONGEST:  # no number, say
                    seconds = _AFTER_A_BUG
                del step  # or its owner would live as long as this thread
                # Not before the first step: a client that is closed at once has news, too.
                if self._over.is_set():
                    return
                begun = True
                self._bell.wait(seconds)
        finally:
            self._ended.set()
