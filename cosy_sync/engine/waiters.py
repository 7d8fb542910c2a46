"""One pending text, and everybody who waits for it: identical texts are sent once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import cast

from ..atomic import BareCondition, wait_for
from ..errors import ClosedError, DeadlineError, RateLimitedError
from ..models import Audio, Outcome, Timing, Utterance
from ..policies import Deadline
from ..threads import leave
from ..threads.workers import Executor
from ..user_code import goes_on, log_failure
from .batch import Batch, after, failed

__all__ = [
    "BlockingWaiter",
    "FutureWaiter",
    "PendingText",
    "TextFuture",
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

    def tell(self, outcome: Outcome) -> None:
        """Wake the thread."""
        self.outcome = outcome
        self._wakeup.release()

    def break_off(self, error: BaseException) -> None:
        """Wake the thread with an error."""
        self.error = error
        self._wakeup.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the outcome, at most so many seconds; return whether it came."""
        leave()
        return wait_for(self._wakeup, seconds)


class TextFuture(Future[Audio]):
    """A future whose users' callbacks run on workers of `calls`, whoever sets its result.

    Callbacks of one future run one after the other, in the order in which they were added.
    """

    def __init__(self, calls: Executor) -> None:
        super().__init__()
        # With another condition, Ctrl-C in `result` could keep its lock, and the worker that has
        # the result would wait for ever.
        self._condition = BareCondition()
        self._calls = calls
        self._pid = os.getpid()
        # The user's callbacks that were not called yet. Every use of it is one atomic step.
        self._wanted: deque[Callable[[Future[Audio]], object]] = deque()
        # Held by the thread that calls them.
        self._calling = threading.Lock()

    def add_done_callback(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call the function on a worker for callbacks, once the future is done.

        Where the client is closed, or in a forked child, it is called on the thread that ends the
        future, or on this one if that is done.
        """
        # There before the future may be done: whoever ends it meanwhile finds it.
        self._wanted.append(fn)
        super().add_done_callback(_call_on_worker)

    def when_ended(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call a function of ours, which is quick, on the thread that ends the future."""
        super().add_done_callback(fn)

    def hand_over(self) -> None:
        """Have a worker call what is wanted."""
        if self._pid == os.getpid():
            with contextlib.suppress(ClosedError):
                self._calls.submit(self._call_back)
                return
        self._call_back()  # nobody else is there

    def _call_back(self) -> None:
        # Who adds one while another thread calls leaves it to that thread, which looks once more
        # after it let go.
        while self._wanted and self._calling.acquire(blocking=False):
            try:
                self._call(self._wanted.popleft())
            except IndexError:
                pass
            finally:
                self._calling.release()

    def _call(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call a function of the user's; what it raises must not keep the others from being
        called."""
        try:
            fn(self)
        except BaseException as error:
            if goes_on(error):
                raise
            log_failure("a callback of a future failed")


def _call_on_worker(future: Future[Audio]) -> None:
    assert isinstance(future, TextFuture)
    future.hand_over()


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

    `key` is what it is known by, `batch` the batch that it is in, once it is. `sent_alone`:
    its caller's own thread sends it, and has no waiter.
    """

    __slots__ = ("accepted_at", "batch", "key", "sent_alone", "utterance", "waiters")

    def __init__(self, utterance: Utterance, key: object, waiters: list[Waiter]) -> None:
        self.utterance = utterance
        self.key = key
        self.waiters = waiters
        self.sent_alone = not waiters
        self.accepted_at = waiters[0].deadline.started if waiters else 0.0
        self.batch: Batch | None = None
        for waiter in waiters:
            waiter.pending = self

    def longest(self) -> Deadline:
        """Return the longest of its deadlines."""
        waiters = self.waiters
        if len(waiters) == 1:
            return waiters[0].deadline
        return max((waiter.deadline for waiter in waiters), key=lambda deadline: deadline.at)


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
        own = deadline.error(error.phase or "waiting for its turn", in_flight=error.in_flight)
        error = after(own.with_details(endpoint=error.endpoint), error.attempts)
    return failed(Utterance(0, outcome.text), error)


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
        *(audio.data, audio.format, audio.sample_rate, audio.channels),
        *(audio.pcm_start, audio.pcm_size, own, audio.words),
    )
