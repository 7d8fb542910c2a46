"""What the status of a gRPC call means, as its server gave it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import (
    AuthError,
    BadRequestError,
    BillingError,
    ServerError,
    ThrottledError,
    UnavailableError,
)
from ..messages import Reply
from .billing import PAY, cannot_pay
from .redaction import without_texts
from .retry_after import is_by_rate, is_overloaded, retry_after

__all__ = ["OK", "read_status"]

# As the header `grpc-status` has it.
OK = "0"

_MESSAGE_CHARS = 200


class _Kind(NamedTuple):
    """A status' name, our error, the HTTP status that says the same, and what to do."""

    name: str
    error: type[ServerError]
    status: int
    advice: str = ""


_SLOWER = "lower the endpoint's rate"
_FEWER = "lower the endpoint's max_connections"
_LOG = "look into the server's log"
_WIRE = "check the address and the wire"
_KINDS = {
    "2": _Kind("UNKNOWN", UnavailableError, 500, _LOG),
    "3": _Kind("INVALID_ARGUMENT", BadRequestError, 400),
    "5": _Kind("NOT_FOUND", BadRequestError, 404, _WIRE),
    "7": _Kind("PERMISSION_DENIED", AuthError, 403, "the key may not do this"),
    "8": _Kind(
        "RESOURCE_EXHAUSTED",
        ThrottledError,
        429,
        "lower the endpoint's max_connections to what the server allows (its --max_conc)",
    ),
    "9": _Kind("FAILED_PRECONDITION", BadRequestError, 400),
    "10": _Kind("ABORTED", UnavailableError, 500),
    "11": _Kind("OUT_OF_RANGE", BadRequestError, 400),
    "12": _Kind("UNIMPLEMENTED", BadRequestError, 501, _WIRE),
    "13": _Kind("INTERNAL", UnavailableError, 500, _LOG),
    "14": _Kind("UNAVAILABLE", UnavailableError, 503),
    "15": _Kind("DATA_LOSS", UnavailableError, 500, _LOG),
    "16": _Kind("UNAUTHENTICATED", AuthError, 401, "check api_key (or COSY_SYNC_API_KEY)"),
}
_OTHER = UnavailableError, 500
_HOPELESS = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})

# What a server in Python says of more calls than its --max_conc.
_CROWDED = "Concurrent RPC limit"
# What stands before a server says as UNAVAILABLE of its limits: of calls a second, and, as Envoy
# words it, of calls at the same time.
_TOO_FAST = re.compile(r"rate.?limit|too many (?:requests|calls)|throttl|status: 429", re.I)
_TOO_MANY = re.compile(r"reset reason: overflow|overload manager", re.I)
# How qi-hua/async_cosyvoice fails at a request of the official proto, which it cannot read.
_OTHER_PROTO = "invalid request type"

# How a server in Python reports an exception of its own, with what the exception says.
_EXCEPTION = "Exception iterating responses: "


def read_status(
    reply: Reply, texts: Sequence[str] = (), speaker: str | None = None
) -> ServerError | None:
    """Return the error that a call's status is, without the texts in it; None for a success.

    Args:
        reply: Whose headers `grpc-status` and `grpc-message` say it.
        texts: What was to be spoken.
        speaker: Who was to speak.
    """
    number = reply.headers.get("grpc-status", OK)
    if number == OK:
        return None
    said = reply.headers.get("grpc-message", "")
    kind = _KINDS.get(number, _Kind(f"status {number}", *_OTHER))
    if speaker is not None and said == f"{_EXCEPTION}{speaker!r}":
        # A KeyError: the model's list of speakers lacks the name.
        return BadRequestError(
            f"the model knows no speaker {speaker!r}; only models with speakers of their own "
            "(such as CosyVoice-300M-SFT) take a name, others take Voice(reference=...)",
            status=400,
            code=kind.name,
            hopeless=True,
        )
    if number == "13" and _OTHER_PROTO in said.lower():
        return BadRequestError(
            "the server answered as async_cosyvoice does (qi-hua/async_cosyvoice), whose gRPC has "
            "the same address and another proto than CosyVoice's own; use its HTTP server instead: "
            "wire='openai', port 8022",
            status=400,
            code=kind.name,
            hopeless=True,
        )
    if number in ("7", "8") and cannot_pay(re.findall(r"\w+", said), said, kind.status):
        kind = _Kind(kind.name, BillingError, 402, PAY)
    limited = _limit(number, said, reply.headers)
    if limited:
        kind = _Kind(kind.name, ThrottledError, 429, limited)
    if "larger than max" in said:
        # What the client itself refuses to receive does not get here.
        kind = _Kind(kind.name, BadRequestError, 413, "use a shorter text or recording")
    message = without_texts(said, texts, _MESSAGE_CHARS) or "without a reason"
    advice = f"; {kind.advice}" if kind.advice else ""
    details = _details(kind, said, reply.headers, limited)
    return kind.error(f"the service answered {kind.name}: {message}{advice}", **details)


def _details(kind: _Kind, said: str, headers: Mapping[str, str], limited: str) -> dict[str, Any]:
    """Return what an error tells beside its message."""
    details: dict[str, Any] = {"status": kind.status, "code": kind.name}
    if kind.name in _HOPELESS:
        details["hopeless"] = True
    if _CROWDED in said or limited == _FEWER:
        details["crowded"] = True
    elif limited and is_by_rate(headers, said):
        details["by_rate"] = True
    if kind.error in (ThrottledError, UnavailableError):
        details["retry_after"] = _pause(headers, kind.status)
    return details


def _limit(number: str, said: str, headers: Mapping[str, str]) -> str:
    """Return what to do about the limit that a call met which is UNAVAILABLE, or that a gateway
    tells as RESOURCE_EXHAUSTED; nothing for none."""
    if number == "8":
        return _SLOWER if is_by_rate(headers, said) else ""
    if number != "14":
        return ""
    if _TOO_MANY.search(said) or is_overloaded(headers):
        return _FEWER
    return _SLOWER if is_by_rate(headers, said) or _TOO_FAST.search(said) else ""


def _pause(headers: Mapping[str, str], status: int) -> float | None:
    """Return the seconds after which the server wants to be called again, where it says that."""
    pushback = headers.get("grpc-retry-pushback-ms")
    return retry_after(headers if pushback is None else {"retry-after-ms": pushback}, status)
