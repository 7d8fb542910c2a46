"""How long a service asks to be left alone: Retry-After in its three forms, and the headers of
rate limits where it is missing."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ["is_by_rate", "is_overloaded", "retry_after"]

# Seconds. What is longer is no pause but a closed account, or a mistake.
_LONGEST = 86_400.0
_LONGEST_RESET = 3_600.0
# What Envoy's x-envoy-overloaded stands for, which names no time: it bounds what is in flight, and
# fewer requests are the cure. A second would cost a small service most of its throughput.
_OVERLOADED = 0.1
_DROPPED = ("x-envoy-overloaded", "x-envoy-local-overloaded")
# Of its two filters that limit the rate, the one has a header, the other a body.
_LIMITED, _LIMITED_BODY = "x-envoy-ratelimited", "local_rate_limited"

# Of one limit: until when it is used up, and what is left of it. The first that is there counts.
_RESETS = (
    ("ratelimit-reset", "ratelimit-remaining"),
    ("x-ratelimit-reset", "x-ratelimit-remaining"),
    ("x-rate-limit-reset", "x-rate-limit-remaining"),
    ("x-ratelimit-reset-after", "x-ratelimit-remaining"),
)
# Of several limits at the same time: the longest counts of those that are used up.
_BUCKETS = (
    ("x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
    ("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"),
)
# RateLimit: "default";r=0;t=5, or as earlier drafts had it: limit=10, remaining=0, reset=5. What is
# left, and seconds.
_LEFT = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*(\d{1,10})(?![\d.])", re.ASCII)
_FIELD = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*(\d{1,10})(?![\d.])", re.ASCII)
_NUMBER = re.compile(r"\d{1,19}(?:\.\d{1,9})?", re.ASCII)
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_UNITS |= {"ns": 1e-9}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|us|µs|ns|[dhms])", re.ASCII)
# A number from here on is an instant since 1970: in seconds, milli-, micro- or nanoseconds.
_EPOCH = 1e9


def retry_after(headers: Mapping[str, str], status: int | None = 429) -> float | None:
    """Return the seconds to wait, or None when the service does not say, or not clearly.

    `retry-after-ms` is the more exact one and goes first. A date is compared with the reply's own
    Date where there is one, since the clocks of both sides may differ (RFC 9110, 10.2.3).

    Args:
        headers: The reply's, with names in lower case.
        status: Of the reply, or of the error inside it: only a 429 or a 503 speaks of a limit, so
            that only there its reset counts; and only where nothing is said to be left of it.
    """
    seconds = _asked(headers)
    if seconds is not None:
        return min(seconds, _LONGEST)
    if status not in (429, 503):
        return None
    seconds = _reset(headers)
    if seconds is None and is_overloaded(headers):
        seconds = _OVERLOADED
    return None if seconds is None else min(seconds, _LONGEST_RESET)


def is_overloaded(headers: Mapping[str, str]) -> bool:
    """Return whether Envoy says that it dropped the request to protect what stands behind it, or
    itself."""
    return any([headers.get(name, "").strip().lower() == "true" for name in _DROPPED])


def is_by_rate(headers: Mapping[str, str], said: str = "") -> bool:
    """Return whether a refused request met a limit of requests in a time: Envoy says so, or a used
    up limit has a reset.

    Args:
        headers: The reply's, with names in lower case.
        said: The refusal's message.
    """
    return said == _LIMITED_BODY or _LIMITED in headers or _reset(headers) is not None


def _asked(headers: Mapping[str, str]) -> float | None:
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    until = _instant(value)
    return None if until is None else max(0.0, until - _now(headers))


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the limit's next window, None where no header says it."""
    field = headers.get("ratelimit", "")
    left, resets = _LEFT.findall(field), _FIELD.findall(field)
    if len(left) != len(resets):
        left = ["0"] * len(resets)
    several = [float(reset) for rest, reset in zip(left, resets, strict=True) if not int(rest)]
    several += _resets(headers, _BUCKETS)
    return max(several) if several else next(_resets(headers, _RESETS), None)


def _resets(headers: Mapping[str, str], names: tuple[tuple[str, str], ...]) -> Iterator[float]:
    for reset, remaining in names:
        if (_seconds(headers.get(remaining, "").partition(",")[0]) or 0) > 0:
            continue  # another limit was met than this one
        seconds = _until(headers.get(reset, "").strip(), headers)
        if seconds is not None:
            yield seconds


def _until(value: str, headers: Mapping[str, str]) -> float | None:
    """Read seconds, a duration (6m0s), an instant since 1970, or a date."""
    first = re.split(r"[;,]", value, maxsplit=1)[0].strip()
    if _NUMBER.fullmatch(first):
        number = float(first)
        if number < _EPOCH:
            return number
        while number >= 1_000 * _EPOCH:
            number /= 1_000
        return max(0.0, number - _now(headers))
    parts = _PART.findall(first)
    if parts and "".join(amount + unit for amount, unit in parts) == first:
        return sum(float(amount) * _UNITS[unit] for amount, unit in parts)
    until = _instant(value)
    return None if until is None else max(0.0, until - _now(headers))


def _now(headers: Mapping[str, str]) -> float:
    now = _instant(headers.get("date", ""))
    return time.time() if now is None else now


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def _instant(text: str) -> float | None:
    try:
        date = _date(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return (date - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _date(text: str) -> datetime:
    if re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
        return datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    return parsedate_to_datetime(text)
