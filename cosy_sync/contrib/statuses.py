"""The HTTP status that belongs to an error, and the reply that tells of it, without a framework."""

from __future__ import annotations

import json
import math

from cosy_sync import (
    BadAudioError,
    BadRequestError,
    BatchError,
    ClosedError,
    CosyError,
    DeadlineError,
    InvalidTextError,
    RefusedError,
    ReplyTimeout,
    TextError,
    ThrottledError,
    TransportError,
    UnavailableError,
)

from .replies import Reply

__all__ = ["error_reply", "status_of"]

# By class, the first that fits. What is missing is no visitor's fault and passes by no repetition,
# such as a wrong key: that stays an exception, which the framework reports.
_STATUSES: tuple[tuple[type[CosyError], int], ...] = (
    (InvalidTextError, 400),
    (TextError, 400),
    (BadRequestError, 400),
    (DeadlineError, 504),
    (ReplyTimeout, 504),
    (BadAudioError, 502),
    (RefusedError, 503),
    (ThrottledError, 503),
    (UnavailableError, 503),
    (TransportError, 503),
    (ClosedError, 503),
)
_SAID = {
    502: "the speech service sent no usable sound",
    503: "the speech service cannot answer now",
    504: "the speech service did not answer in time",
}


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error is for a visitor; None where the site is to be mended.

    Of a BatchError it is the status of the worst of its texts.
    """
    if isinstance(error, BatchError):
        found = [None if each.error is None else status_of(each.error) for each in error.failures]
        if not found or None in found:
            return None
        return max(found, key=(None, 400, 502, 504, 503).index)
    if isinstance(error, CosyError) and not getattr(error, "hopeless", False):
        if getattr(error, "blames", None) == "service":
            return 503
        return next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    return None


def error_reply(error: BaseException) -> Reply | None:
    """Return the reply that tells a visitor of an error as JSON; None where `status_of` does.

    What the service said, and where it is, stays out of it.
    """
    status = status_of(error)
    if status is None:
        return None
    told = {"type": type(error).__name__, "message": _SAID.get(status, "a text was refused")}
    if isinstance(error, InvalidTextError):
        told["message"] = error.message
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if status == 503:
        errors = [each.error for each in getattr(error, "failures", [])] or [error]
        waits = [getattr(each, "retry_after", None) or 0.0 for each in errors]
        headers["Retry-After"] = str(max(1, math.ceil(max(waits))))
    return Reply(status, headers, json.dumps({"error": told}, ensure_ascii=False).encode())
