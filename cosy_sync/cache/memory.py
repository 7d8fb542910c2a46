"""A cache in this process's memory, bounded in bytes."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from ..errors import ConfigError
from ..forks import renew_after_fork
from .ports import Entry

__all__ = ["MemoryCache"]


class MemoryCache:
    """Keeps what was used last. A forked child goes on with what its parent had.

    Args:
        max_bytes: What is used least goes where there is more.
    """

    def __init__(
        self, max_bytes: int = 256 << 20, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not (type(max_bytes) is int and max_bytes > 0):
            raise ConfigError(f"max_bytes: must be a whole number above 0, got {max_bytes!r}")
        self.max_bytes = max_bytes
        self._clock = clock
        # Guards: _entries, _bytes.
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0
        _all.add(self)

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return those that are there, by their digests."""
        found, now = {}, self._clock()
        with self._lock:
            for digest in digests:
                entry = self._entries.get(digest)
                if entry is None:
                    continue
                if entry[1] <= now:
                    self._drop(digest)
                    continue
                self._entries.move_to_end(digest)
                found[digest] = entry[0]
        return found

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, in place of what is there for their digests."""
        now = self._clock()
        with self._lock:
            for digest, data, seconds in entries:
                self._drop(digest)
                self._put(digest, data, now + seconds)

    def delete(self, digests: Sequence[str] | None) -> None:
        """Forget these, or everything for None."""
        with self._lock:
            for digest in list(self._entries) if digests is None else digests:
                self._drop(digest)

    def usage(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        with self._lock:
            return len(self._entries), self._bytes

    def _put(self, digest: str, data: bytes, until: float) -> None:
        """Keep one, unless it is too large; the lock is held."""
        if len(data) > self.max_bytes:
            return
        self._entries[digest] = data, until
        self._bytes += len(data)
        while self._bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: str) -> None:
        """Forget one, if it is there; the lock is held."""
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= len(entry[0])

    def __repr__(self) -> str:
        return f"MemoryCache({self.max_bytes})"


_all: weakref.WeakSet[MemoryCache] = weakref.WeakSet()


def _renew_all() -> None:
    # Another thread may have held a lock when the process forked, in the middle of counting.
    for cache in list(_all):
        cache._lock = threading.Lock()
        cache._bytes = sum(len(data) for data, _ in cache._entries.values())


renew_after_fork(_renew_all)
