"""Settings: the only home of defaults, and what each costs."""

from .amounts import BatchConfig, LimitConfig, PoolConfig, TimeoutConfig
from .caching import CacheConfig
from .client import CallSettings, ClientConfig, Settings
from .endpoint import Endpoint
from .interactive import CoalesceConfig, HedgeConfig
from .narration import NarrationConfig
from .sharing import SharingConfig
from .survival import BreakerConfig, EjectionConfig, OverloadConfig, RetryConfig, VerifyConfig

__all__ = [
    "BatchConfig",
    "BreakerConfig",
    "CacheConfig",
    "CallSettings",
    "ClientConfig",
    "CoalesceConfig",
    "EjectionConfig",
    "Endpoint",
    "HedgeConfig",
    "LimitConfig",
    "NarrationConfig",
    "OverloadConfig",
    "PoolConfig",
    "RetryConfig",
    "Settings",
    "SharingConfig",
    "TimeoutConfig",
    "VerifyConfig",
]
