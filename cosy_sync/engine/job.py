"""One batch on its way: its texts, its time, and what has become of each."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..atomic import Flag
from ..errors import ClosedError, CosyError, RefusedError, UnexpectedError
from ..models import Audio, Outcome, Utterance
from ..policies import Call, Deadline, FirstTry, Unanimity
from .backlog import Backlog

if TYPE_CHECKING:
    from .station import Station

__all__ = ["ENDLESS", "Job", "Stop", "failed", "unexpected"]


class Stop(Flag):
    """Set when nobody wants the rest any more; sets what is attached to it as well.

    A CutOff: `cut` also ends the requests that are under way, whose replies nobody can have.
    """

    def __init__(self, *, cuts: bool = True) -> None:
        super().__init__()
        # Adding, discarding and copying are one atomic step each.
        self._attached: set[threading.Event] = set()
        # Whether it may cut off what is under way; what does so, each use being one atomic step.
        self.cuts = cuts
        self.was_cut = False
        self._held: dict[Callable[[], object], bool] = {}

    def attach(self, event: threading.Event) -> None:
        """Have an event set together with this one, until it is detached."""
        self._attached.add(event)
        if self.is_set():  # here or in set(), whichever comes later
            event.set()

    def detach(self, event: threading.Event) -> None:
        """Undo `attach`."""
        self._attached.discard(event)

    def set(self) -> None:
        """Set it, and what is attached."""
        super().set()
        for event in list(self._attached):
            event.set()

    def hold(self, cut: Callable[[], object]) -> None:
        """Have this called by `cut` until it is let go. Raises ClosedError when it is too late."""
        self._held[cut] = True
        if self.was_cut:  # here or in cut(), whichever comes later
            raise ClosedError("its call was ended before it was sent")

    def let_go(self, cut: Callable[[], object]) -> bool:
        """Undo `hold`; return False where it was called, or is being called."""
        return self._held.pop(cut, False)

    def cut(self) -> None:
        """Set it, and cut off what is under way. May wait for a moment."""
        self.was_cut = True
        self.set()
        with contextlib.suppress(KeyError):
            while True:
                self._held.popitem()[0]()


_UNSENT = Call()
# Bulk work waits for a place as long as others before it are spoken.
ENDLESS = Deadline(0.0, math.inf)


class Job:
    """Texts that travel together until each has an outcome.

    `stop` is set when nobody wants the rest any more; a waiting job then ends at once.
    """

    __slots__ = (
        "alone",
        "backlog",
        "call",
        "deadline",
        "first",
        "first_tries",
        "hopeless",
        "interactive",
        "number",
        "outcomes",
        "paid",
        "queue_deadline",
        "record",
        "sent",
        "spared",
        "stop",
        "strikes",
        "taken_up",
        "tenant",
        "texts",
        "tries",
    )

    def __init__(
        self,
        texts: Sequence[Utterance],
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        stop: Stop,
        backlog: Backlog | None = None,
    ) -> None:
        self.texts = texts
        self.first = min([utterance.index for utterance in texts])
        self.backlog = backlog
        # Until when it may wait for a place and a slot before it is first sent; None where that
        # time counts for the deadline as well.
        self.queue_deadline: Deadline | None = None
        self.deadline = deadline
        self.taken_up = deadline.started
        self.interactive = interactive
        self.tenant = tenant
        self.stop = stop
        self.outcomes: list[Outcome] = []
        # An error that every further text would end with as well.
        self.hopeless: CosyError | None = None
        # What its call was refused with, once that matters; of a call of many texts, from the
        # start. Its request in flight has this number there. `alone`: there is no other endpoint.
        self.record: Unanimity | None = None
        self.number = 0
        self.alone = False
        # Failures in a row that a text or the size of the batch may have caused.
        self.strikes = 0
        # Whether the next repetition is paid from the retry budget already, or cannot be; None:
        # each text pays for itself.
        self.paid: bool | None = None
        # Each failed text's errors so far, newest last.
        self.tries: dict[int, list[CosyError]] = {}
        # How many of them used up no attempt.
        self.spared: dict[int, int] = {}
        # Of the texts that are being sent: how they first fared where they failed before.
        self.first_tries: Mapping[Station, FirstTry] = {}
        # When the latest attempt was sent, and what it is judged by.
        self.sent = 0.0
        self.call = _UNSENT

    @property
    def may_grow(self) -> bool:
        """Return whether texts may still join before it is sent."""
        return False

    def take_up(self, deadline: Deadline, now: float) -> None:
        """Note that a worker begins: until then the texts' time does not run.

        The deadline of a whole call began before.
        """
        self.deadline = deadline
        self.taken_up = now

    def finish(self, utterance: Utterance, audio: Audio) -> None:
        """Note a text's audio."""
        self.outcomes.append(Outcome(utterance.index, utterance.text, audio))

    def fail(self, utterance: Utterance, error: CosyError) -> CosyError:
        """Note the error that ends a text; it carries the attempts before it."""
        earlier = self.tries.get(utterance.index, [])
        if earlier and earlier[-1] is error:
            earlier = earlier[:-1]
        outcome = failed(utterance, error.with_details(attempts=tuple(earlier)))
        self.outcomes.append(outcome)
        assert outcome.error is not None
        if outcome.error.hopeless:
            self.hopeless = outcome.error
        return outcome.error

    def end(self, cause: BaseException) -> None:
        """End the texts that have no outcome yet: something broke that never should."""
        error = unexpected(cause)
        known = {outcome.index for outcome in self.outcomes}
        for text in self.texts:
            if text.index not in known:
                self.fail(text, error)

    def note(self, utterance: Utterance, error: CosyError) -> list[CosyError]:
        """Note a failed attempt of a text; return all of its errors so far."""
        errors = self.tries.setdefault(utterance.index, [])
        errors.append(error)
        return errors

    def queued(self, seconds: float) -> None:
        """Note a wait for a place or a slot: it does not count for a deadline that counts from the
        first sending."""
        queue = self.queue_deadline
        if queue is not None:
            later = self.deadline.later(seconds)
            self.deadline = later if later.at < queue.at else queue

    def spare(self, utterance: Utterance) -> int:
        """Note that a text's latest failure used up no attempt; return how many did not."""
        times = self.spared[utterance.index] = self.spared.get(utterance.index, 0) + 1
        return times

    def depart(self) -> None:
        """Note that the texts are sent now: they have their connection and their turn.

        Raises RefusedError when their call has ended meanwhile.
        """
        record = self.record
        if record is not None:
            if record.verdict is not None:
                raise RefusedError("not sent: every text of its call is refused", retryable=False)
            self.number = record.begin()
        self.queue_deadline = None

    def arrive(self) -> None:
        """Note that the reply is there, and only the user's check follows."""

    def deliver(self) -> None:
        """Hand out the outcomes so far: the job goes on to wait for the others."""


def unexpected(cause: BaseException) -> UnexpectedError:
    """Return the error that a foreign exception becomes."""
    error = UnexpectedError(
        f"an unexpected {type(cause).__name__}, see the cause: a hook, a mock or a check of "
        "yours, or a bug of cosy_sync"
    )
    error.__cause__ = cause
    return error


def failed(utterance: Utterance, error: CosyError) -> Outcome:
    """Return the outcome of a text that ended with an error."""
    own = error.with_details(index=utterance.index, text_hash=utterance.hash)
    return Outcome(utterance.index, utterance.text, None, own)
