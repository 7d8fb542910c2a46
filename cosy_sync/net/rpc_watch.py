"""Ends gRPC calls that are silent for too long: gRPC itself knows only the end of the whole."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable

__all__ = ["Timer", "Watch"]

# Seconds after which the thread ends when there is nothing to watch.
_LINGER = 5.0


class Timer:
    """One call's clock, wound up for each wait by the thread that waits."""

    __slots__ = ("_watch", "cancel", "due", "rang")

    def __init__(self, watch: Watch, cancel: Callable[[], object]) -> None:
        self._watch = watch
        self.cancel = cancel
        # When it rings, on the clock of time.monotonic(); belongs to the watch.
        self.due = math.inf
        self.rang = False

    def start(self, seconds: float) -> None:
        """Have the call cancelled in so many seconds."""
        self._watch.set(self, time.monotonic() + seconds)

    def stop(self) -> None:
        """Let the call be."""
        self.due = math.inf


class Watch:
    """Cancels calls whose time is up, on a thread that runs while there are calls."""

    def __init__(self) -> None:
        # Guards: _timers, the dues that are set, _wakes_at, _keeper, _closed.
        self._lock = threading.Lock()
        self._timers: set[Timer] = set()
        self._wake = threading.Event()
        self._wakes_at = -math.inf
        self._keeper: threading.Thread | None = None
        self._closed = False

    def add(self, cancel: Callable[[], object]) -> Timer:
        """Return a timer that does not run yet."""
        timer = Timer(self, cancel)
        with self._lock:
            self._timers.add(timer)
        return timer

    def remove(self, timer: Timer) -> None:
        """Forget a timer."""
        with self._lock:
            self._timers.discard(timer)

    def set(self, timer: Timer, due: float) -> None:
        """Let a timer ring at an instant."""
        starting = None
        with self._lock:
            timer.due = due
            if self._keeper is None and not self._closed:
                starting = self._keeper = threading.Thread(
                    target=self._keep, name="cosy-rpc-watch", daemon=True
                )
            early = due < self._wakes_at
        if starting is not None:
            self._start(starting)
        elif early:
            self._wake.set()

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            keeper = self._keeper
        self._wake.set()
        if keeper is not None and keeper is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # not started yet: then it ends by itself
                keeper.join()

    def _start(self, keeper: threading.Thread) -> None:
        try:
            keeper.start()
        except RuntimeError:  # no more threads; whoever waits next tries again
            with self._lock:
                self._keeper = None

    def _keep(self) -> None:
        idle = False
        while True:
            now = time.monotonic()
            with self._lock:
                if self._closed or (idle and not self._timers):
                    self._keeper = None
                    return
                late = [timer for timer in self._timers if timer.due <= now]
                for timer in late:
                    timer.due = math.inf
                    timer.rang = True
                next_due = min((timer.due for timer in self._timers), default=math.inf)
                self._wakes_at = min(next_due, now + _LINGER)
                seconds = self._wakes_at - now
                idle = not self._timers
            for timer in late:
                timer.cancel()
            idle = not self._wake.wait(seconds) and idle
            self._wake.clear()
