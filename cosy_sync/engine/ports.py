"""What the engine needs of the net, or of the fakes that tests put in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ..messages import Parcel, Reply

__all__ = ["Ongoing", "Sender"]


class Ongoing(Protocol):
    """A reply that goes on, as the net's sender or a fake gives it.

    `status`, `headers` and `connect` as in Reply; `received` counts its bytes so far.
    """

    status: int
    headers: Mapping[str, str]
    connect: float
    received: int

    def read(self, seconds: float) -> bytes:
        """Return what has come, b"" at the end, within so many seconds, or raise CosyError."""
        ...

    def whole(self, seconds: float) -> Reply:
        """Read the rest within so many seconds and return all of it, or raise CosyError."""
        ...

    def close(self) -> None:
        """Hang up, unless the reply came to its end."""
        ...


class Sender(Protocol):
    """What moves a request: the net's sender, or a fake."""

    def post(
        self, parcel: Parcel, seconds: float, max_bytes: int, make_room: Callable[[int], None]
    ) -> Reply:
        """Send the parcel and return the reply within so many seconds, or raise CosyError.

        Before the reply's body is read, make_room is called with its size in bytes, 0 where the
        service does not say it; it may wait.
        """
        ...

    def open(self, parcel: Parcel, seconds: float, max_bytes: int) -> Ongoing:
        """Send the parcel and return its reply as it begins within so many seconds, or raise
        CosyError."""
        ...
