"""Texts of concurrent callers share batches: sent at once when idle, gathered while busy.

If nothing is in flight, the calling thread sends its text itself. Else texts queue, and a worker
(the leader) waits up to `linger` for more, acquires a connection and a slot of the rate limit, and
only then fixes the batch. Callers only wait; each leaves when its own time is up, and the batch
goes on.

States of a text, a PendingText. Every step is taken under `_lock`; waiters are told, workers called
and events set after it.

    alone       its caller's own thread sends it; others with the same text may wait for it
    queued      in `_pending`, before any batch has it; others with the same text may wait for it
    gathered    in BatchedTexts that are not sealed; the same
    sent        they are sealed; the same
    ended       it has an outcome, or nobody waits for it any more

    new -> alone                    `try_send_alone`: nothing is in flight (or batches have one text
                                    anyway), and the same text is not pending
    new -> queued                   `join`, `join_all`
    queued -> gathered              `_start_batch`, by the leader
    queued, gathered -> sent        `_seal`, by the leader, which fills the batch up
    queued -> ended                 `_refuse`: there is no worker any more
    alone -> ended                  `finish_alone`, by the caller's thread
    gathered, sent -> ended         `_complete`, by the worker, with the text's outcome
    alone, gathered, sent -> queued the same two, as a new PendingText: for those with time left,
                                    where the text ended for others' lack of time; for all, where
                                    its caller's thread was killed
    queued, gathered, sent -> ended `leave` or `_expire`: the last waiter is gone. A batch without
                                    any waiter is stopped

States of the leader, a worker; `_has_leader` is true in all but the first:

    none -> called                  `_needs_worker`, under `_lock`: something is queued. (Where
                                    batches have one text, each new text calls its own worker.)
    called -> lingering             `_linger`, under `_lock`: texts are in flight, and a request
                                    could leave now. It waits for the time or `_wakeup` outside
    called, lingering -> gathering  `_start_batch`, under `_lock`
    gathering -> none               `_seal`, under `_lock`; what is left queued calls the next one
    any -> none                     `_release_leader`, under `_lock`: nothing was queued, the batch
                                    ended unsealed, or Ctrl-C came to whoever called the worker
    called -> none                  `_refuse`, under `_lock`: the client is closed
"""

from __future__ import annotations

import functools
import math
import operator
import threading
import weakref
from collections.abc import Sequence
from contextvars import Context, copy_context

from ..atomic import Flag
from ..errors import CosyError, RefusedError
from ..models import Outcome, Utterance
from ..policies import Deadline
from ..threads import enter, leave_behind, pause
from .batch import Batch, failed
from .pending_texts import PendingTexts, QueueOptions, as_event, late
from .ports import Runs
from .queue_workers import QueueWorkers
from .small_call import Part
from .tenants import TenantLimit
from .waiters import BatchedTexts, BlockingWaiter, PendingText, Waiter, share

__all__ = ["TextQueue"]

# Seconds that a caller whose time is up gives its batch to say why.
_LAST_WORD = 0.05

_WAITERS = operator.attrgetter("waiters")


