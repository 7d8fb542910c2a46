"""What an attempt sends: a wire's requests, mostly one, within its time and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ..clock import Clock
from ..endpoints.endpoint import Attempt, EndpointState
from ..errors import ClosedError, CosyError
from ..messages import Reply, Request, WireRequest
from ..threads.permits import Permits
from ..threads.stop import Stop
from .batch import Batch
from .ports import Sender
from .reply_bounds import ReplyBounds
from .reply_memory import ReplyMemory

__all__ = ["Sending", "aim"]

# The limiter is corrected where a request left between so many seconds after its slot: the thread
# was held up. Later than that nobody needs it any more. (A test's clock and the net's clock may
# have nothing to do with each other.)
_HELD_UP, _LATEST_NEWS = 0.001, 1.0


class SendingParts(Protocol):
    """What all attempts of a client send with."""

    @property
    def sender(self) -> Sender: ...
    @property
    def bounds(self) -> ReplyBounds: ...
    @property
    def memory(self) -> Permits: ...
    @property
    def clock(self) -> Clock: ...

    def enter_again(
        self,
        batch: Batch,
        attempt: Attempt,
        texts: Sequence[str],
        request_id: str,
        number: int,
        lost: CosyError,
    ) -> None:
        """Report a sending that was lost unread, and wait until the second one may leave."""
        ...


class Sending(ReplyMemory):
    """The requests of one attempt, and the memory of their replies; used by one thread."""

    __slots__ = ("_attempt", "_number", "_parts", "_request_id", "_texts", "reply")

    def __init__(
        self,
        parts: SendingParts,
        batch: Batch,
        attempt: Attempt,
        texts: Sequence[str],
        request_id: str,
        number: int,
    ) -> None:
        # As ReplyMemory's, without the call: every text comes here.
        self._batch, self._memory, self._clock = batch, parts.memory, parts.clock
        self._size = None
        self._parts = parts
        self._attempt, self._texts = attempt, texts
        self._request_id, self._number = request_id, number
        # The latest one.
        self.reply: Reply | None = None

    def send(self, request: WireRequest) -> Reply:
        """Send a request to the attempt's endpoint and return its reply; see `Send` of the wires.
        Raises CosyError."""
        attempt, batch, parts, texts = self._attempt, self._batch, self._parts, self._texts
        aim(request, attempt.endpoint, self._ask_again, batch.stop, texts)
        left = max(0.0, batch.deadline.at - parts.clock.now())
        first = self.reply is None
        most = parts.bounds.most(texts)
        try:
            self.reply = reply = parts.sender.post(request, left, most, self.make)
        except CosyError as error:
            if first and error.sent:  # it left before it failed; nobody knows when
                self._correct(parts.clock.now())
            raise
        if first and reply.left - attempt.sent > _HELD_UP:
            self._correct(reply.left)
        return reply

    def _correct(self, left: float) -> None:
        sent = self._attempt.sent
        if _HELD_UP < left - sent < _LATEST_NEWS:
            self._attempt.endpoint.limiter.correct(sent, left)

    def _ask_again(self, lost: CosyError) -> None:
        rest = self._texts, self._request_id, self._number, lost
        self._parts.enter_again(self._batch, self._attempt, *rest)


def aim(
    request: WireRequest,
    endpoint: EndpointState,
    again: Callable[[CosyError], None],
    stop: Stop,
    texts: Sequence[str] = (),
) -> None:
    """Send a request to the endpoint's own address, if it goes to its host at all; give it the time
    that its texts may take, what is to be asked before a second sending, and what cuts it off.

    Raises ClosedError where that has happened.
    """
    if stop.was_cut:
        raise ClosedError("cancelled before it was sent")
    if stop.cuts and hasattr(request, "stop"):
        request.stop = stop
    if isinstance(request, Request):
        request.chars = sum(map(len, texts))
        if not request.foreign:  # the limits are the service's
            request.again = again
    elif hasattr(request, "again"):
        request.again = again
    if endpoint.address is not None and _same_host(request.url, endpoint.endpoint.url):
        request.address = endpoint.address


def _same_host(url: str, other: str) -> bool:
    return urlsplit(url).netloc == urlsplit(other).netloc
