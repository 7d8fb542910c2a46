"""The rate limiter: says when the next request may leave, and counts those that left."""

from __future__ import annotations

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
# Latest requests, at least, among which one that left late is looked for.
_RECENT = 4096
# Requests per second that no process sends. A higher limit is kept by spacing alone: there is no
# log, which would take megabytes and never make anybody wait.
_MOST_SENT = 50_000


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

    Above 50 000 requests per second there is no log, and the spacing is 5 % below the rate, by
    which its burst cannot exceed it either. An infinite rate holds nobody up, but for pauses.

    For one thread at a time: whoever shares it brings a lock.

    Args:
        rate: Requests per second, above 0; math.inf for no limit.
    """

    __slots__ = (
        "_distance",
        "_interval",
        "_log",
        "_older",
        "_oldest",
        "_places",
        "_recent",
        "_replaced",
        "_room",
        "_stretch",
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
        # At most so many requests in any stretch of so many seconds.
        self.count, self.span = quota(rate) if rate < math.inf else (0, 1.0)
        self._distance = self.span + _JITTER
        self.burst = _burst(rate)
        self.sustained = self.count / (self.span + _JITTER + _WAKING) if self.count else math.inf
        # How many the log holds; 0 where there is none.
        self._room = self.count if rate <= _MOST_SENT else 0
        if not self._room:
            self.sustained *= 0.95
        # An interval times the rate that it is for.
        self._stretch = rate / self.sustained if rate < math.inf else 1.0
        self._interval = 1.0 / self.sustained
        self._tolerance = (self.burst - 1) * self._interval + _ROUNDING
        self._tat = -math.inf  # theoretical arrival time: when the next one of an even flow is due
        # Seconds beyond its instant after which the next in line looks again.
        self.patience = 0.0
        # The end of the latest pause; an instant in the past when there is none.
        self.paused_until = -math.inf
        # A ring of the last instants at which one left.
        self._log = array("d", [-math.inf]) * self._room
        self._oldest = 0
        # Where the latest are in it, by their instants; of equal ones, the last. Those that were
        # added earlier are in `_older`, until there are as many new ones again.
        self._places: dict[float, int] = {}
        self._older: dict[float, int] = {}
        self._recent = min(_RECENT, self._room)
        # What the latest one took the place of there, until that is given back.
        self._replaced: float | None = None

    def take(self, now: float, due: float = math.inf) -> float:
        """Let a request leave now and return 0; else return the seconds until one may.

        `due` is the instant for which its thread was to wake, if it was given one: a thread that
        wakes late costs the others nothing.
        """
        tat = self._tat
        at = max(tat - self._tolerance, self.paused_until)
        if self._room:
            at = max(at, self._log[self._oldest] + self._distance)
        if at > now:
            return at - now
        start = now if due > now else max(due, now - _LATE)
        self._tat = max(tat, start) + self._interval
        place = self._oldest
        if not self._room:
            self._replaced = -math.inf
            return 0.0
        # As in `note`: every text comes here, and a call costs more than these lines.
        self._replaced, self._log[place] = self._log[place], now
        self._oldest = (place + 1) % self._room
        self._places[now] = place
        if len(self._places) >= self._recent:
            self._older, self._places = self._places, {}
        return 0.0

    def note(self, at: float) -> None:
        """Count a request that left then, whether it might or not."""
        if not self._room:
            return
        place = self._oldest
        self._replaced, self._log[place] = self._log[place], at
        self._oldest = (place + 1) % self._room
        self._places[at] = place
        if len(self._places) >= self._recent:
            self._older, self._places = self._places, {}

    def next_free(self, now: float, ahead: int = 0) -> float:
        """Return when a request may leave, `now` at the earliest, after so many others."""
        at = max(now, self._tat - self._tolerance, self.paused_until)
        if self._room:
            at = max(at, self._log[self._oldest] + self._distance)
        if ahead:
            evenly = max(self._tat, at) + ahead * self._interval - self._tolerance
            return max(at, evenly)
        return at

    def give_back(self) -> None:
        """Take back the latest request: it did not leave after all."""
        if self._replaced is None:
            return
        if self._room:
            self._oldest = (self._oldest - 1) % self._room
            self._change(self._log[self._oldest], self._oldest, self._replaced)
        self._replaced = None
        self._tat -= self._interval

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later.

        Its thread may have been held up between the two. Corrected within a second, the requests
        of the next second keep their distance from the real sending.
        """
        place = self._places.get(went)
        if place is None:
            place = self._older.get(went)
        if place is not None and self._log[place] == went:  # or it has made room for another
            self._change(went, place, left)

    def _change(self, went: float, place: int, at: float) -> None:
        """Put another instant in the place of one; an equal one before it is found next time."""
        self._log[place] = at
        before = (place - 1) % self._room
        places = self._places if went in self._places else self._older
        if self._log[before] == went:
            places[went] = before
        else:
            places.pop(went, None)

    def pause(self, until: float) -> None:
        """Let nothing leave before that instant."""
        self.paused_until = max(self.paused_until, until)

    def set_rate(self, rate: float) -> None:
        """Space what leaves from now on for another rate, at most the one it was made with."""
        self._interval = self._stretch / rate
        self._tolerance = (_burst(rate) - 1) * self._interval + _ROUNDING

    def book(self) -> None:
        """Do nothing: there is nobody to book turns with."""


def _burst(rate: float) -> int:
    return max(1, math.floor(rate) // 20) if rate < math.inf else 1
