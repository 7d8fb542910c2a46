"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .breaker import Admission, Breaker
from .deadline import Deadline
from .hedge import HedgePolicy
from .ratelimit import RateLimiter
from .retry import RetryPolicy

__all__ = ["Admission", "Breaker", "Deadline", "HedgePolicy", "RateLimiter", "RetryPolicy"]
