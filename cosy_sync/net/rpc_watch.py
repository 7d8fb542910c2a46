"""Ends gRPC calls that are silent for too long: gRPC itself knows only the end of the whole."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable

from ..threads import open_schedule
from ..user_code import log_failure

__all__ = ["Timer", "Watch"]

# Seconds to wait for the thread of the scheduler, where nobody else needs it.
_MOMENT = 1.0


class Timer:
    """One call's clock, wound up for each wait by the thread that waits."""

    __slots__ = ("_watch", "cancel", "due", "rang", "shortest")

    def __init__(self, watch: Watch, cancel: Callable[[], object], shortest: float) -> None:
        self._watch = watch
        self.cancel = cancel
        self.shortest = shortest
        # When it rings, on the clock of time.monotonic(); belongs to the watch.
        self.due = math.inf
        self.rang = False

    def start(self, seconds: float) -> None:
        """Have the call cancelled in `seconds`."""
        self._watch.set(self, time.monotonic() + seconds)

    def stop(self) -> None:
        """Let the call be."""
        self.due = math.inf

    @property
    def runs(self) -> bool:
        """Return whether somebody waits."""
        return self.due < math.inf


class Watch:
    """Cancels calls whose time is up, as a job of the scheduler."""

    def __init__(self) -> None:
        # Guards: _timers, the dues that are set, _wakes_at, _ringing.
        self._lock = threading.Lock()
        self._timers: set[Timer] = set()
        self._schedule = open_schedule()
        self._wakes_at = math.inf
        # The job that counts; others, for later instants, were set before and do nothing.
        self._ringing: object = None

    def add(self, cancel: Callable[[], object], shortest: float = math.inf) -> Timer:
        """Return a timer that does not run yet.

        Args:
            cancel: Ends the call.
            shortest: Seconds of the shortest wait that the call may still have. The first wait
                prepares for it, so that the scheduler's thread is not woken just as a reply ends.
        """
        timer = Timer(self, cancel, shortest)
        with self._lock:
            self._timers.add(timer)
        return timer

    def remove(self, timer: Timer) -> None:
        """Forget a timer."""
        with self._lock:
            self._timers.discard(timer)

    def set(self, timer: Timer, due: float) -> None:
        """Let a timer ring at an instant."""
        with self._lock:
            timer.due = due
            if due >= self._wakes_at:
                return
            soon = self._wakes_at = min(due, time.monotonic() + timer.shortest)
            ringing = self._ringing = object()
        self._wake_at(soon, ringing)

    def close(self) -> None:
        """Cancel nothing any more."""
        self._schedule.close(_MOMENT)

    def _wake_at(self, due: float, ringing: object) -> None:
        seconds = due - time.monotonic()
        if not self._schedule.after(seconds, functools.partial(self._ring, ringing)):
            with self._lock:  # no more threads; whoever waits next tries again
                self._wakes_at = math.inf

    def _ring(self, ringing: object) -> None:
        """Cancel the calls whose time is up."""
        now = time.monotonic()
        with self._lock:
            if ringing is not self._ringing:
                return
            late = self._find_late(now)
            for timer in late:
                timer.due = math.inf
                timer.rang = True
            soon = self._wakes_at = min(
                (min(timer.due, now + timer.shortest) for timer in self._timers if timer.runs),
                default=math.inf,
            )
            ringing = self._ringing = object()
        if soon < math.inf:
            self._wake_at(soon, ringing)
        for timer in late:
            try:
                timer.cancel()
            except BaseException:
                log_failure("a call whose time is up could not be cancelled")

    def _find_late(self, now: float) -> list[Timer]:
        return [timer for timer in self._timers if timer.due <= now]
