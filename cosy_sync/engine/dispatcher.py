"""Fan batches out over the workers and hand their outcomes back in input order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

from ..clock import Clock
from ..config import BatchConfig
from ..errors import ClosedError
from ..models import Outcome, Utterance
from ..policies import Deadline
from .backlog import Backlog
from .batcher import pack
from .budget import Permits
from .caller import Caller
from .executor import Executor
from .job import Job

__all__ = ["Dispatcher", "Terms"]

# How long a wait for permits may last before it is looked at again, in seconds.
_LOOK_AGAIN = 1.0


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What one call was promised.

    `gate` bounds the tenant's batches under way, `ahead` those of this call, `max_waiting` the
    bytes of finished audio that wait for their turn.
    """

    deadline: float
    within: Deadline | None
    interactive: bool
    tenant: str
    gate: Permits | None
    ahead: int
    max_waiting: int


class Dispatcher:
    """One call of many texts. Lives on the caller's thread; workers only fill its mailbox."""

    def __init__(
        self,
        texts: Iterable[Utterance | Outcome],
        packing: BatchConfig,
        terms: Terms,
        caller: Caller,
        executor: Executor,
        clock: Clock,
    ) -> None:
        self._batches = pack(self._sift(texts), packing, clock.now)
        self._terms = terms
        self._caller = caller
        self._executor = executor
        self._clock = clock
        self.stop = threading.Event()
        self._mail: SimpleQueue[Job | BaseException] = SimpleQueue()
        self._under_way = 0
        self._done: dict[int, Outcome] = {}
        self._next = 0
        self._backlog = Backlog(terms.max_waiting)
        # Why no more batches come: the end of the input, or what its source raised.
        self._ended = False
        self._source_error: BaseException | None = None

    def outcomes(self) -> Iterator[Outcome]:
        """Yield every text's outcome in input order, as soon as it and those before it are there.

        When the source of texts raises, what came before it is finished and yielded first.
        """
        try:
            while True:
                self._send_more()
                yield from self._ready()
                if self._under_way:
                    self._collect()
                elif self._ended:
                    break
            if self._source_error is not None:
                raise self._source_error
        finally:
            self.stop.set()
            self._backlog.give_up()

    def finished(self) -> list[Outcome]:
        """Return what is finished and was not handed out yet, in input order."""
        while not self._mail.empty():
            self._collect()
        return [self._done[index] for index in sorted(self._done)]

    def _send_more(self) -> None:
        while not self._ended and self._may_send():
            batch = self._pull()
            if batch is None:
                return
            while not self._enter_gate():
                self._collect()
            self._submit(batch)

    def _may_send(self) -> bool:
        if not self._under_way:
            return True
        terms = self._terms
        room = self._under_way < terms.ahead and not self._backlog.full
        return room and self._mail.empty()

    def _pull(self) -> list[Utterance] | None:
        try:
            return next(self._batches)
        except StopIteration:
            self._ended = True
        except Exception as error:
            self._ended, self._source_error = True, error
        return None

    def _enter_gate(self) -> bool:
        """Pass the tenant's gate; False when it is full and a batch of this call may open it."""
        gate = self._terms.gate
        if gate is None:
            return True
        if self._under_way:
            return gate.acquire()
        while not gate.acquire(seconds=_LOOK_AGAIN):
            pass
        return True

    def _submit(self, batch: list[Utterance]) -> None:
        terms = self._terms
        deadline = Deadline(self._clock.now(), terms.deadline)
        if terms.within is not None and terms.within.at < deadline.at:
            deadline = terms.within
        job = Job(
            batch,
            deadline,
            interactive=terms.interactive,
            tenant=terms.tenant,
            stop=self.stop,
            backlog=self._backlog,
        )
        self._under_way += 1
        try:
            self._executor.submit(lambda: self._work(job))
        except ClosedError:
            self._under_way -= 1
            if terms.gate is not None:
                terms.gate.release()
            raise

    def _work(self, job: Job) -> None:
        # On a worker: a bug must reach the caller too, or it would wait for ever.
        try:
            self._caller.run(job)
        except BaseException as error:
            self._mail.put(error)
        else:
            self._mail.put(job)
        finally:
            if self._terms.gate is not None:
                self._terms.gate.release()

    def _collect(self) -> None:
        mail = self._mail.get()
        self._under_way -= 1
        if isinstance(mail, BaseException):
            raise mail
        for outcome in mail.outcomes:
            self._done[outcome.index] = outcome

    def _sift(self, texts: Iterable[Utterance | Outcome]) -> Iterator[Utterance]:
        for text in texts:
            if isinstance(text, Outcome):
                self._done[text.index] = text
            else:
                yield text

    def _ready(self) -> Iterator[Outcome]:
        while self._next in self._done:
            outcome = self._done.pop(self._next)
            self._next += 1
            size = len(outcome.audio.data) if outcome.audio is not None else 0
            self._backlog.hand_out(self._next, size)
            yield outcome
