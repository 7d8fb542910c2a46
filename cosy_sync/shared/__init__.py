"""Share a rate limit and a breaker's state with other processes and hosts."""

from .breaker import BreakerLink
from .limiter import Limiter, SharedLimiter
from .places import PlaceBook, SharedPlaces
from .redis_book import RedisBook, connect

__all__ = [
    "BreakerLink",
    "Limiter",
    "PlaceBook",
    "RedisBook",
    "SharedLimiter",
    "SharedPlaces",
    "connect",
]
