"""Say httpx's errors in our own words, and those of httpx2: the only place that knows them."""

from __future__ import annotations

from typing import Any

from ..errors import BadAudioError, ConnectError, CosyError, CutError, ReplyTimeout, TransportError
from .plain_ports import is_plain, plain_port
from .scarcity import find_scarcity

__all__ = ["is_of_httpx", "translate"]

# By their names: httpx2 has the same, and neither has to be imported to know them.
_LIBRARIES = ("httpx", "httpx2")
_ROOTS = {"HTTPError", "StreamError", "InvalidURL"}

# Most specific first: the class of httpx, ours, what to say, what else to tell.
_TRANSLATIONS: tuple[tuple[str, type[CosyError], str, dict[str, Any]], ...] = (
    (
        "ConnectTimeout",
        ConnectError,
        "cannot connect in time; is the service reachable?",
        {"phase": "connect", "timed_out": True},
    ),
    (
        "PoolTimeout",
        ConnectError,
        "the given httpx.Client has no free connection: raise its limits",
        {"phase": "pool", "trips": False, "timed_out": True},
    ),
    (
        "ConnectError",
        ConnectError,
        "cannot connect; is the service running there?",
        {"phase": "connect"},
    ),
    (
        "WriteTimeout",
        ReplyTimeout,
        "the server did not take the request in time",
        {"phase": "send"},
    ),
    ("TimeoutException", ReplyTimeout, "the reply did not come in time", {"phase": "read"}),
    ("ProxyError", ConnectError, "the proxy refused", {"phase": "proxy"}),
    (
        "UnsupportedProtocol",
        ConnectError,
        "the given httpx.Client cannot speak this URL's protocol",
        {"retryable": False, "trips": False},
    ),
    (
        "LocalProtocolError",
        TransportError,
        "the request cannot be sent as HTTP; check the headers",
        {"sent": False, "retryable": False, "trips": False},
    ),
    ("RemoteProtocolError", CutError, "the reply was cut or is not HTTP", {}),
    ("NetworkError", CutError, "the connection broke", {}),
    (
        "DecodingError",
        BadAudioError,
        "the reply's Content-Encoding is broken",
        {"reason": "encoding"},
    ),
    (
        "TooManyRedirects",
        TransportError,
        "the server redirects in a circle; check the URL",
        {"retryable": False},
    ),
    ("InvalidURL", TransportError, "the server redirects to no URL", {"retryable": False}),
)


def is_of_httpx(error: Exception) -> bool:
    """Tell whether an error is one of httpx or httpx2."""
    return not _ROOTS.isdisjoint(_names(error))


def translate(error: Exception) -> CosyError:
    """Return our error for one of httpx; the caller keeps the cause."""
    names = _names(error)
    if "ConnectError" in names and (scarce := find_scarcity(error)):
        return scarce
    if "ConnectError" in names and is_plain(error):
        return plain_port("cannot connect", "https")
    for foreign, own, text, details in _TRANSLATIONS:
        if foreign in names:
            return own(f"{text} ({type(error).__name__})", **details)
    return TransportError(f"httpx failed: {type(error).__name__}")


def _names(error: Exception) -> set[str]:
    kinds = type(error).__mro__
    return {cls.__name__ for cls in kinds if cls.__module__.partition(".")[0] in _LIBRARIES}