class TextQueue:
    """The queue of texts that may share a batch: same settings, same tenant, same priority."""

    def __init__(
        self,
        options: QueueOptions,
        workers: QueueWorkers,
        runner: Runs,
        tenant_limit: TenantLimit | None,
    ) -> None:
        self._options, self._gathers = options, options.max_texts > 1
        self._workers = workers
        self.runner = runner
        self._tenant_limit = tenant_limit
        # Guards everything below, and of every pending text its waiters and its batch.
        self._lock = threading.Lock()
        self._pending = PendingTexts(options.max_texts, options.max_chars)
        # Texts on their callers' threads, and batches with texts without an outcome; whether there
        # is a leader: a worker that gathers a batch, or was called to.
        self._in_flight, self._has_leader = 0, False
        # Ends the leader's linger.
        self._wakeup: threading.Event | None = None
        self._alarm_at = math.inf
        # There are waiters whose deadline begins when their batch is sent.
        self._restarts = False

    # -- callers --------------------------------------------------------------------------------

    def try_send_alone(self, utterance: Utterance) -> PendingText | None:
        """Let the caller's own thread send a text when nothing is in flight; None otherwise.

        Whoever gets one must end it with `finish_alone`.
        """
        if self._in_flight and self._gathers:  # it may end just now: then `join` calls a worker
            return None
        key = utterance.text
        pending = PendingText(utterance, key, [])
        with self._lock:
            if (self._in_flight and self._gathers) or key in self._pending.by_key:
                return None
            if self._options.single_flight:
                self._pending.by_key[key] = pending
            self._in_flight += 1
        return pending

    def finish_alone(
        self, pending: PendingText, deadline: Deadline, outcome: Outcome | None
    ) -> None:
        """End a text that its caller's own thread sent; without an outcome another one sends it."""
        with self._lock:
            self._in_flight -= 1
            if self._pending.by_key.get(pending.key) is pending:  # as `forget`, without the call
                del self._pending.by_key[pending.key]
            waiters = self._pending.end(pending, deadline, outcome) if pending.waiters else []
            needed = bool(self._pending.queued) and self._needs_worker()
        if waiters and outcome is not None:
            self._tell(outcome, waiters)
        if needed:
            self._call_worker()

    def join(self, utterance: Utterance, waiter: Waiter) -> None:
        """Queue a text, or wait for the same text, which is in flight or queued already.

        Ctrl-C may end this anywhere; but no other caller may then wait for a text that is not
        queued, or for a worker that was not called.
        """
        try:
            self._join(utterance, waiter)
        except BaseException:
            self._release_leader()
            raise

    def _join(self, utterance: Utterance, waiter: Waiter) -> None:
        key: object = utterance.text if self._options.single_flight else waiter
        at = math.inf if waiter.has_thread else waiter.deadline.at
        with self._lock:
            pending = self._pending.by_key.get(key)
            new = pending is None
            if pending is None:
                pending = PendingText(utterance, key, [waiter])
                if not self._gathers:
                    pending.context = copy_context()
                self._pending.add(pending)
            else:
                waiter.pending = pending
                pending.waiters.append(waiter)
            sooner = at < self._alarm_at
            if sooner:
                self._alarm_at = at
            wakeup = self._wakeup if self._pending.full else None
            needed = self._needs_worker(new)
        if needed:
            self._call_worker()
        if wakeup is not None:  # of a leader that may have gone on by itself: then nobody hears it
            wakeup.set()
        if sooner:
            self._set_alarm(at)

    def join_all(self, parts: Sequence[Part]) -> None:
        """Queue all texts of a call at once, so that one batch can take them.

        No two of them are one pending text: a call may want several takes of a text. Ctrl-C as in
        `join`.
        """
        try:
            with self._lock:
                self._restarts = True
                for part in parts:
                    self._pending.add(PendingText(part.text, part, [part]))
                wakeup = self._wakeup if self._pending.full else None
                needed = self._needs_worker()
            if needed:
                self._call_worker()
            if wakeup is not None:
                wakeup.set()
        except BaseException:
            self._release_leader()
            raise

    def wait(self, utterance: Utterance, waiter: BlockingWaiter) -> Outcome:
        """Wait for the outcome; leave when the time is up."""
        left = waiter.deadline.remaining(self._workers.clock.now())
        if not waiter.wait(left + _LAST_WORD):
            if waiter.pending is None:  # a worker has the text, or will have it: it counts
                return failed(utterance, waiter.deadline.error("waiting for the service"))
            if self.leave(waiter):
                return self._late(waiter)
            waiter.wait(threading.TIMEOUT_MAX)  # it is being told just now
        if waiter.error is not None:
            raise waiter.error
        assert waiter.outcome is not None
        return waiter.outcome

    def leave(self, waiter: Waiter, *, unless_sent: bool = False, cut: bool = False) -> bool:
        """Stop waiting; return False when the outcome is being handed over just now, or, with
        `unless_sent`, when the text may have been sent. `cut`: also its request, when nobody else
        waits."""
        with self._lock:
            pending = waiter.pending
            # Who ends a text takes its waiters away under this lock, and tells them after it: one
            # that is not there any more is being told.
            if (
                not pending
                or waiter not in pending.waiters
                or (unless_sent and pending.may_be_sent)
            ):
                return False
            stop = self._pending.abandon(pending, waiter)
        if cut and stop is not None:
            leave_behind(stop.cut)
        return True

    def _late(self, waiter: Waiter) -> Outcome:
        """Return the outcome of a waiter that left because its time was up."""
        outcome = late(waiter, self._tenant_limit)
        self._count(outcome)
        return outcome

    # -- batches --------------------------------------------------------------------------------

    def _seal(self, batched: BatchedTexts, texts: Sequence[Utterance]) -> Sequence[Utterance]:
        """Fill up a batch that is sent for the first time, without unwanted texts; return its
        texts.

        Raises RefusedError where nobody waits for it any more.
        """
        if batched.sealed:
            return texts
        batch = batched.batch
        most, now = self._workers.most(self._options.max_texts), self._workers.clock.now()
        with self._lock:
            batched.seal()
            self._has_leader = False
            stay = list(filter(_WAITERS, batched.pending_texts))
            if not stay:
                if batched.open:  # or its caller gave up before, and has counted it
                    self._in_flight -= 1
                batched.open = 0
            elif self._pending or len(stay) < batched.open or self._restarts:
                stay += self._pending.take(stay, most)
                self._restart(stay, now, batch.silent)
                batched.hold(stay)
            needed = self._needs_worker()
        if needed:
            self._call_worker()
        if not stay:
            raise RefusedError("not sent: nobody waits for it any more", retryable=False)
        return batch.texts

    def _complete(self, batched: BatchedTexts, outcomes: Sequence[Outcome]) -> None:
        """Tell everybody who waits for the texts that have these outcomes."""
        deadline = batched.batch.deadline
        with self._lock:
            batched.open -= len(outcomes)
            if not batched.open:
                self._in_flight -= 1
            told: list[tuple[Outcome, list[Waiter]]] = []
            for outcome in outcomes:
                pending = batched.pending_texts[outcome.index]
                told.append((outcome, self._pending.end(pending, deadline, outcome)))
            needed = self._needs_worker()
        if needed:
            self._call_worker()
        for outcome, waiters in told:
            if len(waiters) > 1:
                self._tell(outcome, waiters[1:])  # the batch has counted the text once
            if waiters:
                waiters[0].tell(share(outcome, waiters[0]))

    def _lead(self, wanted: threading.Lock) -> None:
        """On a worker: bring the queued texts to their outcomes, as one batch.

        It was called off once `wanted` is locked.
        """
        batched: BatchedTexts | None = None
        # Ctrl-C may have come to the caller between calling this worker and noting it: it takes the
        # leader's place back then, and whichever is first to lock `wanted` decides.
        if not wanted.acquire(blocking=False):
            return
        try:
            # Where it has to wait for a place anyway, more texts come meanwhile.
            if self._in_flight and self._workers.free():
                self._linger()
            batched = self._start_batch()
            if batched is not None:
                context = batched.pending_texts[0].context or Context()
                context.run(self._run, batched.batch)
        finally:
            if self._tenant_limit is not None:
                self._tenant_limit.release()
            if batched is None or not batched.sealed:
                self._release_leader()

    def _release_leader(self) -> None:
        with self._lock:
            self._has_leader = False
            needed = self._needs_worker()
        if needed:
            self._call_worker()

    def _run(self, batch: Batch) -> None:
        workers = self._workers
        workers.stops.add(batch.stop)
        if workers.cut.is_set():  # too late for the one who sets all stops
            batch.stop.set()
        enter()
        try:
            self.runner.run(batch)
        except BaseException as error:  # a bug, or somebody's asynchronous exception: others wait
            batch.end(error)
            raise
        finally:
            workers.stops.discard(batch.stop)
            batch.deliver()
            pause()

    def _linger(self) -> None:
        now = self._workers.clock.now()
        with self._lock:
            if not self._pending or self._pending.full:
                return
            left = self._pending.oldest + self._options.linger - now
            if left <= 0:
                return
            # Under the lock in which it was seen that the batch is not full: the text that fills it
            # comes later, and finds the flag.
            wakeup = self._wakeup = Flag()
        self._workers.clock.wait(wakeup, left)

    def _start_batch(self) -> BatchedTexts | None:
        most, now = self._workers.most(self._options.max_texts), self._workers.clock.now()
        with self._lock:
            self._wakeup = None
            if not (pending_texts := self._pending.take([], most)):
                return None
            self._in_flight += 1
            self._restart(pending_texts, now)
            options = self._options
            batched = BatchedTexts(
                pending_texts, interactive=options.interactive, tenant=options.tenant
            )
        batched.batch.on_seal = functools.partial(self._seal, batched)
        batched.batch.on_deliver = functools.partial(self._complete, batched)
        return batched

    def _refuse(self, error: CosyError) -> None:
        """Fail all queued texts: no worker will lead them."""
        with self._lock:
            self._has_leader = False
            ended = self._pending.clear()
        for utterance, waiters in ended:
            self._tell(failed(utterance, error), waiters)

    # -- under the lock -------------------------------------------------------------------------

    def _needs_worker(self, new: bool = False) -> bool:
        """Return whether a worker must be called, who is the leader from now on."""
        if not self._pending.queued or (self._has_leader and (self._gathers or not new)):
            return False
        self._has_leader = True
        return True

    def _restart(
        self, pending_texts: Sequence[PendingText], now: float, silent: float = math.inf
    ) -> None:
        """Begin the deadline of those whose deadline counts from their sending."""
        if self._restarts:
            for waiter in [waiter for pending in pending_texts for waiter in pending.waiters]:
                waiter.seal(now, silent)

    # -- outside of it --------------------------------------------------------------------------

    def _call_worker(self) -> None:
        self._workers.call(self._lead, self._tenant_limit, self._options.interactive, self._refuse)

    def _set_alarm(self, at: float) -> None:
        left = max(0.0, at - self._workers.clock.now())
        # The alarm holds no reference: a dropped client whose texts are spoken ends at once.
        expire = weakref.WeakMethod(self._expire)
        self._workers.alarms.after(left + _LAST_WORD, lambda: (do := expire()) and do())

    def _expire(self) -> None:
        """Fail the futures whose time is up: no thread waits for them that could leave."""
        now = self._workers.clock.now()
        with self._lock:
            due, at = self._pending.expire(now)
            self._alarm_at = at
        for waiter in due:
            waiter.tell(self._late(waiter))
        if at < math.inf:
            self._set_alarm(at)

    def _tell(self, outcome: Outcome, waiters: Sequence[Waiter]) -> None:
        """Hand an outcome to waiters that no batch has counted."""
        for waiter in waiters:
            self._count(own := share(outcome, waiter))
            waiter.tell(own)

    def _count(self, outcome: Outcome) -> None:
        self._workers.observer.on_event(as_event(outcome))
