"""A breaker whose state other processes share: through Redis, or a storage of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..clock import Clock
from ..config import ClientConfig, SharingConfig
from ..policies import Breaker, redis_storage
from ..shared import BreakerLink, connect

__all__ = ["link_breaker"]


def link_breaker(
    config: ClientConfig,
    label: str,
    clock: Clock,
    breaker: Breaker,
    tell: Callable[[bool, str], None],
) -> BreakerLink | None:
    """Return what lets a breaker follow those of other processes; None where none is shared."""
    storage, sharing = config.breaker.storage, config.sharing
    if storage is None and sharing.redis_url is not None and sharing.breaker:
        storage = functools.partial(_storage, sharing)
    if storage is None:
        return None
    follow = breaker.follow
    return BreakerLink(storage, label, lambda state, age: follow(state, clock.now(), age), tell)


def _storage(sharing: SharingConfig, label: str) -> Any:
    """Return where a breaker's state is shared. Raises what the Redis client raises."""
    redis = connect(sharing)
    redis.ping()  # pybreaker's storage hides that it cannot be reached
    return redis_storage(redis, f"{sharing.prefix}:{{{label}}}")
