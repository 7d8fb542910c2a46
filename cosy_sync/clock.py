"""Time: a protocol that tests replace, and the system's clock."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Monotonic seconds, and a wait that an event ends early."""

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; return whether it was set."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    now = staticmethod(time.monotonic)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; return whether it was set."""
        return event.wait(seconds)
