"""One endpoint as the engine sees it: its limits, its breaker, and who is in flight there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..config import BreakerConfig, Endpoint
from ..errors import CosyError
from ..events import BreakerChanged, Observer
from ..policies import Breaker, RateLimiter
from .budget import Permits

__all__ = ["Station", "choose"]


class Station:
    """The state that all callers of one endpoint share."""

    def __init__(self, endpoint: Endpoint, breaker: BreakerConfig, observer: Observer) -> None:
        self.endpoint = endpoint
        self.label = endpoint.label
        self._observer = observer
        self.slots = Permits(endpoint.max_connections)
        self.limiter = RateLimiter(endpoint.rate)
        self.breaker = Breaker(breaker, self.label, on_change=self._tell)

    def load(self) -> float:
        """Return how busy it is: requests in flight as a share of its weight."""
        return self.slots.used / self.endpoint.weight

    def obey(self, error: CosyError, now: float) -> None:
        """Pause when the service said when to come back."""
        retry_after: float | None = getattr(error, "retry_after", None)
        if retry_after is not None and retry_after > 0:
            self.limiter.pause(now + retry_after)

    def _tell(self, old: str, new: str) -> None:
        self._observer.on_event(BreakerChanged(self.label, old, new))


def choose(stations: Sequence[Station], avoid: Collection[Station], now: float) -> Station:
    """Pick the endpoint for an attempt: breaker closed, not just failed, least busy."""
    if len(stations) == 1:
        return stations[0]
    return min(stations, key=lambda s: (s.breaker.remaining(now), s in avoid, s.load()))
