"""A call of few texts: they share batches with those of other callers, and keep their own order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from ..clock import Clock
from ..config import ClientConfig
from ..models import Outcome, Utterance
from ..policies import Deadline, begin_of
from ..threads import leave_behind
from ..threads.stop import Stop
from .batch import failed
from .call_watch import CallWatch
from .waiters import Waiter

__all__ = ["Part", "SmallCall"]


class Part(Waiter):
    """One text of a call. Its time begins when its batch leaves; `within` bounds the whole call."""

    __slots__ = ("_mail", "_within", "index", "outcome", "queue", "text")

    def __init__(
        self,
        text: Utterance,
        queue: Sharing,
        deadline: Deadline,
        within: Deadline | None,
        mail: SimpleQueue[None],
    ) -> None:
        super().__init__(deadline)
        self.text = Utterance(text.text)
        self.index, self.queue = text.index, queue
        self.outcome: Outcome | None = None
        self._within = within
        self._mail = mail

    def seal(self, now: float, silent: float) -> None:
        """Note that a batch takes the text along."""
        within, seconds = self._within, self.deadline.seconds
        deadline = Deadline(begin_of(now, max(self.began, silent), seconds), seconds)
        self.deadline = deadline if within is None or deadline.at < within.at else within

    def tell(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        self.outcome = outcome
        self._mail.put(None)

    def own(self) -> Outcome | None:
        """Return the outcome at its place in this call, once it is there."""
        outcome = self.outcome
        if outcome is None or outcome.index == self.index:
            return outcome
        error = outcome.error
        if error is not None:
            return failed(Utterance(outcome.text, index=self.index), error)
        return Outcome(self.index, outcome.text, outcome.audio)


class Sharing(Protocol):
    """The text queue, as a call needs it."""

    def join_all(self, parts: Sequence[Part]) -> None:
        """Queue several texts at once."""
        ...

    def leave(self, waiter: Waiter, *, cut: bool = False) -> bool:
        """Stop waiting; return False when the outcome is being told just now. Cut off its request
        if that is wanted, and nobody else waits for it."""
        ...


class SmallCall:
    """Does what a BulkCall does, for texts that fill less than half a batch.

    Lives on the caller's thread, which queues all of its texts at once and waits. A
    worker sends them: alone, where nothing is in flight, and with others' otherwise.

    Args:
        texts: Utterances, and outcomes of those that cannot be sent.
        deadline: Seconds for each text, from its sending on.
        within: The end of the whole call.
        queue: The text queue to join.
        queue_of: Returns that of texts with settings of their own.
        clock: The time.
    """

    def __init__(
        self,
        texts: Sequence[Utterance | Outcome],
        deadline: float,
        within: Deadline | None,
        queue: Sharing,
        queue_of: Callable[[ClientConfig], Sharing],
        clock: Clock,
    ) -> None:
        self.stop = Stop()
        self._watch = CallWatch(within, self.stop, clock)
        # Gets an entry for each outcome.
        self._mail: SimpleQueue[None] = SimpleQueue()
        each = Deadline(clock.now(), deadline)
        self._texts: list[Part | Outcome] = [
            Part(
                text,
                queue if text.settings is None else queue_of(text.settings),
                each,
                within,
                self._mail,
            )
            if isinstance(text, Utterance)
            else text
            for text in texts
        ]
        self._parts = [text for text in self._texts if isinstance(text, Part)]
        self._handed_out = 0
        self._over = False

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield every outcome in input order, as soon as it and those before it are there."""
        dropped = False
        try:
            self._join()
            for text in self._texts:
                self._watch.refuse_child()
                outcome = text if isinstance(text, Outcome) else self._await(text)
                yield outcome
                self._handed_out += 1
        except GeneratorExit:
            dropped = True
            raise
        finally:
            if not self._watch.forked and not self._over:
                self._end_elsewhere() if dropped else self.end()

    def _join(self) -> None:
        for queue in {part.queue: None for part in self._parts}:
            queue.join_all([part for part in self._parts if part.queue is queue])

    def end(self) -> None:
        """Send nothing more, and cut off what is in flight for nobody else."""
        self._over = True
        self.stop.set()
        for part in self._parts:
            if part.outcome is None:
                part.queue.leave(part, cut=True)

    def finished(self) -> list[Outcome]:
        """Return what is finished and was not handed out yet, in input order."""
        rest = self._texts[self._handed_out :]
        known = [text if isinstance(text, Outcome) else text.own() for text in rest]
        return [outcome for outcome in known if outcome is not None]

    def _await(self, part: Part) -> Outcome:
        while (outcome := part.own()) is None:
            try:
                self._mail.get(timeout=self._watch.seconds())
            except Empty:
                self._watch.refuse_child()
                self._look_around()
        return outcome

    def _look_around(self) -> None:
        """Give up on what has no outcome yet, when waiting for it makes no sense any more."""
        error = self._watch.look()
        if error is None:
            return
        for part in self._parts:
            # Else its outcome is being handed over just now.
            if part.outcome is None and part.queue.leave(part):
                own, pending = error, part.pending
                if pending is not None and pending.batch is not None:
                    own = pending.batch.last_word(pending.utterance, error)
                part.outcome = failed(Utterance(part.text.text, index=part.index), own)

    def _end_elsewhere(self) -> None:
        """End it from within a finaliser, perhaps: the collector comes at any line of any thread,
        also where a lock is held that is needed here. So another thread does it."""
        self.stop.set()
        leave_behind(self.end)
