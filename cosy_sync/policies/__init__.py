"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .admission import Admission, Call, FirstTry
from .balancer import Tempo, pick
from .blame import Blame
from .breaker import Breaker
from .concurrency import Concurrency
from .deadline import Deadline
from .ejection import Ejector, Health
from .hedge import HedgePolicy
from .listeners import redis_storage
from .pace import Pace
from .patience import Patience
from .ratelimit import RateLimiter
from .retry import RetryPolicy
from .retry_budget import RetryBudget
from .slow_start import SlowStart
from .throttle import Throttle

__all__ = [
    "Admission",
    "Blame",
    "Breaker",
    "Call",
    "Concurrency",
    "Deadline",
    "Ejector",
    "FirstTry",
    "Health",
    "HedgePolicy",
    "Pace",
    "Patience",
    "RateLimiter",
    "RetryBudget",
    "RetryPolicy",
    "SlowStart",
    "Tempo",
    "Throttle",
    "pick",
    "redis_storage",
]
