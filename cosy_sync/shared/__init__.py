"""Share a rate limit and a breaker's state with other processes and hosts."""

from .breaker import BreakerLink
from .limiter import Limiter, SharedLimiter
from .redis_book import RedisBook, connect

__all__ = ["BreakerLink", "Limiter", "RedisBook", "SharedLimiter", "connect"]
