"""Settings: the only home of defaults, and what each costs."""

from .amounts import BatchConfig, LimitConfig, PoolConfig, TimeoutConfig
from .caching import CacheConfig
from .canary import CanaryConfig, Variant
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
    "CanaryConfig",
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
    "Variant",
    "VerifyConfig",
]
