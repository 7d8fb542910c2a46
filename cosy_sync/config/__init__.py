"""Settings: the only home of defaults, and what each costs."""

from .amounts import BatchConfig, LimitConfig, PoolConfig, TimeoutConfig
from .client import ClientConfig, Settings
from .endpoint import Endpoint
from .interactive import CoalesceConfig, HedgeConfig
from .survival import BreakerConfig, RetryConfig, VerifyConfig

__all__ = [
    "BatchConfig",
    "BreakerConfig",
    "ClientConfig",
    "CoalesceConfig",
    "Endpoint",
    "HedgeConfig",
    "LimitConfig",
    "PoolConfig",
    "RetryConfig",
    "Settings",
    "TimeoutConfig",
    "VerifyConfig",
]
