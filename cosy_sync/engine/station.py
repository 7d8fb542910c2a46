"""One endpoint as the engine sees it: its limits, its breaker, and who is in flight there."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Sequence

from ..config import BreakerConfig, Endpoint, OverloadConfig
from ..errors import CosyError
from ..events import BreakerChanged, Observer
from ..policies import Breaker, RateLimiter
from .budget import Permits
from .governor import Governor

__all__ = ["Station", "choose"]

# Seconds of Retry-After that are obeyed at most: one odd reply must not disable an endpoint.
_LONGEST_PAUSE = 600.0
# An endpoint that takes requests within so many seconds is as good as free.
_SOON = 1.0
# Waits that differ by less than so many seconds are alike, and the load decides.
_ALIKE = 0.05


class Station:
    """The state that all callers of one endpoint share."""

    def __init__(
        self,
        endpoint: Endpoint,
        breaker: BreakerConfig,
        observer: Observer,
        overload: OverloadConfig,
    ) -> None:
        self.endpoint = endpoint
        self.label = endpoint.label
        self._observer = observer
        self.slots = Permits(endpoint.max_connections)
        self.limiter = RateLimiter(endpoint.rate)
        self.breaker = Breaker(breaker, self.label, on_change=self._tell)
        self.governor = Governor(endpoint, overload, self.slots, self.limiter, observer)

        # Guards: _busy, the attempts that are in flight or wait for their turn.
        self._lock = threading.Lock()
        self._busy = 0

    def join(self) -> None:
        """Note that an attempt begins."""
        with self._lock:
            self._busy += 1

    def leave(self) -> None:
        """Note that an attempt ended."""
        with self._lock:
            self._busy -= 1

    def wait(self, now: float) -> float:
        """Return the seconds until it takes a request: breaker, rate limit, Retry-After."""
        return max(self.breaker.remaining(now), self.limiter.next_free(now) - now)

    def load(self) -> float:
        """Return how busy it is for its weight.

        Between equals a draw decides: the least of exponential draws falls to each according to
        its weight.
        """
        return (self._busy + random.expovariate(1.0)) / self.endpoint.weight

    def obey(self, error: CosyError, now: float) -> None:
        """Pause when the service said when to come back, but not for ever."""
        retry_after: float | None = getattr(error, "retry_after", None)
        if retry_after is not None and retry_after > 0:
            self.limiter.pause(now + min(retry_after, _LONGEST_PAUSE))

    def _tell(self, old: str, new: str) -> None:
        self._observer.on_event(BreakerChanged(self.label, old, new))


def choose(stations: Sequence[Station], avoid: Collection[Station], now: float) -> Station:
    """Pick the endpoint for an attempt: ready soon, not the one that just failed, least busy."""
    if len(stations) == 1:
        return stations[0]

    def rank(station: Station) -> tuple[bool, bool, int, float]:
        wait = station.wait(now)
        return wait > _SOON, station in avoid, int(wait / _ALIKE), station.load()

    return min(stations, key=rank)
