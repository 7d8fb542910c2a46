"""What comes out of the user's own code, where ours calls it: checks, observers, callbacks."""

from __future__ import annotations

import contextlib
import logging
import threading

from .errors import UnexpectedError

__all__ = ["goes_on", "log_failure"]

# Their exceptions end a greenlet, which may be a caller's.
_GREENLETS = ("eventlet", "gevent", "greenlet")


def goes_on(error: BaseException) -> bool:
    """Return whether an exception out of the user's code ends the call that it came up in.

    On the main thread that is Ctrl-C, or what a signal's handler raised, and on a caller's greenlet
    its time-out or its end. On any other thread what is no Exception (asyncio's CancelledError, a
    test's outcome) is a failure of that code like any other, and nobody there could take it.
    """
    if isinstance(error, Exception):
        return False
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return True
    greenlet = type(error).__module__.partition(".")[0] in _GREENLETS
    return greenlet and not thread.name.startswith("cosy-")


def log_failure(message: str, *args: object) -> None:
    """Log the exception at hand with its traceback. The program's own handlers of log records may
    raise as well: that ends nothing."""
    with contextlib.suppress(BaseException):
        logging.getLogger("cosy_sync").exception(message, *args)


def unexpected(cause: BaseException) -> UnexpectedError:
    """Return the error that a foreign exception becomes."""
    error = UnexpectedError(
        f"an unexpected {type(cause).__name__}, see the cause: a hook, a mock or a check that "
        "you passed, or a bug of cosy_sync"
    )
    error.__cause__ = cause
    return error
