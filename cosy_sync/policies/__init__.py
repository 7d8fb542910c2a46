"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .accepted_keys import AcceptedKeys
from .balancer import Tempo, pick
from .batch_size import BatchSize
from .breaker import Admission, Breaker
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
from .unanimity import Unanimity

__all__ = [
    "AcceptedKeys",
    "Admission",
    "BatchSize",
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
    "Unanimity",
    "pick",
]
