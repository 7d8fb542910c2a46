"""TLS spoken to a port that has none, and none to a port that has it: how that shows, and what to
do about it."""

from __future__ import annotations

import ssl

from ..errors import ConnectError, TransportError
from .route import Route

__all__ = ["ask_for_tls", "is_plain", "not_http", "plain_port"]

# How OpenSSL names an answer that is no TLS; which of them it is depends on its version.
_PLAIN = (
    *("wrong_version_number", "record_layer_failure", "unknown_protocol"),
    *("packet_length_too_long", "http_request"),
)
# An alert of TLS 1.x: its type, and the first byte of its version.
_ALERT = b"\x15\x03"


def is_plain(failure: BaseException | str | None) -> bool:
    """Return whether TLS failed because the answer was none: an exception, one of its causes, or
    what a library says of it."""
    seen: set[int] = set()
    while isinstance(failure, BaseException) and id(failure) not in seen:
        seen.add(id(failure))
        if isinstance(failure, ssl.SSLError):
            return is_plain(failure.reason or str(failure))
        failure = failure.__cause__ or failure.__context__
    said = failure.lower().replace(" ", "_") if isinstance(failure, str) else ""
    return any(word in said for word in _PLAIN)


def plain_port(where: str, scheme: str, who: str = "the server") -> ConnectError:
    """Return the error of a port that answers without TLS to a URL of that scheme; `who` it is."""
    advice = f"give {scheme[:-1]}:// in place of {scheme}://, or the port that speaks TLS"
    return ConnectError(
        f"{where}: {who} does not speak TLS on this port: {advice}",
        phase="tls",
        retryable=False,
    )


def not_http(route: Route, data: bytes, why: object) -> TransportError:
    """Return the error of a reply that is no HTTP, by what it begins with."""
    if not data.startswith(_ALERT) or route.tls or route.proxy is not None:
        return TransportError(f"the reply is not HTTP: {why}")
    plain, secure = route.schemes
    advice = f"give {secure}:// in place of {plain}://, or the port without TLS"
    return ConnectError(
        f"cannot connect to {route.label}: the server speaks TLS on this port: {advice}",
        phase="tls",
        retryable=False,
    )


def ask_for_tls(route: Route) -> str:
    """Return what to check where a plain connection ended without a byte, and none ever came."""
    if route.tls or route.proxy is not None:
        return ""
    return f"; does the server speak TLS on this port? Then give {route.schemes[1]}://"
