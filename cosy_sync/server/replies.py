"""One HTTP reply as values, and its head as bytes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from .errors import RequestError
from .sound import Piece

Header = tuple[str, str]


class BrokenBody(Exception):
    """Raised by a reply's chunks: it ends here, cut, as where a server's handler has failed."""


class Outlet(Protocol):
    """The sending side of one connection."""

    async def send(self, pieces: Sequence[Piece]) -> None:
        """Send all pieces, waiting while the reader is slow."""
        ...

    def write(self, data: bytes) -> None:
        """Send a few bytes without waiting."""
        ...

    def close(self) -> None:
        """Close after what was sent has left."""
        ...

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        ...


class Upgrade(Protocol):
    """Another protocol that took a connection over."""

    async def run(self, outlet: Outlet, early: bytes) -> None:
        """Speak until the end, or until it is cancelled; `early` has come already."""
        ...

    def feed(self, data: bytes) -> None:
        """Take bytes in."""
        ...

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is in flight that would end by itself."""
        ...


@dataclass(slots=True)
class Reply:
    """What goes back, and how."""

    status: int
    # Empty: none is sent.
    content_type: str
    pieces: list[Piece]
    headers: list[Header] = field(default_factory=list)
    # The body as it comes, sent chunked, in place of the pieces.
    chunks: AsyncIterator[bytes] | None = None
    # What speaks another protocol from here on; nothing else of the reply is sent.
    upgrade: Upgrade | None = None
    # Close the connection afterwards.
    close: bool = False
    # Name of a delivery fault; empty: deliver it as it should be.
    fault: str = ""

    @property
    def size(self) -> int:
        """Length of the body, in bytes."""
        return sum(map(len, self.pieces))


def json_reply(status: int, value: object, headers: Sequence[Header] = ()) -> Reply:
    """Make a small JSON reply."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return Reply(status, "application/json", [body], list(headers))


def error_reply(error: RequestError) -> Reply:
    """Make the contract's error body."""
    value = {"error": {"code": error.code, "message": error.message}}
    return json_reply(error.status, value, error.headers)


def write_head(reply: Reply, *, framing: str = "") -> bytes:
    """Write the status line and the headers, with the blank line that ends them.

    Args:
        reply: whose head it is.
        framing: headers in place of the right Content-Length.
    """
    kind = (f"Content-Type: {reply.content_type}",) if reply.content_type else ()
    lines = [
        f"HTTP/1.1 {reply.status} {_reason(reply.status)}",
        f"Date: {_date(int(time.time()))}",
        *kind,
        framing or f"Content-Length: {reply.size}",
        f"Connection: {'close' if reply.close else 'keep-alive'}",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@lru_cache(maxsize=64)
def _reason(status: int) -> str:
    return HTTPStatus(status).phrase


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
