"""A store whose failures are misses: logged once a minute, and left alone for a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from ..user_code import goes_on
from .ports import CacheStore, Entry, LeasingStore

__all__ = ["GuardedStore"]

# Seconds between two log lines of one store.
_QUIET = 60.0
# Seconds for which a store that failed is not asked again: it may take its time-out each time.
_PAUSE = 2.0

_T = TypeVar("_T")


class GuardedStore:
    """Calls a store; what it raises becomes an empty answer.

    Args:
        store: Ours or the user's.
        now: The time, in monotonic seconds.
        owned: Whether to close it in the end.
    """

    def __init__(self, store: CacheStore, now: Callable[[], float], *, owned: bool) -> None:
        self.store = store
        self._leases = store if isinstance(store, LeasingStore) else None
        self._now, self._owned = now, owned
        # Until when it is left alone: to read, to write, or for leases. Atomic steps.
        self._pauses: dict[str, float] = {}
        self._logged = float("-inf")

    @property
    def leases(self) -> bool:
        """Return whether it tells processes what others are having spoken."""
        return self._leases is not None

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return those that are there; nothing where that fails."""
        return self._try("read", lambda: dict(self.store.get_many(digests)), {})

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, if that works."""
        self._try("write", lambda: self.store.put_many(entries), None)

    def delete(self, digests: Sequence[str]) -> None:
        """Forget these, if that works."""
        self._try("write", lambda: self.store.delete(digests), None)

    def lease(self, digests: Sequence[str], seconds: float) -> Collection[str]:
        """Take those that no other process has; all of them where that fails."""
        leases = self._leases
        if leases is None:
            return digests
        return self._try("lease", lambda: leases.lease(digests, seconds), digests)

    def release(self, digests: Sequence[str]) -> None:
        """Give back what was taken; what fails ends by itself."""
        leases = self._leases
        if leases is not None:
            self._try("lease", lambda: leases.release(digests), None)

    def close(self) -> None:
        """Let go of what it holds, if that is ours; else only write down what is not."""
        end = getattr(self.store, "close" if self._owned else "flush", None)
        if end is not None:
            self._try("close", end, None)

    def complain(self, what: str, error: BaseException | str) -> None:
        """Log a failure, unless one was logged a moment ago."""
        now = self._now()
        if now - self._logged < _QUIET:
            return
        self._logged = now
        why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        logging.getLogger("cosy_sync").warning(
            "the cache %r failed to %s (%s); texts are spoken without it", self.store, what, why
        )

    def _try(self, what: str, call: Callable[[], Any], otherwise: _T) -> Any | _T:
        if self._pauses and self._is_paused(what):
            return otherwise
        try:
            return call()
        except BaseException as error:
            if goes_on(error):
                raise
            self._pauses[what] = self._now() + _PAUSE
            self.complain(what, error)
            return otherwise

    def _is_paused(self, what: str) -> bool:
        # What cannot be read is not written either; a full disk is read all the same.
        never = float("-inf")
        until = max(self._pauses.get(what, never), self._pauses.get("read", never))
        return self._now() < until and what != "close"
