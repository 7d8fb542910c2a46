"""A request's head as it travels, and a reply's that says its length too often."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import ConfigError
from ..version import VERSION
from .route import Route

__all__ = ["OURS", "USER_AGENT", "encode_request", "head_start", "one_length"]

# What every request names as its sender, unless its headers have another.
USER_AGENT = f"cosy-sync/{VERSION}"

# They belong to this one connection, and we write our own.
OURS = frozenset(("host", "connection", "content-length", "transfer-encoding"))


def head_start(method: str, target: str, host: str, route: Route) -> str:
    """Write what every request to one URL begins with; a forwarding proxy is given the whole URL
    and its password."""
    if not route.forwards:
        return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    start = f"{method} http://{route.netloc}{target} HTTP/1.1\r\nHost: {host}\r\n"
    if route.proxy is not None and route.proxy.authorization:
        start += f"Proxy-Authorization: {route.proxy.authorization}\r\n"
    return start


def encode_request(start: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Join the start of the head, the headers and the body. Raises ConfigError for a header that
    would end its line."""
    lines = []
    agent: str | None = USER_AGENT
    for name, value in headers:
        lower = name.lower()
        if lower not in OURS:
            lines.append(f"{name}: {value}")
            if lower == "user-agent":
                agent = None
    if agent is not None:
        lines.append(f"User-Agent: {agent}")
    text = "\r\n".join([*lines, f"Content-Length: {len(body)}\r\n\r\n"])
    if text.count("\n") != len(lines) + 2 or text.count("\r") != len(lines) + 2:
        raise ConfigError("headers: a header must not hold a line break")
    try:
        return (start + text).encode("latin-1") + body
    except UnicodeEncodeError:
        raise ConfigError("headers: a header holds a character outside of Latin-1") from None


_LENGTH = re.compile(rb"\r\ncontent-length:([0-9, \t]*)(?=\r\n)", re.IGNORECASE)


def one_length(reply: bytes) -> bytes | None:
    """Return a reply whose head says its Content-Length once where it says the same one several
    times (RFC 9110 8.6); None where it does not."""
    head, end, rest = reply.partition(b"\r\n\r\n")
    said: list[bytes] = _LENGTH.findall(head + b"\r\n")
    lengths = [length.strip() for each in said for length in each.split(b",")]
    if len(lengths) < 2 or len(set(lengths)) > 1 or not lengths[0].isdigit():
        return None
    once: bytes = _LENGTH.sub(b"", head + b"\r\n") + b"Content-Length: " + lengths[0]
    return once + end + rest
