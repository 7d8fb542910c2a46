"""What pybreaker takes from outside: shielded listeners, and a storage in Redis."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from ..user_code import goes_on

__all__ = ["RaisingLog", "ShieldedListener", "guarded"]


class ShieldedListener:
    """A user's listener whose exceptions reach neither the call nor the other listeners."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def before_call(self, *_: object) -> None:
        """Do nothing: calls are not made through the ledger."""

    def success(self, cb: Any) -> None:
        guarded(self._listener.success, cb)

    def failure(self, cb: Any, exc: BaseException) -> None:
        guarded(self._listener.failure, cb, exc)

    def state_change(
        self,
        cb: Any,
        old_state: Any,
        new_state: Any,
    ) -> None:
        guarded(self._listener.state_change, cb, old_state, new_state)


def guarded(call: Callable[..., object], *args: object) -> None:
    """Call, and show what it raises as Python shows exceptions of threads."""
    try:
        call(*args)
    except BaseException as error:
        if goes_on(error):
            raise
        # No caller may catch it, so it is shown as Python shows exceptions that end a thread.
        told = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(told))


class RaisingLog:
    """In place of the logger of pybreaker's Redis storage, which would hide each error there."""

    def exception(self, *_: object) -> None:
        """Raise the error that is being handled."""
        error = sys.exc_info()[1]
        if error is not None:
            raise error
