"""One pending text, and everybody who waits for it: identical texts are sent once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import cast

from ..atomic import wait_for
from ..errors import DeadlineError, RateLimitedError
from ..models import Audio, Outcome, Timing, Utterance
from ..policies import Deadline
from ..threads import leave
from ..threads.stop import Stop
from .batch import ANY_TIME, Batch, after, failed
from .text_future import TextFuture

__all__ = [
    "BatchedTexts",
    "BlockingWaiter",
    "FutureWaiter",
    "PendingText",
    "Waiter",
    "outlasting",
    "share",
]

# Seconds by which two times in the queue may differ and still be the same.
_SAME = 1e-6


class Waiter:
    """One caller's wait for a text. Who takes it out of its pending text's list calls `tell`, once.

    `has_thread`: a thread waits and leaves by itself when its time is up. `began`: when the caller
    came.
    """

    __slots__ = ("began", "deadline", "pending")
    has_thread = True

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.began = deadline.started
        self.pending: PendingText | None = None

    def tell(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        raise NotImplementedError

    def seal(self, now: float, silent: float) -> None:
        """Note that a batch takes the text along, and since when its endpoint is silent."""


class BlockingWaiter(Waiter):
    """A thread that waits. What it gets is an outcome, or an error to raise."""

    __slots__ = ("_wakeup", "error", "outcome")

    def __init__(self, deadline: Deadline) -> None:
        super().__init__(deadline)
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._wakeup = threading.Lock()
        self._wakeup.acquire()

    # Who took it out of its text's waiters, under the queue's lock, calls one of the two, once. The
    # lock stays released: a thread whose time is up just then need not wait a second time.

    def tell(self, outcome: Outcome) -> None:
        """Wake the thread."""
        self.outcome = outcome
        self._wakeup.release()

    def break_off(self, error: BaseException) -> None:
        """Wake the thread with an error."""
        self.error = error
        self._wakeup.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the outcome, at most `seconds`; return whether it came."""
        leave()
        return wait_for(self._wakeup, seconds)


class FutureWaiter(Waiter):
    """A future that is told. `release` gives back what the text holds, before anybody is told."""

    __slots__ = ("future", "release")
    has_thread = False

    def __init__(self, deadline: Deadline, future: TextFuture) -> None:
        super().__init__(deadline)
        self.future = future
        self.release: Callable[[], None] | None = None

    def tell(self, outcome: Outcome) -> None:
        """Set the future's result or exception."""
        if self.release is not None:
            self.release()
        if not self.future.set_running_or_notify_cancel():
            return
        if outcome.error is None:
            self.future.set_result(cast(Audio, outcome.audio))
        else:
            self.future.set_exception(outcome.error)


class PendingText:
    """A text from its arrival until it has an outcome. Its text queue's lock guards it.

    `key` is what it is known by, `batched` the texts that it shares a batch with, once it does.
    `context`: its caller's context variables, where others' texts do not join it.
    `sent_alone`: its caller's own thread sends it, and has no waiter.
    """

    __slots__ = ("accepted_at", "batched", "context", "key", "sent_alone", "utterance", "waiters")

    def __init__(self, utterance: Utterance, key: object, waiters: list[Waiter]) -> None:
        self.utterance = utterance
        self.key = key
        self.waiters = waiters
        self.sent_alone = not waiters
        self.accepted_at = waiters[0].deadline.started if waiters else 0.0
        self.batched: BatchedTexts | None = None
        self.context: Context | None = None
        for waiter in waiters:
            waiter.pending = self

    @property
    def batch(self) -> Batch | None:
        """Return the batch that it is in, None before."""
        return None if self.batched is None else self.batched.batch

    @property
    def may_be_sent(self) -> bool:
        """Return whether it may have been sent."""
        return self.sent_alone or (self.batched is not None and self.batched.sealed)

    def longest(self) -> Deadline:
        """Return the longest of its deadlines."""
        waiters = self.waiters
        if len(waiters) == 1:
            return waiters[0].deadline
        return max((waiter.deadline for waiter in waiters), key=lambda deadline: deadline.at)


