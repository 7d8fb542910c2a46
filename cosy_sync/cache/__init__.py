"""The audio of texts that were spoken: kept in memory, in a folder or in Redis."""

from .client_cache import CacheStats, ClientCache
from .digest import digest_text, prefix_of
from .disk import DiskCache
from .memory import MemoryCache
from .opening import open_store
from .ports import CacheStore, Entry
from .redis_cache import RedisCache

__all__ = [
    "CacheStats",
    "CacheStore",
    "ClientCache",
    "DiskCache",
    "Entry",
    "MemoryCache",
    "RedisCache",
    "digest_text",
    "open_store",
    "prefix_of",
]
