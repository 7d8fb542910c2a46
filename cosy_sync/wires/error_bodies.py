"""What a service says when it refuses: its many shapes, and the errors they become."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import (
    BadAudioError,
    BadRequestError,
    BillingError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
    UnframedError,
    server_error,
)
from ..messages import UNFRAMED, Reply, kind_of
from . import item_errors
from .billing import PAY, cannot_pay
from .fastjson import load_json
from .redaction import request_id_of, without_texts
from .retry_after import is_by_rate, is_overloaded, retry_after

__all__ = ["CUT_SHORT", "check_end", "cut_short", "false_success", "read_error", "text_error"]

# The reason to finish of speech that was cut short.
CUT_SHORT = "length"

_MESSAGE_CHARS = 200
# What is looked at to find out what it is about.
_LOOK_CHARS = 1_000
_CODE_CHARS = 64
# A larger body is no message but a page, or a mistake: it is not worth reading.
_MAX_BODY = 1 << 20
_MAX_TEXT = 4_096

_MESSAGE_KEYS = ("message", "msg", "error_message", "error_msg", "detail", "error")
_CODE_KEYS = ("code", "error_code", "status_code", "type")
_FAILURE_KEYS = ("error", "detail", "status_code", "message", "error_message", "error_msg")
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)

# What nginx, Apache and Go answer to a request without TLS, and with which status.
_PLAIN_TO_TLS = re.compile(
    rb"plain HTTP request was sent to|plain HTTP to an SSL|HTTP request to an HTTPS server"
)
_NO_TLS = (400, 497)

_THROTTLED_WORDS = ("throttl", "rate_limit", "ratelimit", "too_many")
_PASSING_WORDS = ("internal", "timeout", "timed_out", "unavailable", "overload", "server_error")
_WRONG_WORDS = ("invalid", "bad_request", "badrequest")


class _Told(NamedTuple):
    """What a body says: `code` and `message` as they came, `status` where it names one; `codes`
    are all that stand where a code may stand."""

    code: str
    message: str
    status: int | None
    codes: tuple[str, ...] = ()


def read_error(reply: Reply, texts: Sequence[str] = ()) -> ServerError:
    """Build the error that a reply other than a success stands for, without the texts in it."""
    told = _told_by_body(reply)
    if 300 <= reply.status < 400:
        target = _redirect_target(reply.headers.get("location", ""))
        told = told._replace(
            message=f"it redirects to {target}: give the final URL, since none is followed"
        )
    details = _details(told, reply, texts, reply.status)
    said = without_texts(told.message, texts, _LOOK_CHARS)
    message = _cut(said)
    if cannot_pay(told.codes, said, reply.status):
        return _billing_error(f"HTTP {reply.status}: {message}", reply.status, details)
    if reply.status in _NO_TLS and _PLAIN_TO_TLS.search(bytes(reply.body[:_MAX_TEXT])):
        text = (
            f"the service answered HTTP {reply.status}: it speaks TLS on this port: give https://"
        )
        return BadRequestError(
            f"{text} in place of http://", status=reply.status, hopeless=True, **details
        )
    if reply.status == 503 and is_overloaded(reply.headers):
        # A proxy's own bound on what is in flight: the service behind it may be well.
        text = "the proxy before the service dropped this request to protect it"
        return ThrottledError(
            f"{text}: HTTP 503{message and f': {message}'}; lower max_connections",
            status=503,
            crowded=True,
            **details,
        )
    if reply.status in (429, 503) and is_by_rate(reply.headers, told.message):
        return ThrottledError(
            f"the service answered HTTP {reply.status}{message and f': {message}'}; "
            "lower the endpoint's rate to what the service allows",
            status=reply.status,
            by_rate=True,
            **details,
        )
    return _blamed(reply.status, message, said, details)


def false_success(value: Any, reply: Reply, texts: Sequence[str]) -> ServerError | None:
    """Return the error that a 200 with this JSON really is, or None if it names none."""
    if not isinstance(value, dict) or not any(value.get(key) for key in _FAILURE_KEYS):
        return None
    told = _told(value)
    said = without_texts(told.message, texts, _LOOK_CHARS)
    message = _cut(said) or "an error without a message"
    message = f"{message} (inside a reply of HTTP {reply.status})"
    status = told.status or _status_of_code(told.code)
    details = _details(told, reply, texts, status)
    if cannot_pay(told.codes, said, told.status):
        return _billing_error(message, told.status or 402, details)
    return _blamed(status, message, said, details)


def text_error(
    value: Any, reply: Reply, texts: Sequence[str], *, unknown_is_passing: bool = False
) -> ServerError:
    """Build the error of one text that failed inside a reply whose other texts may be served.

    A TextError is permanent. A code or a sentence that speaks of the service's own state says
    nothing against the text, so it becomes the error that such a state has for whole calls: that
    one is retried and counts against the endpoint.

    Args:
        value: What stands in the place of the text's sound.
        reply: In which it stands.
        texts: Blanked out of what it says.
        unknown_is_passing: A sentence without a code, of which nobody knows whom it blames, is
            taken for trouble of the service; else for the text's fault.
    """
    told = _told(value)
    status = told.status or _passing_status(told.code)
    details = _details(told, reply, texts, status)
    said = without_texts(told.message, texts, _LOOK_CHARS)
    message = _cut(said) or details["code"] or "no reason given"
    if cannot_pay(told.codes, said, status):
        return _billing_error(message, status or 402, details)
    whom, details["blames"] = item_errors.TEXT, item_errors.blame(said)
    if status is not None and status >= 429:  # it speaks of its own state, whatever it says
        details["blames"] = item_errors.SERVICE
    if status is None and not any(word in _plain(told.code) for word in _WRONG_WORDS):
        whom = item_errors.blame(said)
        if whom == item_errors.UNKNOWN:
            whom = item_errors.SERVICE if unknown_is_passing else item_errors.TEXT
        status = 503 if whom == item_errors.SERVICE else None
    elif item_errors.blame(said) == item_errors.VOICE:
        whom = item_errors.VOICE
    details["status"] = status
    if status == 429:
        return ThrottledError(f"the service had no room for this text: {message}", **details)
    if status is not None and status >= 500:
        return UnavailableError(f"the service failed at this text: {message}", **details)
    advice = "check the voice" if whom == item_errors.VOICE else "change or drop it"
    return TextError(f"the service refused this text: {message}; {advice}", **details)


def _details(told: _Told, reply: Reply, texts: Sequence[str], status: int | None) -> dict[str, Any]:
    """Return what every error tells beside its message."""
    return {
        "code": without_texts(told.code, texts, _CODE_CHARS) or None,
        "request_id": request_id_of(reply.headers),
        "retry_after": retry_after(reply.headers, status),
    }


def _blamed(status: int, message: str, said: str, details: dict[str, Any]) -> ServerError:
    """Return the error of a status, but for an unknown voice that a service tells as its own
    failure: Xinference asserts that it knows the voice, vox-box says so in a 200."""
    if status == 500 and item_errors.blame(said) == item_errors.VOICE:
        text = f"the service answered HTTP {status}: {message}; check the voice"
        return BadRequestError(text, status=status, **details)
    return server_error(status, message, **details)


def _billing_error(message: str, status: int, details: dict[str, Any]) -> BillingError:
    told = f"the service refused: {message.removesuffix(': ')}"
    return BillingError(f"{told}; {PAY}", **{**details, "status": status})


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE_CHARS else message[: _MESSAGE_CHARS - 1] + "…"


def check_end(reply: Reply) -> None:
    """Raise UnframedError for sound that only the end of the connection ended, unless it is a WAV
    file that says its size: a service that dies in the middle would pass for one that was done."""
    if UNFRAMED not in reply.headers:
        return
    start = bytes(reply.body[:8])
    if start[:4] == b"RIFF" and int.from_bytes(start[4:], "little") == len(reply.body) - 8:
        return
    raise UnframedError(
        "the reply does not say where its sound ends (neither Content-Length nor chunks), so that "
        "half of it would look whole; let the service, or what stands before it, speak HTTP/1.1"
    )


def cut_short() -> BadAudioError:
    """Return the error of speech that a service ended at its limit of tokens, with a success."""
    return BadAudioError(
        "the service cut this speech at its limit of tokens (finish reason: length); split the "
        "text, or raise extra={'max_new_tokens': ...}",
        reason="cut",
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
    codes = (*_all(fields, _CODE_KEYS), *_all(outer, _CODE_KEYS))
    code = codes[0] if codes else ""
    message = inner if isinstance(inner, str) else _first(fields, _MESSAGE_KEYS)
    message = message or _first(outer, _MESSAGE_KEYS)
    if listed and isinstance(fields.get("loc"), list):
        message = f"{'.'.join(str(step)[:40] for step in fields['loc'][:8])}: {message}"
    statuses = (outer.get("status_code"), fields.get("code"), outer.get("code"))
    found = [status for status in map(_as_status, statuses) if status is not None]
    return _Told(code, message, found[0] if found else (422 if listed else None), codes)


def _first(fields: dict[str, Any], keys: Sequence[str]) -> str:
    return next(_all(fields, keys), "")


def _all(fields: dict[str, Any], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value:
            yield value
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1_000_000:
            yield str(value)


def _as_status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _plain(code: str) -> str:
    return code.lower().replace("-", "_").replace(" ", "_")


def _passing_status(code: str) -> int | None:
    word = _plain(code)
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
