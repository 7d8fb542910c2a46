"""Say httpx's errors in our own words: the only place that knows them."""

from __future__ import annotations

from typing import Any

import httpx

from ..errors import BadAudioError, ConnectError, CosyError, CutError, ReplyTimeout, TransportError
from .scarcity import find_scarcity

__all__ = ["translate"]

# Most specific first: the class of httpx, ours, what to say, what else to tell.
_TRANSLATIONS: tuple[tuple[type[Exception], type[CosyError], str, dict[str, Any]], ...] = (
    (
        httpx.ConnectTimeout,
        ConnectError,
        "cannot connect in time; is the service reachable?",
        {"phase": "connect"},
    ),
    (
        httpx.PoolTimeout,
        ConnectError,
        "the given httpx.Client has no free connection: raise its limits",
        {"phase": "pool", "trips": False},
    ),
    (
        httpx.ConnectError,
        ConnectError,
        "cannot connect; is the service running there?",
        {"phase": "connect"},
    ),
    (
        httpx.WriteTimeout,
        ReplyTimeout,
        "the server did not take the request in time",
        {"phase": "send"},
    ),
    (httpx.TimeoutException, ReplyTimeout, "the reply did not come in time", {"phase": "read"}),
    (httpx.ProxyError, ConnectError, "the proxy refused", {"phase": "proxy"}),
    (
        httpx.UnsupportedProtocol,
        ConnectError,
        "the given httpx.Client cannot speak this URL's protocol",
        {"retryable": False, "trips": False},
    ),
    (
        httpx.LocalProtocolError,
        TransportError,
        "the request cannot be sent as HTTP; check the headers",
        {"sent": False, "retryable": False, "trips": False},
    ),
    (httpx.RemoteProtocolError, CutError, "the reply was cut or is not HTTP", {}),
    (httpx.NetworkError, CutError, "the connection broke", {}),
    (
        httpx.DecodingError,
        BadAudioError,
        "the reply's Content-Encoding is broken",
        {"reason": "encoding"},
    ),
    (
        httpx.TooManyRedirects,
        TransportError,
        "the server redirects in a circle; check the URL",
        {"retryable": False},
    ),
    (httpx.InvalidURL, TransportError, "the server redirects to no URL", {"retryable": False}),
)


def translate(error: Exception) -> CosyError:
    """Return our error for one of httpx; the caller keeps the cause."""
    if isinstance(error, httpx.ConnectError) and (scarce := find_scarcity(error)):
        return scarce
    for foreign, own, text, details in _TRANSLATIONS:
        if isinstance(error, foreign):
            return own(f"{text} ({type(error).__name__})", **details)
    return TransportError(f"httpx failed: {type(error).__name__}")
