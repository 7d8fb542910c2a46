"""One endpoint as the engine sees it: its limits, its breaker, and who is in flight there."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Collection, Sequence

from ..clock import Clock
from ..config import BreakerConfig, ClientConfig, Endpoint, SharingConfig
from ..errors import CosyError
from ..events import BreakerChanged, Observer, SharingChanged
from ..policies import Breaker, RateLimiter
from ..shared import BreakerLink, Limiter, RedisBook, SharedLimiter
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
        self, endpoint: Endpoint, config: ClientConfig, observer: Observer, clock: Clock
    ) -> None:
        self.endpoint = endpoint
        self.label = endpoint.label
        self._observer = observer
        self.slots = Permits(endpoint.max_connections)
        self.limiter = self._limiter(config.sharing, clock)
        self.breaker = Breaker(
            config.breaker, self.label, on_change=self._tell, listeners=config.breaker.listeners
        )
        self._link = self._link_breaker(config.breaker, clock)
        self.governor = Governor(endpoint, config.overload, self.slots, self.limiter, observer)

        # Guards: _busy, the attempts that are in flight or wait for their turn.
        self._lock = threading.Lock()
        self._busy = 0

    def join(self) -> None:
        """Note that an attempt begins."""
        if self._link is not None:
            self._link.start()
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

    def close(self, seconds: float) -> None:
        """End what shares limiter and breaker with others; wait at most so many seconds."""
        if isinstance(self.limiter, SharedLimiter):
            self.limiter.close(seconds)
        if self._link is not None:
            self._link.close(seconds)

    def _limiter(self, sharing: SharingConfig, clock: Clock) -> Limiter:
        rate = self.endpoint.rate
        if sharing.redis_url is None:
            return RateLimiter(rate)
        book = RedisBook(sharing, self.label, rate)
        tell = functools.partial(self._tell_sharing, "rate limit")
        return SharedLimiter(rate, book, RateLimiter, clock, tell, sharing.clients)

    def _link_breaker(self, config: BreakerConfig, clock: Clock) -> BreakerLink | None:
        if config.storage is None:
            return None
        breaker = self.breaker
        return BreakerLink(
            config.storage,
            self.label,
            lambda state, age: breaker.follow(state, clock.now(), age),
            functools.partial(self._tell_sharing, "breaker"),
        )

    def _tell(self, old: str, new: str) -> None:
        if self._link is not None:
            self._link.publish(new)
        self._observer.on_event(BreakerChanged(self.label, old, new))

    def _tell_sharing(self, what: str, shared: bool, reason: str) -> None:
        self._observer.on_event(SharingChanged(self.label, what, shared, reason))


def choose(stations: Sequence[Station], avoid: Collection[Station], now: float) -> Station:
    """Pick the endpoint for an attempt: ready soon, not the one that just failed, least busy."""
    if len(stations) == 1:
        return stations[0]

    def rank(station: Station) -> tuple[bool, bool, int, float]:
        wait = station.wait(now)
        return wait > _SOON, station in avoid, int(wait / _ALIKE), station.load()

    return min(stations, key=rank)
