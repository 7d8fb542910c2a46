"""What the engine asks of others: the net that moves requests, and whoever makes attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ..endpoints.dns import HostConnections
from ..endpoints.endpoint import EndpointState
from ..errors import CosyError
from ..messages import Link, Reply, WireRequest
from ..models import Audio, Utterance
from .batch import Batch

__all__ = ["Attempts", "Network", "ReplyStream", "Result", "Runs", "Sender"]

Result = Audio | CosyError


class ReplyStream(Protocol):
    """A reply that goes on, as the net's sender or a fake gives it.

    `status`, `headers`, `connect` and `link` as in Reply; `received` counts its bytes so far.
    """

    status: int
    headers: Mapping[str, str]
    connect: float
    link: Link | None
    received: int

    def read(self, seconds: float) -> bytes:
        """Return what has come, b"" at the end, within `seconds`, or raise CosyError."""
        ...

    def whole(self, seconds: float) -> Reply:
        """Read the rest within `seconds` and return all of it, or raise CosyError."""
        ...

    def close(self) -> None:
        """Hang up, unless the reply came to its end."""
        ...


class Sender(Protocol):
    """What moves a request: the net's sender, or a fake."""

    def post(
        self, request: WireRequest, seconds: float, max_bytes: int, make_room: Callable[[int], None]
    ) -> Reply:
        """Send the request and return its reply within `seconds`, or raise CosyError.

        Before the reply's body is read, make_room is called with its size in bytes, 0 where the
        service does not say it; it may wait.
        """
        ...

    def open(self, request: WireRequest, seconds: float, max_bytes: int) -> ReplyStream:
        """Send the request and return its reply as it begins, within `seconds`, or raise
        CosyError."""
        ...


class Network(Sender, HostConnections, Protocol):
    """The net, as the engine needs it."""

    def cut(self) -> None:
        """Wake every thread that waits for a reply."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets."""
        ...

    def connections(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are idle."""
        ...


class Attempts(Protocol):
    """What makes attempts for a BatchRunner."""

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Send texts to an endpoint and return audio or an error for each."""
        ...


class Runs(Protocol):
    """What brings the texts of batches to their outcomes: a BatchRunner, or two of them."""

    def run(self, batch: Batch) -> None:
        """Bring every text of the batch to an outcome, whatever happens; blocks until then."""
        ...
