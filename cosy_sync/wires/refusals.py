"""What a service says when it refuses: its many shapes, and the errors they become."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import (
    BadAudioError,
    BillingError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
    server_error,
)
from ..messages import UNFRAMED, Reply, kind_of
from .coding import load_json
from .redaction import without_texts
from .retry_after import retry_after

__all__ = ["check_end", "false_success", "read_error", "text_error"]

_MESSAGE_CHARS = 200
_CODE_CHARS = 64
# A larger body is no message but a page, or a mistake: it is not worth reading.
_MAX_BODY = 1 << 20
_MAX_TEXT = 4_096

_MESSAGE_KEYS = ("message", "msg", "error_message", "error_msg", "detail", "error")
_CODE_KEYS = ("code", "error_code", "status_code", "type")
_FAILURE_KEYS = ("error", "detail", "status_code", "message", "error_message", "error_msg")
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)

# Codes, without what stands between their words, by which a service says that the account is
# empty, whatever the status; messages say it too.
_UNPAID_CODES = frozenset(
    {"insufficientquota", "insufficientuserquota", "insufficientbalance", "insufficientfunds"}
    | {"billinghardlimitreached", "billingnotactive", "accountoverdue", "arrearage", "30001"}
)
_UNPAID_WORDS = re.compile(
    r"(insufficient|not enough) (account )?(balance|credits?|funds|quota)\b"
    r"|balance is (insufficient|not enough|negative)|account is (overdue|in arrears)"
    r"|billing hard limit|plan and billing details|余额不足|欠费",
    re.IGNORECASE,
)

_THROTTLED_WORDS = ("throttl", "rate_limit", "ratelimit", "too_many")
_PASSING_WORDS = ("internal", "timeout", "timed_out", "unavailable", "overload")


class _Told(NamedTuple):
    """What a body says: `code` and `message` as they came, `status` where it names one."""

    code: str
    message: str
    status: int | None


def read_error(reply: Reply, texts: Sequence[str] = ()) -> ServerError:
    """Build the error that a reply other than a success stands for, without the texts in it."""
    told = _told_by_body(reply)
    unpaid = _unpaid_error(told, reply.status, reply, texts)
    if unpaid is not None:
        return unpaid
    if 300 <= reply.status < 400:
        target = _redirect_target(reply.headers.get("location", ""))
        told = told._replace(
            message=f"it redirects to {target}: give the final URL, since none is followed"
        )
    return server_error(
        reply.status,
        without_texts(told.message, texts, _MESSAGE_CHARS),
        code=without_texts(told.code, texts, _CODE_CHARS) or None,
        request_id=reply.headers.get("x-request-id"),
        retry_after=retry_after(reply.headers),
    )


def false_success(value: Any, reply: Reply, texts: Sequence[str]) -> ServerError | None:
    """Return the error that a 200 with this JSON really is, or None if it names none."""
    if not isinstance(value, dict) or not any(value.get(key) for key in _FAILURE_KEYS):
        return None
    told = _told(value)
    unpaid = _unpaid_error(told, told.status or 402, reply, texts)
    if unpaid is not None:
        return unpaid
    message = without_texts(told.message, texts, _MESSAGE_CHARS) or "an error without a message"
    return server_error(
        told.status or _status_of_code(told.code),
        f"{message} (inside a reply of HTTP {reply.status})",
        code=without_texts(told.code, texts, _CODE_CHARS) or None,
        request_id=reply.headers.get("x-request-id"),
        retry_after=retry_after(reply.headers),
    )


def text_error(value: Any, reply: Reply, texts: Sequence[str]) -> ServerError:
    """Build the error of one text that failed inside a reply whose other texts may be served.

    A TextError is permanent. A code that speaks of the service's own state says nothing against
    the text, so it becomes the error that such a state has for whole calls: that one is retried
    and counts against the endpoint.
    """
    told = _told(value)
    unpaid = _unpaid_error(told, told.status or 402, reply, texts)
    if unpaid is not None:
        return unpaid
    code = without_texts(told.code, texts, _CODE_CHARS)
    message = without_texts(told.message, texts, _MESSAGE_CHARS) or code or "no reason given"
    status = told.status or _passing_status(told.code)
    details: dict[str, Any] = {
        "status": status,
        "code": code or None,
        "request_id": reply.headers.get("x-request-id"),
        "retry_after": retry_after(reply.headers),
    }
    if status == 429:
        return ThrottledError(f"the service had no room for this text: {message}", **details)
    if status is not None and status >= 500:
        return UnavailableError(f"the service failed at this text: {message}", **details)
    return TextError(f"the service refused this text: {message}; change or drop it", **details)


def _unpaid_error(
    told: _Told, status: int, reply: Reply, texts: Sequence[str]
) -> BillingError | None:
    """Return the error that a refusal is which says that the account is empty, None for others.

    Many services say it with 429 or 403; some gateways use the same words for a limit that passes
    by itself, and then say when (Retry-After).
    """
    if not 400 <= status < 500:
        return None
    by_code = re.sub(r"[\W_]", "", told.code).lower() in _UNPAID_CODES
    by_words = _UNPAID_WORDS.search(told.message) and retry_after(reply.headers) is None
    if not by_code and not by_words:
        return None
    code = without_texts(told.code, texts, _CODE_CHARS)
    message = without_texts(told.message, texts, _MESSAGE_CHARS) or code
    return BillingError(
        f"the service answered HTTP {reply.status}: {message}; the account is empty or owes: top "
        "it up, or use another api_key",
        status=status,
        code=code or None,
        request_id=reply.headers.get("x-request-id"),
    )


def check_end(reply: Reply) -> None:
    """Raise BadAudioError for sound that only the end of the connection ended, unless it is a WAV
    file that says its size: a service that dies in the middle would pass for one that was done."""
    if UNFRAMED not in reply.headers:
        return
    start = bytes(reply.body[:8])
    if start[:4] == b"RIFF" and int.from_bytes(start[4:], "little") == len(reply.body) - 8:
        return
    raise BadAudioError(
        "the reply does not say where its sound ends (neither Content-Length nor chunks), so that "
        "half of it would look whole; let the service, or what stands before it, speak HTTP/1.1",
        reason="unframed",
    )


def _told_by_body(reply: Reply) -> _Told:
    kind = kind_of(reply.headers.get("content-type", ""))
    if not reply.body or len(reply.body) > _MAX_BODY:
        return _Told("", "", None)
    try:
        return _told(load_json(reply.body))
    except ValueError:
        text = bytes(reply.body[:_MAX_TEXT]).decode("utf-8", "replace")
    if kind == "text/html" or text.lstrip()[:1] == "<":
        found = _TITLE.search(text)
        return _Told("", html.unescape(found[2]) if found else "an HTML page", None)
    return _Told("", text if kind == "text/plain" or not kind else "", None)


def _told(value: Any) -> _Told:
    """Read the shapes that services and their frameworks use.

    {"error": {"code", "message"}}, {"error": "..."}, {"detail": "..."} (FastAPI), {"detail":
    [{"loc", "msg"}]} (its validation), {"code", "message"} (DashScope), or a bare string.
    """
    outer = value if isinstance(value, dict) else {}
    inner: Any = value
    for key in ("error", "detail"):
        if outer.get(key):
            inner = outer[key]
            break
    listed = isinstance(inner, list)
    if listed:
        inner = inner[0] if inner else ""
    fields = inner if isinstance(inner, dict) else {}
    code = _first(fields, _CODE_KEYS) or _first(outer, _CODE_KEYS)
    message = inner if isinstance(inner, str) else _first(fields, _MESSAGE_KEYS)
    message = message or _first(outer, _MESSAGE_KEYS)
    if listed and isinstance(fields.get("loc"), list):
        message = f"{'.'.join(str(step)[:40] for step in fields['loc'][:8])}: {message}"
    statuses = (outer.get("status_code"), fields.get("code"), outer.get("code"))
    found = [status for status in map(_as_status, statuses) if status is not None]
    return _Told(code, message, found[0] if found else (422 if listed else None))


def _first(fields: dict[str, Any], keys: Sequence[str]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1_000_000:
            return str(value)
    return ""


def _as_status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _passing_status(code: str) -> int | None:
    word = code.lower().replace("-", "_").replace(" ", "_")
    if any(part in word for part in _THROTTLED_WORDS):
        return 429
    return 503 if any(part in word for part in _PASSING_WORDS) else None


def _status_of_code(code: str) -> int:
    passing = _passing_status(code)
    if passing is not None:
        return passing
    # Nothing says whose fault it is: 500 lets it be tried again.
    return 400 if "invalid" in code.lower() else 500


def _redirect_target(location: str) -> str:
    try:
        parts = urlsplit(location)
    except ValueError:
        return "an address that is no URL"
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}" or "nowhere"
