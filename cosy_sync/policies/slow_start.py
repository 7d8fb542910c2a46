"""Slow start: how many requests an endpoint is given before it has shown what it can do."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["SlowStart"]

# Share of the patience within which replies may come late without proof that waiting pays.
_FREE = 1 / 6
# Share of the patience from which on replies are so late that fewer requests are tried.
_LATE = 1 / 2
# What the limit is multiplied with to see whether more requests bring more: at first, where
# nothing waits at the service though replies take long, and once a limit was found.
_CLIMB, _CALM_CLIMB, _PROBE = 3.0, 2.0, 1.5
# Share of what more requests could bring that they must bring.
_GAIN = 0.5
# Share of the throughput that fewer requests must keep to be enough: half as many bring all of it
# where the rest only waited, and half of it where none did.
_ENOUGH = 0.7
# Seconds, and latencies, until a limit that was found is questioned again; doubled each time.
_HOLD = 30.0
_HOLD_TRIPS = 8
_LONGEST_HOLD = 600.0


@dataclass(frozen=True, slots=True)
class _Round:
    """What a round has shown: the limit, the mean seconds of a reply, and characters per second:
    by the latencies (`speed`), and as they were counted (`spoken`)."""

    limit: int
    latency: float
    speed: float
    spoken: float


class SlowStart:
    """Finds the number of requests in flight from which on more would only wait at the service.

    The limit starts at a few requests. What is answered within a sixth of the patience may be in
    flight without proof: a service that gains nothing by it answers in time all the same. More
    than that is tried for a round: the limit is multiplied, and stays if the characters spoken
    per second rise by at least half as much; else it goes back, and is questioned again after a
    while. Where replies take longer than half of the patience, fewer requests are tried: they stay
    if they bring as much. After TCP's slow start (RFC 5681) and the limits by gradient of TCP
    Vegas and Netflix's concurrency-limits.

    A round ends when as many requests as the limit, all sent since it began, are answered. A round
    in which less than half of the limit was used says nothing. More are judged by the mean number
    in flight over the mean latency (Little's law), which bursts of replies do not disturb; fewer
    by what was spoken meanwhile, which does not depend on how long the line was before.

    It has no lock: that of its owner guards it; `limit`, how many requests may be in flight now,
    may be read without. A good reply says nothing, as most do, where that is the ceiling, and it
    took no longer than `late` seconds.

    Args:
        ceiling: The most that may be in flight.
        patience: Seconds within which replies should come.
        start: Requests in flight at an endpoint of which nothing is known.
    """

    def __init__(self, ceiling: int, patience: float, start: int) -> None:
        self._start = min(start, ceiling)
        self.ceiling = ceiling
        self._patience = patience
        self.late = _LATE * patience
        self._replies = self._used = self._chars = self._spoken = 0
        self._seconds = 0.0
        self._reset(-math.inf)

    def restart(self, now: float) -> None:
        """Forget what was learned: the endpoint was away, and may be weaker than before."""
        self._reset(now)

    def succeed(self, used: int, started: float, now: float, chars: int) -> bool:
        """Note a good reply that says something; return whether the limit changed.

        Args:
            used: Requests in flight, that of this reply included.
            started: When the request was sent.
            now: The time.
            chars: Characters of its texts.
        """
        seconds = now - started
        self._spoken += chars
        full = self.limit >= self.ceiling
        if full and not self._replies:  # only late replies come here: begin with the first
            self._since, self._spoken = now, 0
        elif self._since == -math.inf:
            self._since = started
        if seconds <= 0.0 or (started < self._began and not full):
            return False
        self._replies += 1
        self._used += min(used, self.limit)
        self._seconds += seconds
        self._chars += chars
        # Late replies need a quick answer; but several that come together do not show a pace.
        enough = max(4, self.limit // 4) if full else self.limit
        soon = 2.0 * (now - self._since) * self._replies < self._seconds
        if self._replies < enough or soon:
            return False
        before = self.limit
        self._judge(now)
        self._begin(now)
        return self.limit != before

    # -- inside ---------------------------------------------------------------------------------

    def _reset(self, now: float) -> None:
        self.limit: int = self._start
        # The round before the limit was changed to see whether that pays.
        self._before: _Round | None = None
        self._hold = _HOLD
        self._hold_until = -math.inf
        self._begin(now)

    def _begin(self, now: float) -> None:
        """Begin a round: count only what is sent from now on."""
        self._began = self._since = now
        self._replies = self._used = self._chars = self._spoken = 0
        self._seconds = 0.0

    def _judge(self, now: float) -> None:
        """Decide what the round that ends says about the limit."""
        count, in_flight = self._replies, self._used / self._replies
        if 2.0 * in_flight < self.limit:
            return
        latency = self._seconds / count
        speed = in_flight * self._chars / self._seconds
        this = _Round(self.limit, latency, speed, self._spoken / (now - self._since))
        free = in_flight * _FREE * self._patience / latency
        before, self._before = self._before, None
        factor = self._next_factor(this, before)
        if factor is None:
            self._hold_until = now + max(self._hold, _HOLD_TRIPS * latency)
            self._hold = min(2.0 * self._hold, _LONGEST_HOLD)
        if self.limit < self.ceiling and free >= self.limit + 1:
            self.limit = min(self.ceiling, int(free))
        elif factor is not None and now >= self._hold_until:
            base = this if before is None or self.limit == this.limit else before
            self.limit = max(1, min(int(self.limit * factor), self.ceiling))
            if self.limit != base.limit:
                self._before = base

    def _next_factor(self, this: _Round, before: _Round | None) -> float | None:
        """End a trial, going back to the round before if it did not pay; return what to multiply
        the limit with next, None to keep it."""
        late = this.latency > self.late
        if before is None:
            most = _CLIMB if self._hold_until == -math.inf else _PROBE
            return 0.5 if late else min(most, self._patience / this.latency)
        if this.limit > before.limit:
            # While the queue at the service is still growing, its first requests are answered
            # earlier than later ones will be: less than half of the possible gain may be just that.
            possible = this.limit / before.limit - 1.0
            if this.speed / before.speed - 1.0 < _GAIN * possible:
                # So many requests bring what was spoken now, at what each brought before.
                suffice = int(before.limit * this.spoken / before.spoken)
                self.limit = max(before.limit, min(suffice, this.limit - 1))
                return None
        elif this.spoken >= _ENOUGH * before.spoken:
            return 0.5 if late else None
        else:
            self.limit = before.limit
        # Nothing waits at the service. Where it is slow all the same, it may still speak more texts
        # at once.
        return None if this.limit >= self.ceiling else _CALM_CLIMB if late else _CLIMB
