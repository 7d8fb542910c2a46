"""Who says when a request may leave: an endpoint's limiter, and the one of all endpoints."""

from __future__ import annotations

from ..clock import Clock
from ..config import SharingConfig
from ..events import Observer, SharingChanged
from ..policies import RateLimiter
from ..shared import Limiter, RedisBook, SharedLimiter

__all__ = ["JointLimiter", "make_limiter"]


def make_limiter(
    label: str, rate: float, sharing: SharingConfig, observer: Observer, clock: Clock
) -> Limiter:
    """Return a limiter of so many requests per second, shared with others where that is set."""
    if sharing.redis_url is None:
        return RateLimiter(rate)

    def tell(shared: bool, reason: str) -> None:
        observer.on_event(SharingChanged(label, "rate limit", shared, reason))

    book = RedisBook(sharing, label, rate)
    return SharedLimiter(rate, book, RateLimiter, clock, tell, sharing.clients)


class JointLimiter:
    """An endpoint's own limiter, and the one of all endpoints together: both must agree.

    Pauses and lowered rates are the endpoint's own.
    """

    def __init__(self, own: Limiter, common: Limiter) -> None:
        self._own = own
        self._common = common

    @property
    def paused_until(self) -> float:
        """Return the end of the endpoint's latest pause."""
        return self._own.paused_until

    def reserve(self, now: float, latest: float) -> float | None:
        """Book both turns and return the later instant; None when it would come after `latest`."""
        common = self._common.reserve(now, latest)
        own = None if common is None else self._own.reserve(now, latest)
        return None if common is None or own is None else max(common, own)

    def go(self, now: float) -> float:
        """Note that a request leaves now, and return 0; else the seconds until asking again."""
        return self._own.go(now) or self._common.go(now)

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later."""
        self._own.correct(went, left)
        self._common.correct(went, left)

    def pause(self, until: float) -> None:
        """Book nothing for this endpoint before that instant."""
        self._own.pause(until)

    def next_free(self, now: float) -> float:
        """Return the instant that `reserve` would book, without booking it."""
        return max(self._own.next_free(now), self._common.next_free(now))

    def set_rate(self, rate: float) -> None:
        """Lower the endpoint's own rate, or give it back."""
        self._own.set_rate(rate)
