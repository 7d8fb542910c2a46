"""Stores as users name them."""

from __future__ import annotations

import os
import re
from typing import Any

from ..errors import ConfigError
from .disk import DiskCache
from .memory import MemoryCache
from .ports import CacheStore
from .redis_cache import RedisCache

__all__ = ["open_store"]

# What looks like an address; as a folder's name it would be taken silently. C:/ is none.
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+:/|(rediss?|unix)(:|//)", re.IGNORECASE)


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
    if found := _ADDRESS.match(given):  # what follows may be a password
        raise ConfigError(
            f"cache: {found[0] + '...'!r} is no place for one; expected 'memory', a folder, or a "
            "URL like redis://host:6379/0 (before a folder of such a name write ./)"
        )
    return DiskCache(given)
