"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .balancer import Tempo, pick
from .breaker import Admission, Breaker, redis_storage
from .concurrency import Concurrency
from .deadline import Deadline
from .ejection import Ejector, Health
from .hedge import HedgePolicy
from .pace import Pace
from .patience import Patience
from .ratelimit import RateLimiter
from .retry import RetryPolicy
from .retry_budget import RetryBudget
from .throttle import Throttle

__all__ = [
    "Admission",
    "Breaker",
    "Concurrency",
    "Deadline",
    "Ejector",
    "Health",
    "HedgePolicy",
    "Pace",
    "Patience",
    "RateLimiter",
    "RetryBudget",
    "RetryPolicy",
    "Tempo",
    "Throttle",
    "pick",
    "redis_storage",
]
