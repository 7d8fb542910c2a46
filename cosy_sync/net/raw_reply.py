"""A whole reply as it came."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..messages import Link, Reply
from .inflate import inflated
from .reply_head import named

__all__ = ["RawReply"]


@dataclass(slots=True)
class RawReply:
    """A reply as it came: `body` still has its Content-Encoding.

    `reusable` tells whether the connection stands where the next reply will begin, `left` when the
    request began to leave.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytearray | memoryview
    first_byte: float
    reusable: bool
    left: float
    connect: float = 0.0
    link: Link | None = field(default=None, repr=False, compare=False)

    def decompress(self, max_bytes: int) -> Reply:
        """Return it with its headers by name, and its body decompressed. Raises BadAudioError."""
        headers = named(self.headers)
        packed = "content-encoding" in headers
        return Reply(
            status=self.status,
            headers=headers,
            body=inflated(self.body, headers, self.status, max_bytes) if packed else self.body,
            connect=self.connect,
            first_byte=self.first_byte,
            received=len(self.body),
            left=self.left,
            link=self.link,
        )
