"""Fan batches out over the workers and hand their outcomes back in input order."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from ..clock import Clock
from ..config import BatchConfig
from ..errors import ClosedError, CosyError
from ..models import Outcome, Utterance
from ..policies import Deadline
from .backlog import Backlog, Unbounded
from .batcher import pack
from .caller import Caller
from .executor import Executor
from .gate import Gate
from .job import Job, failed

__all__ = ["Dispatcher", "Terms"]

# Seconds after which a wait is interrupted to see whether it still makes sense.
_GLANCE = 0.5
# Glances that batches get to end by themselves after they were cancelled.
_LAST_GLANCES = 10
# Outcomes that wait for their turn at most, however small they are.
_MOST_DONE = 10_000
# Texts in a row that cannot be sent, after which their outcomes are handed out first.
_MOST_REFUSED = 64


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What one call was promised.

    `gate` bounds the tenant's batches under way, `ahead` those of this call, `max_waiting` the
    bytes of audio that it holds, None for any. A lazy call may have no end. `alone`: there is no
    other endpoint.
    """

    deadline: float
    within: Deadline | None
    interactive: bool
    lazy: bool
    alone: bool
    tenant: str
    gate: Gate | None
    ahead: int
    max_waiting: int | None


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
        self._pid = os.getpid()
        self.stop = threading.Event()
        self._mail: SimpleQueue[Job] = SimpleQueue()
        self._jobs: set[Job] = set()
        self._done: dict[int, Outcome] = {}
        self._next = 0
        most = terms.max_waiting
        self._backlog = Unbounded() if most is None else Backlog(most)
        self._glances = 0
        self._ended = False
        # What ends the call after everything before it was handed out.
        self._last_error: BaseException | None = None
        # What every further text would end with, so that none is sent any more.
        self._verdict: CosyError | None = None

    def outcomes(self) -> Iterator[Outcome]:
        """Yield every text's outcome in input order, as soon as it and those before it are there.

        When the source of texts raises, what came before it is finished and yielded first.
        """
        try:
            while True:
                self._refuse_child()
                self._send_more()
                yield from self._ready()
                self._refuse_child()
                if self._jobs:
                    self._collect()
                elif self._ended:
                    break
            if self._last_error is not None:
                raise self._last_error
        finally:
            if os.getpid() == self._pid:
                self.stop.set()
                self._backlog.give_up()

    def finished(self) -> list[Outcome]:
        """Return what is finished and was not handed out yet, in input order."""
        while not self._mail.empty():
            self._take(self._mail.get())
        for job in self._jobs:
            self._note(list(job.outcomes))
        return [self._done[index] for index in sorted(self._done)]

    # -- sending --------------------------------------------------------------------------------

    def _send_more(self) -> None:
        while not self._ended and self._may_send():
            batch = self._pull()
            if not batch:
                return
            if self._verdict is None:
                self._send(batch)
            else:
                self._refuse(batch, self._verdict)
                return

    def _may_send(self) -> bool:
        if not self._jobs:
            return True
        busy = len(self._jobs) >= self._terms.ahead or self._backlog.full
        return not busy and len(self._done) < _MOST_DONE and self._mail.empty()

    def _pull(self) -> list[Utterance] | None:
        try:
            return next(self._batches)
        except StopIteration:
            self._ended = True
        except Exception as error:
            self._ended, self._last_error = True, error
        return None

    def _send(self, batch: list[Utterance]) -> None:
        try:
            while not self._pass_gate():
                if self._jobs:
                    self._collect()
                else:
                    self._verdict = self._verdict or self._why_give_up()
                if self._verdict is not None:
                    self._refuse(batch, self._verdict)
                    return
            self._submit(batch)
        except ClosedError as error:
            self._refuse(batch, error)
            self._verdict = error
            if self._terms.lazy:  # its input may have no end
                self._ended, self._last_error = True, error

    def _pass_gate(self) -> bool:
        gate = self._terms.gate
        return gate is None or gate.acquire(seconds=0.0 if self._jobs else self._glance())

    def _submit(self, batch: list[Utterance]) -> None:
        terms = self._terms
        now = self._clock.now()
        deadline = Deadline(now, terms.deadline)
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
        job.taken_up = now  # the deadline of the whole call began before
        self._jobs.add(job)
        self._backlog.expect(1)
        try:
            self._executor.submit(lambda: self._work(job))
        except ClosedError:
            self._jobs.remove(job)
            self._backlog.expect(-1)
            if terms.gate is not None:
                terms.gate.release()
            raise

    def _work(self, job: Job) -> None:
        try:
            self._caller.run(job)
        except BaseException as error:
            job.end(error)
        finally:
            self._backlog.expect(-1)
            if self._terms.gate is not None:
                self._terms.gate.release()
            self._mail.put(job)

    # -- collecting -----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for a batch to end; give up on all of them when that makes no sense any more."""
        if self._mail.empty():
            self._backlog.starve(True)
        error: CosyError | None = None
        while error is None:
            try:
                self._take(self._mail.get(timeout=self._glance()))
                break
            except Empty:
                error = self._why_give_up()
        self._backlog.starve(False)
        if error is not None:
            self._abandon(error)

    def _glance(self) -> float:
        within = self._terms.within
        return _GLANCE if within is None else within.cut(_GLANCE, self._clock.now())

    def _why_give_up(self) -> CosyError | None:
        within = self._terms.within
        if within is not None and within.expired(self._clock.now()):
            return within.error("speaking the texts of this call")
        if self.stop.is_set():
            self._glances += 1
            if self._glances > _LAST_GLANCES:
                return ClosedError("the client was closed in the middle of this call")
        return None

    def _abandon(self, error: CosyError) -> None:
        self._verdict = error
        self.stop.set()
        self._backlog.give_up()
        jobs, self._jobs = self._jobs, set()
        for job in jobs:
            known = list(job.outcomes)
            self._note(known)
            indexes = {outcome.index for outcome in known}
            self._refuse([text for text in job.texts if text.index not in indexes], error)

    def _take(self, job: Job) -> None:
        if job in self._jobs:  # or it was given up before
            self._jobs.remove(job)
            self._note(job.outcomes)

    def _note(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self._done[outcome.index] = outcome
            error = outcome.error
            if error is not None and error.hopeless and self._terms.alone:
                self._verdict = error

    def _refuse(self, texts: Sequence[Utterance], error: CosyError) -> None:
        for text in texts:
            self._done[text.index] = failed(text, error)

    def _refuse_child(self) -> None:
        # In a forked child the workers are gone, and any lock may be held by one of them.
        if os.getpid() != self._pid:
            raise ClosedError("the process forked in the middle of this call; call again here")

    def _sift(self, texts: Iterable[Utterance | Outcome]) -> Iterator[Utterance | None]:
        refused = 0
        for text in texts:
            if isinstance(text, Utterance):
                refused = 0
                yield text
                continue
            self._done[text.index] = text
            refused += 1
            if refused % _MOST_REFUSED == 0:
                yield None

    def _ready(self) -> Iterator[Outcome]:
        while self._next in self._done:
            self._refuse_child()
            outcome = self._done.pop(self._next)
            self._next += 1
            size = len(outcome.audio.data) if outcome.audio is not None else 0
            self._backlog.hand_out(self._next, size)
            yield outcome
