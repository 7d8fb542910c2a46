"""What pybreaker takes from outside: shielded listeners, and a storage in Redis."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from .lean_import import without_extras

with without_extras():
    import pybreaker

__all__ = ["ShieldedListener", "guarded", "redis_storage"]


class ShieldedListener(pybreaker.CircuitBreakerListener):
    """A user's listener whose exceptions reach neither the call nor the other listeners."""

    def __init__(self, listener: pybreaker.CircuitBreakerListener) -> None:
        self._listener = listener

    def success(self, cb: pybreaker.CircuitBreaker) -> None:
        guarded(self._listener.success, cb)

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        guarded(self._listener.failure, cb, exc)

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        guarded(self._listener.state_change, cb, old_state, new_state)


def guarded(call: Callable[..., object], *args: object) -> None:
    """Call, and show what it raises as Python shows exceptions of threads."""
    try:
        call(*args)
    except Exception as error:
        # Nobody above may catch it, so it is shown as Python shows such exceptions of threads.
        told = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(told))


def redis_storage(redis: Any, namespace: str) -> Any:
    """Return pybreaker's storage of a breaker in Redis, for those who share its state.

    It raises what the Redis client raises; pybreaker's own writes each error to a log instead.
    """
    storage: Any = pybreaker.CircuitRedisStorage("closed", redis, namespace=namespace)
    storage.logger = _Raising()
    return storage


class _Raising:
    """In place of the storage's logger."""

    def exception(self, *_: object) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            raise error
