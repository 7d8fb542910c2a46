"""Which errors another try may not meet, and when to try."""

from __future__ import annotations

from cosy_sync import (
    ClosedError,
    CosyError,
    DeadlineError,
    RefusedError,
    ThrottledError,
    TransportError,
    UnavailableError,
)

__all__ = ["asked_pause", "will_pass"]

_PASSING = (
    *(ClosedError, DeadlineError, RefusedError),
    *(ThrottledError, TransportError, UnavailableError),
)


def will_pass(error: BaseException) -> bool:
    """Return whether another try, later, may well not meet this error."""
    if isinstance(error, CosyError):
        return isinstance(error, _PASSING) and not error.hopeless
    return isinstance(error, OSError) and not isinstance(error, PermissionError)


def asked_pause(error: BaseException) -> float:
    """Return the seconds for which an error asks to wait; 0 where it asks for none."""
    return getattr(error, "retry_after", None) or 0.0
