"""Fan batches out over the workers and hand their outcomes back in input order.

States of a batch of the call. "Caller" is the thread that called. There is no lock, unless one is
named: each step is one atomic change of a deque or a set.

    packed      cut, and the caller's alone
    ready       in `_ready` and `_batches`, with its place in the tenant's limit
    running     a worker has it
    mailed      it has ended, and lies in `_mail`
    noted       its outcomes are in `_done`, each until it is handed out

    packed -> ready     caller, `_send`: once the tenant has a place
    packed -> noted     caller, `_refuse_unsent`: the call has its verdict, or the client is closed
    ready -> running    worker, `_next_batch`
    ready -> noted      caller, `_dismiss`: as before; what no worker took is taken out
    ready -> dropped    `_finish`, as the call is over: nobody takes its outcomes
    running -> mailed   worker, `_work`; it wakes the caller for the outcome that is next, for too
                        few ready batches and for a verdict
    running -> noted    caller, `_abandon`: the worker goes on, and its mail is not looked at
    mailed -> noted     caller, `_open_mail`

States of the call: its texts go on, are at their end (`_ended`), and it is over (`_over`).

    going on -> ended   caller, `_pull` or `_send`
    any -> over         `_finish`: caller, or `cosy-reaper` where the generator was dropped

The call's verdict (`_verdicts.whole`) is set by workers and the caller: nothing more is sent then.
Texts with settings of their own have verdicts of their own (engine/verdicts.py). How
many workers serve the call changes under `_lock`: `_submit` adds one before it is called,
`_next_batch` takes one away while it sees that nothing is ready, so no ready batch is left without
a worker. The caller waits in `_collect` until `_wakeup`, a lock, is released.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextvars import copy_context

from ..clock import Clock
from ..config import BatchConfig
from ..errors import ClosedError, CosyError
from ..models import Outcome, Utterance, detach
from ..policies import Deadline
from ..threads import Turn, enter, leave, leave_behind, pause
from ..threads.stop import Stop
from ..threads.workers import Executor
from ..user_code import goes_on, log_failure
from .batch import ANY_TIME, Batch, failed
from .bulk_options import BulkOptions
from .call_watch import CallWatch
from .intake import Intake
from .packing import pack
from .ports import Runs
from .ready_batches import ReadyBatches
from .reorder import ReorderBuffer, Unbounded
from .verdicts import Verdicts

__all__ = ["BulkCall"]

# Outcomes that wait for those before them, at most, however small they are.
_MOST_DONE = 10_000
# Texts in batches that are ready for a worker, at most, so that none waits for the caller's thread.
_MOST_READY = 4_096


class BulkCall:
    """One call of many texts. Lives on the caller's thread, which packs batches and hands out.

    Workers take one ready batch after the other, and put the finished ones into the mailbox. They
    wake the caller's thread only for what it waits for: the next outcome, or too few ready ones.
    """

    def __init__(
        self,
        texts: Iterable[Utterance | Outcome | None],
        config: BatchConfig,
        options: BulkOptions,
        runner_of: Callable[[Utterance], Runs],
        executor: Executor,
        clock: Clock,
    ) -> None:
        # Whether the caller lets go of each sound before it takes the next: no copy is needed then.
        self.lends = False
        self._done: dict[int, Outcome] = {}
        self._intake = Intake(texts, self._done, config.max_texts)
        self._packed = pack(self._intake.texts(), config, clock.now, options.limit)
        # Texts of one batch have one runner: the call's, or that of their own settings.
        self._options, self._runner_of = options, runner_of
        self._executor, self._clock = executor, clock
        # What the caller's checks and observers see of its context variables.
        self._context = copy_context()
        self.stop = Stop()
        self._watch = CallWatch(options.within, self.stop, clock)
        self._ready = ReadyBatches(options.tenant_limit)
        self._fit(options.ahead)
        # Guards: _serving, the workers that serve this call or soon will; _began, when the first
        # did, moved on by each time without any, which began at _idle_since.
        self._lock = threading.Lock()
        self._serving, self._began, self._idle_since = 0, 0.0, 0.0
        self._mail, self._batches = deque[Batch](), set[Batch]()
        self._wakeup = threading.Lock()  # held; releasing it wakes the caller's thread
        self._wakeup.acquire()
        self._turn = Turn()  # of the caller's thread
        self._next = 0
        most = options.max_waiting
        self._reorder = Unbounded() if most is None else ReorderBuffer(most, options.places)
        self._ended = self._over = False  # the texts are at their end; and the call is
        # What ends the call after everything before it was handed out.
        self._last_error: BaseException | None = None
        # The error with which every further text would end, so that no more are sent.
        self._verdicts = Verdicts()

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield every text's outcome in input order, as soon as it and those before it are there.

        When the source of texts raises, what came before it is finished and yielded first.
        """
        dropped = whole = False
        try:
            while True:
                self._watch.refuse_child()
                self._send_more()
                yield from self._hand_out()
                self._watch.refuse_child()
                if self._batches:
                    self._collect()
                elif self._ended:
                    break
            whole = True
            if self._last_error is not None:
                raise self._last_error
        except GeneratorExit:
            dropped = True
            raise
        finally:
            if not self._watch.forked and not self._over:
                if dropped:  # in a finaliser, perhaps, where a lock may be held that is needed
                    self.stop.set()
                    leave_behind(self.end)
                else:
                    (self._finish if whole else self.end)()

    def end(self) -> None:
        """Send nothing more, and cut off what is in flight: nobody can have its results."""
        self._finish()
        # On another thread: Ctrl-C may come to this one once more.
        leave_behind(self.stop.cut)

    def _finish(self) -> None:
        self._over = True
        self.stop.set()
        self._ready.clear()
        self._reorder.give_up()

    def finished(self) -> list[Outcome]:
        """Return what is finished and was not handed out yet, in input order."""
        self._open_mail()
        for batch in self._batches:
            self._note(list(batch.outcomes))
        outcomes = [self._done[index] for index in sorted(self._done)]
        for outcome in outcomes:
            if outcome.audio is not None:
                detach(outcome.audio)
        return outcomes

    # -- sending --------------------------------------------------------------------------------

    def _fit(self, places: int) -> None:
        """Set how many batches may be in flight or ready, where so many can be sent."""
        options = self._options
        # A tenant's batch has its place from the start, so none of them may only be ready.
        spare = 0 if options.tenant_limit else min(places // 4, _MOST_READY // self._intake.size)
        self._most_batches = places + spare
        self._low = spare // 2
        if options.lazy:
            self._intake.most = options.read_ahead or 2 * places * self._intake.size

    def _send_more(self) -> None:
        if self._options.lazy:  # what is pulled too early may be spoken, and never taken
            self._fit(min(self._options.ahead, max(1, int(self._options.places()))))
        while not self._ended and self._may_send():
            texts = self._pull()
            if not texts:
                return
            verdict = self._verdicts.on(texts[0])
            if verdict is None:
                self._send(texts)
            else:
                self._refuse_unsent(texts, verdict)
                return

    def _may_send(self) -> bool:
        if not self._batches:
            return True
        sent = len(self._batches)
        busy = sent >= self._most_batches or self._reorder.is_full(sent)
        return not busy and len(self._done) < _MOST_DONE and self._wakeup.locked()

    def _pull(self) -> list[Utterance] | None:
        try:
            return next(self._packed)
        except StopIteration:
            self._ended = True
        except Exception as error:
            if not self._options.lazy:
                raise  # a signal's: the texts are all there
            self._ended, self._last_error = True, error
        return None

    def _send(self, texts: list[Utterance]) -> None:
        batch = self._batch(texts)
        try:
            while not self._ready.enter(
                batch, self._batches, 0.0 if self._batches else self._watch.seconds()
            ):
                if self._batches:
                    self._collect()
                else:
                    self._verdicts.whole = self._verdicts.whole or self._watch.look()
                if self._verdicts.whole is not None:
                    self._refuse_unsent(texts, self._verdicts.whole)
                    return
            self._submit()
        except ClosedError as error:
            self._refuse_unsent(texts, error)
            self._verdicts.whole = error
            if self._options.lazy:  # its input may have no end
                self._ended, self._last_error = True, error

    def _batch(self, texts: list[Utterance]) -> Batch:
        options = self._options
        batch = Batch(
            texts,
            self._deadline(),
            interactive=options.interactive,
            tenant=options.tenant,
            stop=self.stop,
            reorder=self._reorder,
        )
        if not options.interactive:
            batch.queue_deadline = options.within or ANY_TIME
        batch.record, batch.alone = self._verdicts.record_of(texts[0]), options.alone
        return batch

    def _submit(self) -> None:
        """Call a worker for what is ready, unless enough of them serve this call."""
        now = self._clock.now()
        # Only after it is ready: a worker that just found nothing is not counted any more.
        with self._lock:
            enough = self._serving >= self._options.ahead
            self._began += 0.0 if self._serving else now - self._idle_since
            self._serving += not enough
        if enough:
            return
        try:
            self._executor.submit(self._serve)
        except ClosedError as error:
            with self._lock:
                self._serving -= 1
            self._dismiss(error)
            raise

    def _deadline(self) -> Deadline:
        options = self._options
        deadline, within = Deadline(self._clock.now(), options.deadline), options.within
        return within if within is not None and within.at < deadline.at else deadline

    # -- on a worker ----------------------------------------------------------------------------

    def _serve(self) -> None:
        """Run what is ready, one batch after the other."""
        while (batch := self._next_batch()) is not None:
            self._work(batch)
            if self._ready and self._executor.contended:
                # Other calls wait for a worker: queue behind them.
                with contextlib.suppress(ClosedError):
                    self._executor.submit(self._serve)
                    break
        pause()

    def _next_batch(self) -> Batch | None:
        while True:
            if self._verdicts.whole is None and (batch := self._ready.take()) is not None:
                return batch
            now = self._clock.now()
            with self._lock:
                if not self._ready or self._verdicts.whole is not None:
                    self._serving, self._idle_since = self._serving - 1, now
                    return None

    def _work(self, batch: Batch) -> None:
        enter()
        now, silent = self._clock.now(), self._options.silent()
        batch.begin(self._deadline(), now, self._began, silent)
        self._reorder.expect(1)
        refused = None if batch.record is None else batch.record.verdict
        try:
            if refused is None:
                # A copy for each thread: no two can be in one context.
                self._context.copy().run(self._runner_of(batch.texts[0]).run, batch)
            else:  # by what became of others with its settings while it was ready
                error = refused.with_details(sent=False)
                batch.outcomes += [failed(text, error) for text in batch.texts]
            if self._options.after is not None:
                self._options.after(batch.texts, batch.outcomes)
        except BaseException as error:  # a bug, or somebody's asynchronous exception
            pause()
            batch.end(error)
            if goes_on(error):
                raise
            log_failure("a batch broke off, and its call goes on")
        finally:
            self._ready.leave(batch)
            self._verdicts.note(batch, alone=self._options.alone)
            self._mail.append(batch)
            # Only after the mail is there: the caller's thread looks at it after `_next` changed.
            if self._is_short():
                self._wake()
                self._turn.hurry()
            elif batch.first <= self._next or self._verdicts.whole is not None:
                self._wake()
            self._reorder.expect(-1)

    def _is_short(self) -> bool:
        """Return whether so few batches are ready that workers may soon have nothing to do."""
        return len(self._ready) <= self._low and not self._ended

    def _wake(self) -> None:
        self._reorder.starve(False)
        with contextlib.suppress(RuntimeError):
            if self._wakeup.locked():
                self._wakeup.release()

    # -- collecting -----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for a batch to end; give up on all of them when that makes no sense any more."""
        error: CosyError | None = None
        self._turn.take(first=self._is_short())
        while error is None and not self._open_mail():
            self._reorder.starve(True)
            leave()
            if not self._wakeup.acquire(timeout=self._watch.seconds()):
                error = self._watch.look()
            self._turn.take(first=self._is_short())
        self._reorder.starve(False)
        if error is not None:
            self._abandon(error)
        elif self._verdicts.whole is not None:
            self._dismiss(self._verdicts.whole)

    def _abandon(self, error: CosyError) -> None:
        self._verdicts.whole = error
        self.stop.set()
        self._dismiss(error)
        self._reorder.give_up()
        batches, self._batches = self._batches, set()
        self._note([outcome for batch in batches for outcome in batch.given_up(error)])

    def _open_mail(self) -> bool:
        """Take over what is finished; return whether there was anything."""
        self._wakeup.acquire(blocking=False)  # a wake-up from now on means new mail
        found = bool(self._mail)
        while self._mail:
            batch = self._mail.popleft()
            if batch in self._batches:  # or it was given up before
                self._note(batch.outcomes)
                self._batches.remove(batch)
        return found

    def _dismiss(self, error: CosyError) -> None:
        """Refuse what is ready and was not begun."""
        for batch in self._ready.clear():
            self._batches.remove(batch)
            self._refuse_unsent(batch.texts, error)

    def _note(self, outcomes: Iterable[Outcome]) -> None:
        self._done.update({outcome.index: outcome for outcome in outcomes})

    def _refuse_unsent(self, texts: Sequence[Utterance], error: CosyError) -> None:
        error = error.with_details(sent=False)
        outcomes = [failed(text, error) for text in texts]
        self._note(outcomes)
        if self._options.after is not None:
            self._options.after(texts, outcomes)

    def _hand_out(self) -> Iterator[Outcome]:
        pause()  # nothing here waits, but whoever takes the outcomes may
        while self._next in self._done:
            if os.getpid() != self._watch.pid:
                self._watch.refuse_child()
            index, outcome = self._next, self._done[self._next]
            self._next = self._intake.taken = index + 1
            audio = outcome.audio
            if self._reorder.bounded:  # else the sound was taken out of its reply before
                if audio is not None and not self.lends:
                    detach(audio)
                self._reorder.hand_out(self._next, 0 if audio is None else len(audio.data))
            yield outcome
            # Only now: an exception at the yield, from a signal say, must not lose it.
            del self._done[index]
