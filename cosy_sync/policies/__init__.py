"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .breaker import Admission, Breaker
from .concurrency import Concurrency
from .deadline import Deadline
from .pace import Pace
from .ratelimit import RateLimiter
from .retry import RetryPolicy
from .retry_budget import RetryBudget
from .throttle import Throttle

__all__ = [
    "Admission",
    "Breaker",
    "Concurrency",
    "Deadline",
    "Pace",
    "RateLimiter",
    "RetryBudget",
    "RetryPolicy",
    "Throttle",
]
