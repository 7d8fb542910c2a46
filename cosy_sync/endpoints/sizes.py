"""How many texts a call to an endpoint may have, as all threads learn and ask it."""

from __future__ import annotations

import threading

from ..policies import BatchSize

__all__ = ["EndpointSizes"]


class EndpointSizes(BatchSize):
    """What an endpoint's calls have shown of their sizes; `lock`, the endpoint's, guards it."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self._lock = lock

    def at_most(self, texts: int, now: float) -> int:
        """Return how many of so many texts the next call may have."""
        if self.limit is None:
            return texts
        with self._lock:
            return self.most(texts, now)

    def lets_try(self, texts: int, safe: bool, now: float) -> bool:
        """Return whether so many texts may be sent after fewer of them passed; more than ever
        passed only where it is safe."""
        with self._lock:
            return (safe or texts <= self.best) and self.may_try(texts, now)

    def note(self, texts: int, answered: bool, now: float) -> None:
        """Note whether a call of so many texts was answered, or was or may have been too large."""
        with self._lock:
            if answered:
                self.succeed(texts, now)
            else:
                self.fail(texts, now)

    def note_parts(self, failed: int, passed: int, sure: bool, now: float) -> None:
        """Note that so many texts failed in one call, and all of them passed in smaller ones;
        whether that is sure to be no chance."""
        with self._lock:
            if sure:
                self.learn(failed, passed, now)
            else:
                self.doubt(failed, passed, now)
