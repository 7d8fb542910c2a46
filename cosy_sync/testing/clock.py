"""A clock that moves only when somebody waits on it."""

from __future__ import annotations

import threading

__all__ = ["FakeClock"]


class FakeClock:
    """Waiting takes no time and moves the clock by as much as was asked for.

    `waits` lists the seconds of every wait, so that a test can look at a schedule.
    """

    def __init__(self, start: float = 1000.0) -> None:
        # Guards: _now, waits.
        self._lock = threading.Lock()
        self._now = start
        self.waits: list[float] = []

    def now(self) -> float:
        """Return the clock's seconds."""
        with self._lock:
            return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move the clock, unless the event is set already; return whether it is set."""
        if event.is_set():
            return True
        with self._lock:
            self.waits.append(seconds)
            self._now += seconds
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        with self._lock:
            self._now += seconds
