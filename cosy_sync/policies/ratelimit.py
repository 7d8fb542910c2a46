"""The rate limiter: says when the next request may leave, and counts those that left."""

from __future__ import annotations

import contextlib
import math
from array import array

from ..config.load import quota

__all__ = ["RateLimiter"]

# Seconds by which requests may come closer together on their way to the server.
_JITTER = 0.007
# Seconds by which threads with different instants usually wake closer together.
_WAKING = 0.001
# Seconds by which a sum of instants may be off.
_ROUNDING = 1e-6
# Seconds by which a request may leave after its instant without the rate being lost.
_LATE = 0.25
# Latest requests among which one that left late is looked for.
_RECENT = 4096


class RateLimiter:
    """Spaces requests so that no sliding second holds more than `rate` of them.

    Two parts, and a request leaves when both allow it. The generic cell rate algorithm (ITU-T
    I.371, virtual scheduling) spaces them: 5 % of the rate may come as a burst, the rest evenly, a
    little below the rate. A log of the last instants at which requests really left keeps those
    apart that were held up: threads wake late, and what left later still is corrected in it. A
    rate with a fraction, or below 1, counts whole requests in a stretch longer than a second:
    2.5/s are 3 in 1.2 s.

    What the server counts arrives later than it left, by more or less: the log's stretch is longer
    by that. The spacing is wider still, so that the log seldom makes anybody wait again.

    For one thread at a time: whoever shares it brings a lock.

    Args:
        rate: Requests per second, above 0.
    """

    __slots__ = (
        "_distance",
        "_interval",
        "_log",
        "_oldest",
        "_rate",
        "_replaced",
        "_tat",
        "_tolerance",
        "burst",
        "count",
        "patience",
        "paused_until",
        "span",
        "sustained",
    )

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # At most so many requests in any stretch of so many seconds.
        self.count, self.span = quota(rate)
        self._distance = self.span + _JITTER
        self.burst = max(1, math.floor(rate) // 20)
        self.sustained = self.count / (self.span + _JITTER + _WAKING)
        self._interval = 1.0 / self.sustained
        self._tolerance = (self.burst - 1) * self._interval + _ROUNDING
        self._tat = -math.inf  # theoretical arrival time: when the next one of an even flow is due
        # Seconds beyond its instant after which the next in line looks again.
        self.patience = 0.0
        # The end of the latest pause; an instant in the past when there is none.
        self.paused_until = -math.inf
        # A ring of the last instants at which one left.
        self._log = array("d", [-math.inf]) * self.count
        self._oldest = 0
        # What the latest one took the place of there, until that is given back.
        self._replaced: float | None = None

    def take(self, now: float, due: float = math.inf) -> float:
        """Let a request leave now and return 0; else return the seconds until one may.

        `due` is the instant for which its thread was to wake, if it was given one: a thread that
        wakes late costs the others nothing.
        """
        tat = self._tat
        log = self._log[self._oldest] + self._distance
        at = max(log, tat - self._tolerance, self.paused_until)
        if at > now:
            return at - now
        start = now if due > now else max(due, now - _LATE)
        self._tat = max(tat, start) + self._interval
        self._replaced, self._log[self._oldest] = self._log[self._oldest], now
        self._oldest = (self._oldest + 1) % self.count
        return 0.0

    def note(self, at: float) -> None:
        """Count a request that left then, whether it might or not."""
        self._replaced, self._log[self._oldest] = self._log[self._oldest], at
        self._oldest = (self._oldest + 1) % self.count

    def next_free(self, now: float, ahead: int = 0) -> float:
        """Return when a request may leave, `now` at the earliest, after so many others."""
        log = self._log[self._oldest] + self._distance
        at = max(now, self._tat - self._tolerance, self.paused_until, log)
        if ahead:
            evenly = max(self._tat, at) + ahead * self._interval - self._tolerance
            return max(at, evenly)
        return at

    def give_back(self) -> None:
        """Take back the latest request: it did not leave after all."""
        if self._replaced is not None:
            self._oldest = (self._oldest - 1) % self.count
            self._log[self._oldest], self._replaced = self._replaced, None
            self._tat -= self._interval

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later.

        Its thread may have been held up between the two. Corrected within a second, the requests
        of the next second keep their distance from the real sending.
        """
        log, end = self._log, self._oldest
        with contextlib.suppress(ValueError):
            log[log.index(went, max(0, end - _RECENT), end)] = left
            return
        with contextlib.suppress(ValueError):
            log[log.index(went, max(end, self.count - _RECENT + end))] = left

    def pause(self, until: float) -> None:
        """Let nothing leave before that instant."""
        self.paused_until = max(self.paused_until, until)

    def set_rate(self, rate: float) -> None:
        """Space what leaves from now on for another rate, at most the one it was made with."""
        burst = max(1, math.floor(rate) // 20)
        self._interval = self._rate / rate / self.sustained
        self._tolerance = (burst - 1) * self._interval + _ROUNDING

    def book(self) -> None:
        """Do nothing: there is nobody to book turns with."""
