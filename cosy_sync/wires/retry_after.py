"""How long a service asks to be left alone: Retry-After in its three forms."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ["retry_after"]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, or None when the service does not say, or not clearly.

    `retry-after-ms` is the more exact one and goes first. A date is compared with the reply's own
    Date where there is one, since the clocks of both sides may differ (RFC 9110, 10.2.3).
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    until = _instant(value)
    if until is None:
        return None
    now = _instant(headers.get("date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def _instant(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return (date - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