class BatchedTexts:
    """Pending texts that are in one batch, where others may join until it is sealed.

    Their text queue's lock guards it.

    Args:
        pending_texts: At least one.
        interactive: As in Batch.
        tenant: The same.
    """

    __slots__ = ("batch", "open", "pending_texts", "sealed")

    def __init__(
        self, pending_texts: Sequence[PendingText], *, interactive: bool, tenant: str
    ) -> None:
        first = pending_texts[0]
        self.batch = batch = Batch(
            (first.utterance,),
            first.longest(),
            interactive=interactive,
            tenant=tenant,
            stop=Stop(),
        )
        batch.shared = batch.may_grow = True
        if not interactive:
            batch.queue_deadline = ANY_TIME
            batch.call_began = max(w.began for each in pending_texts for w in each.waiters)
        self.sealed = False
        self.hold(pending_texts)

    def hold(self, pending_texts: Sequence[PendingText]) -> None:
        """Make these the texts of the batch: at least one, and each with a waiter."""
        self.pending_texts = pending_texts
        # Those without an outcome.
        self.open = len(pending_texts)
        for index, pending in enumerate(pending_texts):
            pending.batched = self
            pending.utterance.index = index
        batch = self.batch
        deadlines = [pending.longest() for pending in pending_texts]
        batch.deadline = max(deadlines, key=lambda deadline: deadline.at)
        batch.accepted_at = min([pending.accepted_at for pending in pending_texts])
        # Another tuple: the one before belongs to the thread that runs the batch.
        batch.texts = tuple([pending.utterance for pending in pending_texts])

    def seal(self) -> None:
        """Let no text join any more."""
        self.sealed, self.batch.may_grow = True, False

    def is_wanted(self) -> bool:
        """Return whether anybody still waits for any of them."""
        return any(pending.waiters for pending in self.pending_texts)


def outlasting(waiters: list[Waiter], deadline: Deadline, outcome: Outcome | None) -> list[Waiter]:
    """Return those with time left, if it was others' lack of time that ended their text.

    Without an outcome the thread that sent it was killed: then it is all of them.
    """
    if outcome is None:
        return waiters
    if not isinstance(outcome.error, (DeadlineError, RateLimitedError)):
        return []
    return [waiter for waiter in waiters if waiter.deadline.at > deadline.at]


def share(outcome: Outcome, waiter: Waiter) -> Outcome:
    """Return the outcome of a shared call as this caller's own: place, time and error."""
    audio, error, deadline = outcome.audio, outcome.error, waiter.deadline
    if audio is not None:
        return Outcome(0, outcome.text, _timed(audio, deadline.started))
    assert error is not None
    if isinstance(error, DeadlineError) and error.deadline != deadline.seconds:
        own = deadline.error(error.phase or "waiting to be sent", in_flight=error.in_flight)
        error = after(own.with_details(endpoint=error.endpoint), error.attempts)
    return failed(Utterance(outcome.text), error)


def _timed(audio: Audio, accepted_at: float) -> Audio:
    timing = audio.timing
    if timing is None or abs(timing.started - timing.queued - accepted_at) < _SAME:
        return audio
    # Who joined a call that was in flight waited only for the rest of it.
    late = max(0.0, accepted_at - timing.started)
    own = Timing(
        started=timing.started + late,
        queued=timing.started + late - accepted_at,
        connect=max(0.0, timing.connect - late),
        first_byte=max(0.0, timing.first_byte - late),
        total=timing.total - late,
        attempts=timing.attempts,
        endpoint=timing.endpoint,
        request_id=timing.request_id,
    )
    return Audio(
        data=audio.data,
        format=audio.format,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        pcm_start=audio.pcm_start,
        pcm_size=audio.pcm_size,
        timing=own,
        words=audio.words,
        variant=audio.variant,
    )
