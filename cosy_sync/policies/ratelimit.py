"""The rate limiter: books instants for requests, and lets each go when the log allows it."""

from __future__ import annotations

import contextlib
import math
import threading
from array import array

__all__ = ["RateLimiter"]

# Seconds by which requests may come closer together on their way to the server.
_JITTER = 0.007
# Seconds by which threads that were booked apart may wake closer together, as a rule.
_WAKING = 0.001
# Seconds by which a sum of instants may be off.
_ROUNDING = 1e-6


class RateLimiter:
    """Spaces requests so that no sliding second holds more than `rate` of them.

    Two parts. The generic cell rate algorithm (ITU-T I.371, virtual scheduling) books an instant
    for each request: 5 % of the rate may come as a burst, the rest is spaced evenly, a little
    below the rate. A log of the last instants at which requests really left then lets each go:
    threads wake late, and two that were booked apart must not leave closer together than the
    limit allows; what left later still is corrected in it. Only whole requests fit into a second,
    so a rate above 1 counts without its fraction; below 1 one request fits into 1 / rate seconds.

    What the server counts arrives later than it left, by more or less: the log's second is longer
    by that. The booked one is longer still, so that the log seldom makes anybody wait again.

    A caller that finds `paused_until` ahead when its instant has come must reserve anew:
    waiting for the end of the pause instead, all those who were booked would leave at once.

    Args:
        rate: Requests per second, above 0.
    """

    __slots__ = (
        "_interval",
        "_lock",
        "_log",
        "_oldest",
        "_paused_until",
        "_rate",
        "_span",
        "_tat",
        "_tolerance",
        "burst",
        "sustained",
    )

    def __init__(self, rate: float) -> None:
        self._rate = rate
        count = max(1, math.floor(rate))
        span = 1.0 if rate >= 1 else 1.0 / rate
        self.burst = max(1, count // 20)
        self.sustained = count / (span + _JITTER + _WAKING)
        self._span = span + _JITTER
        self._interval = 1.0 / self.sustained
        self._tolerance = (self.burst - 1) * self._interval + _ROUNDING
        # Guards everything below. The two instants only grow, so they may be read without it.
        self._lock = threading.Lock()
        self._tat = -math.inf  # theoretical arrival time: when the next one of an even flow is due
        self._paused_until = -math.inf
        self._log = array("d", [-math.inf]) * count  # a ring of the last instants at which one left
        self._oldest = 0

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

    def go(self, now: float) -> float:
        """Note that a request leaves now, and return 0; else the seconds after which to ask again.

        To be called at the booked instant or later, just before the request is sent.
        """
        with self._lock:
            wait = self._log[self._oldest] + self._span - now
            if wait > 0.0:
                return wait
            self._log[self._oldest] = now
            self._oldest = (self._oldest + 1) % len(self._log)
            return 0.0

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later.

        A thread may stand still between the two. Told within a second, those who come a second
        later keep their distance from what happened.
        """
        with self._lock, contextlib.suppress(ValueError):
            self._log[self._log.index(went)] = left

    def pause(self, until: float) -> None:
        """Book nothing before that instant. What is booked already stays where it is."""
        with self._lock:
            if until > self._paused_until:
                self._paused_until = until

    def set_rate(self, rate: float) -> None:
        """Space what is booked from now on for another rate, at most the one it was made with.

        What is booked already stays where it is.
        """
        burst = max(1, math.floor(rate) // 20)
        with self._lock:
            self._interval = self._rate / rate / self.sustained
            self._tolerance = (burst - 1) * self._interval + _ROUNDING

    def next_free(self, now: float) -> float:
        """Return the instant that `reserve` would book, without booking it."""
        return max(now, self._tat - self._tolerance, self._paused_until)
