"""The rate limiter: books the instants at which requests may be sent, first come first served."""

from __future__ import annotations

import math
import threading

__all__ = ["RateLimiter"]


class RateLimiter:
    """Spaces requests so that no sliding second holds more than `rate` of them.

    The generic cell rate algorithm (ITU-T I.371, virtual scheduling). 5 % of the rate may come as
    a burst and the rest is spaced at 95 %: of 100 per second, bursts of 5 and 95 per second.
    Where d is the time between the first and the last of k booked instants, k <= 1 + sustained x d
    + (burst - 1); within a half-open second d < 1, so k < sustained + burst, and the two are
    chosen so that this leaves k <= rate with room for rounding. Only whole requests fit into a
    second, so a rate above 1 counts without its fraction; below 1 the spacing is 1 / (0.95 rate).

    The promise is about booked instants. A thread that sleeps until its own wakes late, never
    early, so two requests may leave closer together than they were booked; the 5 % are for that.

    A caller that finds `paused_until` ahead when its instant has come must reserve anew:
    waiting for the end of the pause instead, all those who were booked would leave at once.

    Args:
        rate: Requests per second, above 0.
    """

    __slots__ = ("_interval", "_lock", "_paused_until", "_tat", "_tolerance", "burst", "sustained")

    def __init__(self, rate: float) -> None:
        self.burst = max(1, int(rate // 20))
        self.sustained = 0.95 * (math.floor(rate) if rate >= 1 else rate)
        self._interval = 1.0 / self.sustained
        self._tolerance = (self.burst - 1) * self._interval
        # Guards the two instants below. Both only grow, so they may be read without it.
        self._lock = threading.Lock()
        self._tat = -math.inf  # theoretical arrival time: when the next one of an even flow is due
        self._paused_until = -math.inf

    @property
    def paused_until(self) -> float:
        """Return the end of the latest pause; an instant in the past when there is none."""
        return self._paused_until

    def reserve(self, now: float, latest: float) -> float | None:
        """Book the next free instant and return it; `now` itself when it is free.

        Returns None, with nothing booked, when that instant would be after `latest`.
        """
        with self._lock:
            tat = self._tat
            at = tat - self._tolerance
            if at < now:
                at = now
            if at < self._paused_until:
                at = self._paused_until
            if at > latest:
                return None
            self._tat = (tat if tat > at else at) + self._interval
            return at

    def pause(self, until: float) -> None:
        """Book nothing before that instant. What is booked already stays where it is."""
        with self._lock:
            if until > self._paused_until:
                self._paused_until = until

    def set_rate(self, rate: float) -> None:
        """Space what is booked from now on for another rate, at most the one it was made with.

        What is booked already stays where it is.
        """
        with self._lock:
            self._interval = 1.0 / (0.95 * rate)
            self._tolerance = (max(1, int(rate // 20)) - 1) * self._interval

    def next_free(self, now: float) -> float:
        """Return the instant that `reserve` would book, without booking it."""
        return max(now, self._tat - self._tolerance, self._paused_until)
