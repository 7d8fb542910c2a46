"""A tenant's limit: so many of its batches in flight; the others wait, none of them on a worker."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable

from ..bounded import BoundedCache
from ..config import ClientConfig
from ..errors import ClosedError, ConfigError
from ..threads.permits import Permits

__all__ = ["TenantLimit", "TenantLimits"]

# Limits that are kept while nobody holds a place. A program that makes more (a tenant for each of
# its users, say) must not grow for ever.
_MOST_LIMITS = 256


class TenantLimit:
    """Lets `limit` batches in at a time. Threads that wait go before queued tasks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._permits = Permits(limit)
        self._urgent: deque[Callable[[], None]] = deque()
        self._normal: deque[Callable[[], None]] = deque()

    def acquire(self, *, urgent: bool = False, seconds: float = 0.0) -> bool:
        """Enter, waiting at most `seconds`; return whether that worked.

        Raises ClosedError when closed, also while waiting.
        """
        return self._permits.acquire(urgent=urgent, seconds=seconds)

    def enter_later(self, task: Callable[[], None], *, urgent: bool = False) -> None:
        """Call the task as soon as it may be inside: now, or on the thread of one who leaves.

        Urgent ones go before the others. Once closed, all are called at once, to end their batches.
        """
        (self._urgent if urgent else self._normal).append(task)
        self._advance()

    def release(self) -> None:
        """Leave, and let the next one in."""
        self._permits.release()
        self._advance()

    def close(self) -> list[Callable[[], None]]:
        """Wake the callers that wait; return the queued tasks, which get no place any more."""
        self._permits.close()
        left = [*self._urgent, *self._normal]
        self._urgent.clear()
        self._normal.clear()
        return left

    def _advance(self) -> None:
        # A task joins the queue first and tries for a permit afterwards; a leaver gives its permit
        # back first and looks at the queue afterwards: of two at the same time one sees the other.
        while self._urgent or self._normal:
            # When closed, no leaver would let them in, and their callers would wait for ever.
            with contextlib.suppress(ClosedError):
                if not self._permits.acquire():
                    return
            task = _first(self._urgent) or _first(self._normal)
            if task is None:
                self._permits.release()
                continue
            task()


class TenantLimits:
    """The limits of all tenants, by whom they are for."""

    def __init__(self) -> None:
        # Guards everything below.
        self._lock = threading.Lock()
        self._kept: BoundedCache[object, TenantLimit] = BoundedCache(_MOST_LIMITS)
        # A batch with a place, or queued for one, keeps the limit alive: one that is missing
        # here has neither.
        self._all: weakref.WeakValueDictionary[object, TenantLimit] = weakref.WeakValueDictionary()

    def of_config(self, config: ClientConfig) -> TenantLimit | None:
        """Return the limit that a configuration asks for, None where it asks for none."""
        limit = config.max_in_flight
        return None if limit is None else self.of(config.tenant or limit, limit)

    def of(self, key: object, limit: int) -> TenantLimit:
        """Return a tenant's limit. Raises ConfigError when it has another limit."""
        with self._lock:
            tenant_limit = self._kept.get(key)
            if tenant_limit is None:
                tenant_limit = self._all.get(key)
                if tenant_limit is None:
                    tenant_limit = self._all[key] = TenantLimit(limit)
                self._kept.keep(key, tenant_limit)
        if tenant_limit.limit != limit:
            raise ConfigError(
                f"max_in_flight: tenant {key!r} already has {tenant_limit.limit}; "
                "a tenant has one limit"
            )
        return tenant_limit

    def everybody(self) -> list[TenantLimit]:
        """Return all limits of which somebody may hold a place."""
        with self._lock:
            return list(self._all.values())


def _first(queue: deque[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        return queue.popleft()
    except IndexError:
        return None
