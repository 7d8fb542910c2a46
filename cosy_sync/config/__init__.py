"""Settings: the only home of defaults, and what each costs."""

from .amounts import BatchConfig, LimitConfig, PoolConfig, TimeoutConfig
from .client import ClientConfig, Settings
from .endpoint import Endpoint
from .survival import BreakerConfig, EjectionConfig, RetryConfig, VerifyConfig

__all__ = [
    "BatchConfig",
    "BreakerConfig",
    "ClientConfig",
    "EjectionConfig",
    "Endpoint",
    "LimitConfig",
    "PoolConfig",
    "RetryConfig",
    "Settings",
    "TimeoutConfig",
    "VerifyConfig",
]
