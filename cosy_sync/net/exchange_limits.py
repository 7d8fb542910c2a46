"""What one exchange may take: time, bytes, and whether it may be sent a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ClosedError, CosyError
from ..messages import CutOff

__all__ = [
    "ExchangeLimits",
    "MakeRoom",
    "SendAgain",
    "StaleConnection",
    "no_room_needed",
]

# Bytes of a refusal in which its reason is looked for; its status counts, whatever follows.
MAX_REFUSAL = 65_536
# Seconds after sending in which a reused connection that ends without a byte was dead before: the
# service closed it while idle. One that lives longer may have taken the request up, and whether to
# send that again is for retries to decide.
UNREAD_WITHIN = 0.01

# Called with the size of a reply's body, 0 if unknown, before it is read; may wait and may raise.
MakeRoom = Callable[[int], None]
# Called with what ended a sending that was surely not read, before the second one; waits for its
# turn in the rate limit, and may raise.
SendAgain = Callable[[CosyError], None]


def no_room_needed(size: int) -> None:
    """Do nothing: whoever calls has room for any reply."""


class StaleConnection(Exception):
    """A reused connection was closed by the server before the first byte of a reply.

    `lost`: how the sending ended; None where nothing had been sent.
    """

    def __init__(self, lost: CosyError | None = None) -> None:
        super().__init__()
        self.lost = lost


@dataclass(slots=True)
class ExchangeLimits:
    """What one exchange may take: seconds, the instant that ends it all, and bytes of body.

    `max_refusal`: bytes of the body of a reply that is no success (2xx), of which the rest is left
    unread; None where such bodies are read like any other. `stop` may cut it off.
    """

    first_byte: float
    idle: float
    until: float
    max_bytes: int
    make_room: MakeRoom = no_room_needed
    again: SendAgain | None = None
    max_refusal: int | None = None
    stop: CutOff | None = None

    def hold(self, cut: Callable[[], object]) -> None:
        """Let whoever waits for the exchange cut it off. Raises ClosedError if he has."""
        if self.stop is not None:
            self.stop.hold(cut)

    def let_go(self, cut: Callable[[], object]) -> bool:
        """Undo `hold`; return False where the connection was cut, or is being cut."""
        return self.stop is None or self.stop.let_go(cut)

    def check(self, cause: BaseException | None = None) -> None:
        """Raise ClosedError where nobody waits for the exchange any more."""
        if self.stop is not None and self.stop.was_cut:
            raise ClosedError("its call was ended before its reply came", sent=True) from cause

    def ask_again(self, stale: StaleConnection) -> None:
        """Ask for a second sending, if there was a first. Waits for its turn; raises CosyError
        where there is none."""
        if stale.lost is not None and self.again is not None:
            self.again(stale.lost)
