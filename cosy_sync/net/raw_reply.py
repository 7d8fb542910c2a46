"""A whole reply as it came."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..messages import Link

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
