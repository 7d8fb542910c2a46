"""Stores as users name them."""

from __future__ import annotations

import os
from typing import Any

from .disk import DiskCache
from .memory import MemoryCache
from .ports import CacheStore
from .redis_cache import RedisCache

__all__ = ["open_store"]


def open_store(given: Any) -> CacheStore:
    """Return the store that a name means: "memory", a redis:// URL or a folder; a store stays as
    it is. Raises ConfigError."""
    if isinstance(given, os.PathLike):
        return DiskCache(given)
    if not isinstance(given, str):
        store: CacheStore = given
        return store
    if given == "memory":
        return MemoryCache()
    if given.partition("://")[0] in ("redis", "rediss", "unix") and "://" in given:
        return RedisCache(given)
    return DiskCache(given)
