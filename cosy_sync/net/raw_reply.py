"""A whole reply as it came."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..messages import Link, Reply
from .inflate import Body, inflated
from .reply_head import named

__all__ = ["RawReply"]


@dataclass(slots=True)
class RawReply:
    """A reply as it came: `body` still has its Content-Encoding.

    `reusable` tells whether the connection stands where the next reply will begin, `left` when the
    request began to leave.
    """

    status: int
    # None where `names` has all of them.
    headers: list[tuple[bytes, bytes]] | None
    body: bytearray | memoryview
    first_byte: float
    reusable: bool
    left: float
    # The headers by name, where they are known.
    names: dict[str, str] | None = field(default=None, repr=False, compare=False)
    connect: float = 0.0
    link: Link | None = field(default=None, repr=False, compare=False)

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Return the headers as they came, or with their names in lower case."""
        if self.headers is not None:
            return self.headers
        names = self.names or {}
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in names.items()]

    def decompress(self, max_bytes: int) -> Reply:
        """Return it with its headers by name, and its body decompressed. Raises BadAudioError."""
        headers = self.names or named(self.pairs())
        body: Body = self.body
        if "content-encoding" in headers:
            body = inflated(body, headers, self.status, max_bytes)
        times = self.connect, self.first_byte, len(self.body), self.left
        return Reply(self.status, headers, body, *times, self.link)
