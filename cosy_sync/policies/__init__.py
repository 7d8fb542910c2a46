"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .balancer import Pace, pick
from .breaker import Admission, Breaker
from .deadline import Deadline
from .ejection import Ejector, Health
from .ratelimit import RateLimiter
from .retry import RetryPolicy

__all__ = [
    "Admission",
    "Breaker",
    "Deadline",
    "Ejector",
    "Health",
    "Pace",
    "RateLimiter",
    "RetryPolicy",
    "pick",
]
