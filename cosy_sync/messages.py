"""What a wire writes and reads and the net moves: one request, one reply, one text's payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Payload", "Reply", "Request"]


@dataclass(slots=True)
class Request:
    """One POST: `headers` as (name, value) pairs beside Host and Content-Length, `body` as sent.

    `address` is the one of the host's addresses to send it to, None any.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str | None = None


@dataclass(slots=True)
class Reply:
    """One whole reply: header names in lower case, `body` after decompression.

    `connect` and `first_byte` in seconds (connect is 0 on a reused connection); `received` counts
    the body's bytes on the network.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray | memoryview
    connect: float = 0.0
    first_byte: float = 0.0
    received: int = 0


@dataclass(slots=True)
class Payload:
    """One text's bytes out of a reply, with the media type that the service gave them.

    `echo`: the SHA-256 of the text that they speak, where the service says it, else empty.
    """

    data: bytes
    media_type: str
    echo: str = ""
