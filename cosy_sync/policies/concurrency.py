"""Adaptive concurrency: how many requests may be in flight at an endpoint."""

from __future__ import annotations

import math

__all__ = ["Concurrency"]

# Share of the requests in flight that may meet an overload within one round trip before it counts
# as one: a stray 503 says nothing about the number of requests.
_STRAY = 0.1
# Round trips, and at least seconds, for which a limit that the service has named is kept: trying
# for more costs a refused call each time.
_KEPT_TRIPS, _KEPT_SECONDS = 16, 1.0
# What the longest round trip is multiplied with at each good reply.
_FADING = 0.95


class Concurrency:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989), between 1 and a ceiling.

    It changes once in a round trip: not before a request that was sent after the latest change is
    answered, since the replies to earlier ones do not show its effect; and not faster than good
    replies take, since refusals may come back at once while earlier requests are in flight. Only
    what a service says of its own limit (`crowd`) counts at once. It has no lock: that of its owner
    guards it; the limit may be read without.

    Args:
        ceiling: The most that may be in flight, and what it starts with.
        decrease: What the limit is multiplied with when the endpoint is overloaded.
    """

    def __init__(self, ceiling: int, decrease: float) -> None:
        self._ceiling = ceiling
        self._decrease = decrease
        self._limit = float(ceiling)
        self._lowered_at = float("-inf")
        self._raised_at = float("-inf")
        # Of the latest good reply, and the longest lately.
        self._round_trip = self._longest_trip = 0.0
        self._strays = 0
        self._first_stray_at = float("-inf")
        # The limit that the service has named, and until when it is kept.
        self._told = float(ceiling)
        self._told_until = float("-inf")

    @property
    def limit(self) -> int:
        """Return how many requests may be in flight now."""
        return int(self._limit)

    @property
    def longest_trip(self) -> float:
        """Return about how many seconds the slowest of the latest good replies took."""
        return self._longest_trip

    def strained(self, now: float) -> bool:
        """Return whether fewer may be in flight because the endpoint has too much to do.

        A limit that the service has named is no overload: it is the service's size.
        """
        return self._limit < self._ceiling and now >= self._told_until

    def succeed(self, used: int, started: float, now: float) -> bool:
        """Note a good reply; return whether the limit rose.

        It rises by 1 in a round trip, and only while at least half of it is used: an unused limit
        says nothing about the service.

        Args:
            used: Requests in flight, that of this reply included.
            started: When the request was sent.
            now: The time.
        """
        trip = self._round_trip = now - started
        # A full batch takes longer than a single text: a few of these must not make it forgotten.
        self._longest_trip = max(trip, _FADING * self._longest_trip)
        if self._limit >= self._ceiling:  # almost always
            return False
        if started < self._raised_at or 2 * used < int(self._limit):
            return False
        if now < self._told_until and self._limit >= self._told:
            return False
        self._limit = min(self._limit + 1.0, self._ceiling)
        self._raised_at = now
        return True

    def overload(self, used: int, started: float, now: float, most: float = math.inf) -> bool:
        """Note a 429, a 503 or a time-out; return whether the limit fell.

        Arguments as above; `most` is how many another limit allows: it falls from there.
        """
        if not self._is_over(self._lowered_at, started, now):
            return False
        if self._is_over(self._first_stray_at, started, now):
            self._strays = 0
            self._first_stray_at = now
        self._strays += 1
        if self._strays <= _STRAY * used or self._limit <= 1.0:
            return False
        self._limit = max(1.0, min(self._limit, most) * self._decrease)
        self._lowered_at = self._raised_at = now
        return True

    def crowd(self, used: int, started: float, now: float) -> bool:
        """Note that the service refused a request because too many were in flight; return whether
        the limit fell. Arguments as above.

        That is no guess but a fact: the limit falls at once, to the number in flight without the
        refused ones. Where that is not less, the limit is too high by one, if the request was sent
        under it.
        """
        others = max(1.0, used - 1.0)
        fewer = others
        if others >= self._limit:
            fewer = self._limit - 1.0 if started >= self._lowered_at else self._limit
        fewer = max(1.0, fewer)
        self._told = fewer
        self._told_until = now + max(_KEPT_SECONDS, _KEPT_TRIPS * self._round_trip)
        if fewer >= self._limit:
            return False
        self._limit = fewer
        self._lowered_at = self._raised_at = now
        return True

    def _is_over(self, since: float, started: float, now: float) -> bool:
        """Return whether a round trip has passed since then."""
        return started >= since and now >= since + self._round_trip
