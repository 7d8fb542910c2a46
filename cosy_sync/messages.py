"""What a wire writes and reads and the net moves: one request, one reply, one text's payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .errors import CosyError
    from .models import Word

__all__ = [
    "CutOff",
    "Incoming",
    "Link",
    "Payload",
    "Reply",
    "Request",
    "RpcRequest",
    "TextSource",
    "WebSocketExchange",
    "WireRequest",
    "kind_of",
]

# The net adds this header to an HTTP reply that does not say where it ends: the connection's end
# ended it, and a service that died in the middle leaves the same.
UNFRAMED = "cosy-unframed"


class CutOff(Protocol):
    """What may cut off a request in flight, from another thread."""

    @property
    def was_cut(self) -> bool:
        """Return whether he wants that now."""
        ...

    def hold(self, cut: Callable[[], object]) -> None:
        """Have this called when he does. Raises ClosedError where it is too late."""
        ...

    def let_go(self, cut: Callable[[], object]) -> bool:
        """Undo `hold`; return False where it was called, or is being called."""
        ...


@dataclass(slots=True)
class Request:
    """One HTTP request: `headers` as (name, value) pairs beside Host and Content-Length, `body`
    as sent.

    `address` is the one of the host's addresses to send it to, None any. A `foreign` one goes to
    somebody other than the service: nothing is added to it that tells of the caller. A `public`
    one goes to addresses that anybody on the internet can have, or nowhere. `chars`: how many
    characters are to be spoken, which may take their time. `again` is called before it is sent a
    second time, with what became of the first; it may wait, and may raise. `stop` may cut it off.
    """

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    address: str | None = None
    method: str = "POST"
    foreign: bool = False
    public: bool = False
    chars: int = 0
    again: Callable[[CosyError], None] | None = field(default=None, repr=False, compare=False)
    stop: CutOff | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class RpcRequest:
    """One gRPC call whose reply is a stream of messages: `path` is /package.Service/Method,
    `message` the serialised request. `stop` may cut it off."""

    url: str = field(repr=False)
    path: str
    message: bytes = field(repr=False)
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    address: str | None = None
    stop: CutOff | None = field(default=None, repr=False, compare=False)


class TextSource(Protocol):
    """Pieces of a text that come while it is already being spoken: written by one thread, read by
    another. Once `ended` is set, no piece follows, and `error` says why that was too early."""

    pieces: list[str]
    ended: bool
    error: CosyError | None


class WebSocketExchange(Protocol):
    """One task over a WebSocket as a state machine, without any I/O: used once, by one thread.

    The net sends what `open` returns, gives every frame that comes to `receive`, sends what that
    returns, and takes the audio with `take`, until `done`. Where it has attributes `again` and
    `stop`, they are as a Request's.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    address: str | None

    def open(self) -> Sequence[str | bytes]:
        """Return the frames that begin the task."""
        ...

    def receive(self, frame: str | bytes) -> Sequence[str | bytes]:
        """Take in a frame; return the frames that answer it. Raises CosyError."""
        ...

    def take(self) -> bytes:
        """Return the audio that came since the last call."""
        ...

    @property
    def listens(self) -> bool:
        """Return whether the caller's side may still have something to say."""
        ...

    def pending(self) -> Sequence[str | bytes]:
        """Return the frames for what the caller's side has said meanwhile. Raises CosyError."""
        ...

    def cancel(self) -> Sequence[str | bytes]:
        """Return the frames that end the task early; none where the protocol has no such thing."""
        ...

    def refuse(self, reply: Reply) -> CosyError:
        """Return the error that a handshake's reply means which is no agreement."""
        ...

    def closed(self, code: int, reason: str) -> CosyError | None:
        """Return the error that the server's goodbye means; None where it says nothing."""
        ...

    @property
    def done(self) -> bool:
        """Return whether the task has ended, in whatever way."""
        ...

    @property
    def reusable(self) -> bool:
        """Return whether the socket may now take another task."""
        ...


class Incoming(Protocol):
    """A reply that is still coming: used by one thread, and closed by it.

    `status` and `headers` as in Reply, but a gRPC call's status joins its headers with its end;
    `connect` in seconds.
    """

    status: int
    headers: Mapping[str, str]
    connect: float

    def read(self) -> bytes:
        """Wait for the next bytes (of a gRPC call: the next message), b"" at the end.

        Takes what is there, and waits at most the budget's `idle` seconds (for the very first
        bytes: `first_byte`) and until the budget's instant, `until`, which may have moved since
        the last call. Raises ReplyTimeout, CutError, and what a conversation says.
        """
        ...

    def close(self) -> None:
        """Keep the connection for others if the reply came to its end; else hang up."""
        ...


class Link(Protocol):
    """A connection over which several replies come, one after the other."""

    def distrust(self) -> None:
        """Take no reply and no further request over it: a reply may have come twice, and each that
        follows be the one before. Harmless from any thread, and at any time."""
        ...


# Whatever a wire may ask the net to carry.
WireRequest = Request | RpcRequest | WebSocketExchange


@dataclass(slots=True)
class Reply:
    """One whole reply: header names in lower case, `body` after decompression.

    Of a gRPC call, `body` is its messages, each behind its length as gRPC frames them; of a
    conversation, its audio; `status` is 200 in both.

    `connect` and `first_byte` in seconds (connect is 0 on a reused connection); `received` counts
    the body's bytes on the network. `left`: the instant, in time.monotonic's seconds, at which the
    request began to leave, 0 where that is not known. `link`: what it came over, where the order of
    replies alone says whose they are.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray | memoryview
    connect: float = 0.0
    first_byte: float = 0.0
    received: int = 0
    left: float = 0.0
    link: Link | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Payload:
    """One text's bytes out of a reply, with the media type that the service gave them.

    `data` may be a view of the reply: whoever keeps it keeps the whole reply.
    `echo`: the SHA-256 of the text that they speak, where the service says it, else empty.
    `words`: when each word is heard, where the service was asked and says it.
    """

    data: bytes | memoryview
    media_type: str
    echo: str = ""
    words: tuple[Word, ...] = ()


def kind_of(media_type: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()
