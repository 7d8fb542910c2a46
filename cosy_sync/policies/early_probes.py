"""Early probes: when an open breaker may be asked before its time, as bulk work waits for it."""

from __future__ import annotations

__all__ = ["EarlyProbes"]

# Of the breaker's open time: the first pause, and the longest one.
_FIRST, _LONGEST = 1 / 60, 1 / 30
# What each pause is multiplied with after a probe that failed.
_SLOWER = 1.5
# Of the open time: how long another probe waits for the report of one in flight.
_LEASE = 1 / 6


class EarlyProbes:
    """One probe at a time, at first soon, then ever more rarely. The breaker's lock guards it.

    With an open time of 30 s the pauses are 0.5 s, 0.75 s and then 1 s: callers need not wait for
    the rest of the 30 s, and a dead service gets one request a second.
    """

    __slots__ = ("_at", "_open_for", "_pause")

    def __init__(self) -> None:
        # When the next one may go.
        self._at = 0.0
        self._pause = 0.0
        self._open_for = 0.0

    def begin(self, now: float, open_for: float) -> None:
        """Note that the breaker opened for `open_for` seconds."""
        self._open_for = open_for
        self._pause = open_for * _FIRST
        self._at = now + self._pause

    def wait(self, now: float, in_flight: bool) -> float:
        """Return the seconds until the next one; while one is in flight, until its report may have
        come."""
        wait = self._at - now
        return min(wait, self._open_for * _FIRST) if in_flight else wait

    def take(self, now: float) -> None:
        """Note that one was sent."""
        self._at = now + self._open_for * _LEASE

    def end(self, now: float, failed: bool) -> None:
        """Note that one failed, or said nothing about the endpoint."""
        if failed:
            self._pause = min(self._pause * _SLOWER, self._open_for * _LONGEST)
        self._at = now + self._pause
