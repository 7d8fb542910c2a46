"""Which keys an endpoint has accepted: what it then refuses is no matter of the key."""

from __future__ import annotations

import threading

from ..bounded import BoundedCache

__all__ = ["AcceptedKeys"]

# Pairs that are remembered. A program that makes more (a key for each of its users, say) must not
# grow for ever.
_MOST = 4_096


class AcceptedKeys:
    """Pairs of an endpoint and a key with which it has spoken."""

    def __init__(self) -> None:
        # Guards: the changes of _pairs.
        self._lock = threading.Lock()
        self._pairs: BoundedCache[tuple[str, int], None] = BoundedCache(_MOST)

    def add(self, url: str, key: int) -> None:
        """Note that an endpoint has spoken for a key, or what stands for it."""
        with self._lock:
            self._pairs.keep((url, key), None)

    def __contains__(self, pair: tuple[str, int]) -> bool:
        return pair in self._pairs
