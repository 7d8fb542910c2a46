"""What a user does with a client's cache: look at it, and forget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import CallSettings
from ..models import Audio
from ..stats import Stats
from .entry import decode
from .ports import CacheStore, MeasuredStore

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CacheStats", "ClientCache"]


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """What the cache did for this client, and what is in it.

    `hits` texts were answered out of it, `bytes_saved` of audio, and `misses` were not in it; as
    in Stats, they count since the client was made. `entries` and `bytes` are those of the last of
    several stores, and None where it does not tell.
    """

    hits: int
    misses: int
    bytes_saved: int
    entries: int | None
    bytes: int | None


class ClientCache:
    """The cache of one client, or of a view of it."""

    def __init__(
        self,
        stores: Sequence[CacheStore],
        digest: Callable[..., str],
        stats: Callable[[], Stats],
    ) -> None:
        self._stores, self._digest, self._stats = stores, digest, stats

    def stats(self) -> CacheStats:
        """Return the counters; looks at every entry of a folder or of Redis.

        Raises what the store raises, such as OSError or redis.ConnectionError.
        """
        store, told = self._stores[-1], self._stats()
        entries = size = None
        if isinstance(store, MeasuredStore):
            entries, size = store.usage()
        return CacheStats(
            hits=told.cache_hits,
            misses=told.cache_misses,
            bytes_saved=told.cache_bytes,
            entries=entries,
            bytes=size,
        )

    def known(self, digests: Sequence[str]) -> set[str]:
        """Return which of these digests, as `client.digest` says them, have audio that may be used.

        Reads all of it. Raises what the store raises.
        """
        found: set[str] = set()
        for store in self._stores:
            missing = [digest for digest in digests if digest not in found]
            there = store.get_many(missing) if missing else {}
            found.update(digest for digest, data in there.items() if _is_fresh(digest, data))
        return found

    def invalidate(self, text: str, **settings: Unpack[CallSettings]) -> None:
        """Forget a text as this client, or view, has it spoken, or a call with these settings: the
        next one has it spoken anew.

        Raises InvalidTextError for what is no text, or what the store raises.
        """
        digest = self._digest(text, **settings)
        for store in reversed(self._stores):
            store.delete([digest])

    def clear(self) -> None:
        """Forget everything, also what other clients have put there. Raises what the store
        raises."""
        for store in reversed(self._stores):
            store.delete(None)

    def __repr__(self) -> str:
        return f"<ClientCache {', '.join(map(repr, self._stores))}>"


def _is_fresh(digest: str, data: bytes) -> bool:
    try:
        entry = decode(digest, data)
    except ValueError:
        return False
    return isinstance(entry.result, Audio) and entry.until > time.time()
