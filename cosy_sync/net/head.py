"""Write a request as it travels: one piece of bytes."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigError
from .route import Route

__all__ = ["head_start", "written"]

# They belong to this one connection, and we write our own.
_OURS = frozenset(("host", "connection", "content-length", "transfer-encoding"))


def head_start(method: str, target: str, host: str, route: Route) -> str:
    """Write what every request to one URL begins with; a forwarding proxy is given the whole URL
    and its password."""
    if not route.forwards:
        return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    start = f"{method} http://{route.netloc}{target} HTTP/1.1\r\nHost: {host}\r\n"
    if route.proxy is not None and route.proxy.authorization:
        start += f"Proxy-Authorization: {route.proxy.authorization}\r\n"
    return start


def written(start: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Join the start of the head, the headers and the body. Raises ConfigError for a header that
    would end its line."""
    lines = [f"{name}: {value}" for name, value in headers if name.lower() not in _OURS]
    text = "\r\n".join([*lines, f"Content-Length: {len(body)}\r\n\r\n"])
    if text.count("\n") != len(lines) + 2 or text.count("\r") != len(lines) + 2:
        raise ConfigError("headers: a header must not hold a line break")
    try:
        return (start + text).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ConfigError("headers: a header holds a character outside of Latin-1") from None
