"""Decide whether, when and how often: pure functions of (state, now) that never wait."""

from .accepted_keys import AcceptedKeys
from .adaptive_rate import AdaptiveRate
from .admission import Admission, Call, FirstTry
from .balancer import LatencyEwma, pick
from .batch_faults import BatchFaults
from .batch_size import BatchSize
from .blame import Blame
from .breaker import Breaker, redis_storage
from .concurrency import Concurrency
from .deadline import Deadline
from .ejection import Ejector, Health
from .hedge import HedgePolicy
from .queue_delay import QueueDelay
from .ratelimit import RateLimiter
from .retry import RetryPolicy
from .retry_budget import RetryBudget
from .silence import Silence, begin_of
from .slow_start import SlowStart
from .throttle import Throttle
from .unanimity import SharedRefusals, Unanimity

__all__ = [
    "AcceptedKeys",
    "AdaptiveRate",
    "Admission",
    "BatchFaults",
    "BatchSize",
    "Blame",
    "Breaker",
    "Call",
    "Concurrency",
    "Deadline",
    "Ejector",
    "FirstTry",
    "Health",
    "HedgePolicy",
    "LatencyEwma",
    "QueueDelay",
    "RateLimiter",
    "RetryBudget",
    "RetryPolicy",
    "SharedRefusals",
    "Silence",
    "SlowStart",
    "Throttle",
    "Unanimity",
    "begin_of",
    "pick",
    "redis_storage",
]
