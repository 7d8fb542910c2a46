"""Waiting for a text that another process is having spoken."""

from __future__ import annotations

from ..atomic import Flag
from ..clock import Clock
from ..errors import ClosedError
from ..policies import Deadline

__all__ = ["Waits"]

# Seconds between two looks, from the first on; each is twice the one before.
_FIRST = 0.01
_LONGEST = 0.2


class Waits:
    """Lets callers wait between two looks, until the client is closed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._closing = Flag()

    def pause(self, looks: int, deadline: Deadline) -> None:
        """Wait a moment, after so many looks. Raises DeadlineError or ClosedError."""
        left = deadline.remaining(self.clock.now())
        if left <= 0:
            raise deadline.error("waiting for another process, which is having the text spoken")
        seconds = min(left, _LONGEST, _FIRST * 2 ** min(looks, 10))
        if self.clock.wait(self._closing, seconds):
            raise ClosedError("the client is closed; make a new one")

    def close(self) -> None:
        """End all waits."""
        self._closing.set()
