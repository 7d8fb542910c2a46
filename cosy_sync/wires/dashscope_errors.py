"""What Alibaba's error codes mean, over WebSocket and over HTTP alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import (
    AuthError,
    BadRequestError,
    BillingError,
    CosyError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
    server_error,
)
from .billing import PAY, cannot_pay
from .redaction import without_texts

__all__ = ["dashscope_error"]

_MESSAGE_CHARS = 200
_CODE_CHARS = 64
_ID_CHARS = 128

# Code in lower case, or the part of it before a dot -> class, HTTP status, what to do.
_Meaning = tuple[type[ServerError], int, str]

_KEY: _Meaning = (AuthError, 401, "check api_key and the region that it belongs to")
_DENIED: _Meaning = (AuthError, 403, "the key may not use this model or workspace")
_BILL: _Meaning = (BillingError, 429, "settle the account's bill or buy the service")
_PACE: _Meaning = (ThrottledError, 429, "lower the endpoint's rate or max_connections")
_BROKEN: _Meaning = (UnavailableError, 500, "")
_BUSY: _Meaning = (UnavailableError, 503, "")
_WRONG: _Meaning = (BadRequestError, 400, "check voice, model and extra")
_CONTENT: _Meaning = (TextError, 400, "the content filter refused the text; change or drop it")

# What it says of too many tasks at the same time, whatever their rate.
_CROWDED = "throttling.concurrency"

_MEANINGS: Mapping[str, _Meaning] = MappingProxyType(
    {
        "accessdenied": _DENIED,
        "allocationquota.freetieronly": (BillingError, 403, "the free quota is used up"),
        "arrearage": (BillingError, 400, "the account is overdue: settle its bill"),
        "clientdisconnect": _BROKEN,
        "commoditynotpurchased": _BILL,
        "datainspectionfailed": _CONTENT,
        "internalerror": _BROKEN,
        "invalidapikey": _KEY,
        "invalidparameter": _WRONG,
        "model.accessdenied": _DENIED,
        "modelnotfound": (BadRequestError, 404, "check the model's name and the region"),
        "modelservicefailed": _BROKEN,
        "modelunavailable": _BUSY,
        "postpaidbilloverdue": _BILL,
        "prepaidbilloverdue": _BILL,
        "requesttimeout": _BROKEN,
        "responsetimeout": _BROKEN,
        "serviceunavailable": _BUSY,
        "systemerror": _BROKEN,
        "throttling": _PACE,
        "throttling.burstrate": (ThrottledError, 429, "raise the rate more slowly"),
        _CROWDED: (ThrottledError, 429, "lower the endpoint's max_connections"),
        "throttling.ratequota": (ThrottledError, 429, "lower the endpoint's rate"),
        "workspace.accessdenied": _DENIED,
    }
)

# Parts of the messages of InvalidParameter that say more than the code.
_SPEAKING = (
    ("error code: 418", _WRONG[:2], "check that the voice exists and belongs to the model"),
    ("voice is invalid", _WRONG[:2], "check that the voice exists and belongs to the model"),
    ("task can not be null", (TextError, 400), "is there anything to speak in the text?"),
    ("ensure input text is valid", (TextError, 400), "change or drop the text"),
    ("request timeout after", _BROKEN[:2], "the texts of one task came too slowly"),
)


def dashscope_error(
    status: int | None, code: str, message: str, request_id: str | None, texts: Sequence[str]
) -> CosyError:
    """Return the error that a code stands for, without the texts in it.

    The code decides, since billing codes come with status 429; `status` is the HTTP status where
    there is one, and decides where the code is not known.
    """
    low = message.lower()
    meaning = _meaning(code.strip().lower(), low)
    shown_code = without_texts(code, texts, _CODE_CHARS)
    said = without_texts(message, texts, _MESSAGE_CHARS)
    shown = ": ".join(part for part in (shown_code, said) if part) or "no reason given"
    shown_id = without_texts(request_id or "", (), _ID_CHARS) or None
    details: dict[str, Any] = {"code": shown_code or None, "request_id": shown_id}
    if meaning is None and cannot_pay([code], said, status):  # said by a gateway before the service
        meaning = (BillingError, 402, PAY)
    if meaning is None and status is not None:
        return server_error(status, shown, **details)
    # Nothing says whose fault it is: it may be tried again.
    cls, usual, advice = meaning or _BROKEN
    if cls is BadRequestError and usual == 404:
        details["hopeless"] = True
    if cls is ThrottledError and code.strip().lower() == _CROWDED:
        details["crowded"] = True
    text = f"the service refused or failed: {shown}"
    return cls(f"{text}; {advice}" if advice else text, status=status or usual, **details)


def _meaning(code: str, message: str) -> _Meaning | None:
    code = code.replace("_", "")
    if code in ("invalidparameter", "clienterror", ""):
        for words, (cls, status), advice in _SPEAKING:
            if words in message:
                return cls, status, advice
    found = _MEANINGS.get(code) or _MEANINGS.get(code.partition(".")[0])
    return _WRONG if found is None and code == "clienterror" else found
