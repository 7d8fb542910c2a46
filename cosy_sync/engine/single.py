"""Calls of one text: `synth` on the caller's thread or in a batch with others, and `submit`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ..bounded import BoundedCache
from ..config import ClientConfig
from ..errors import ClosedError, ShedError
from ..events import TextFailed
from ..models import Audio, Outcome, Utterance
from ..policies import Deadline
from ..threads import leave_behind
from ..threads.stop import Stop
from ..threads.workers import Executor
from ..user_code import goes_on
from .audio_check import asking, has_place
from .batch import Batch, failed
from .queue_workers import QueueWorkers
from .retrying import BatchRunner
from .shared_batch import QueueOptions
from .small_call import SmallCall
from .submit_limit import SubmitLimit, SubmitSlot
from .tenants import TenantLimit
from .text_queue import TextQueue
from .waiters import BlockingWaiter, FutureWaiter, PendingText, TextFuture

__all__ = ["Lookups", "SingleCalls"]

# Lines that are kept. A program that makes more (headers of its own for each request, say) must
# not grow for ever.
_MOST_LINES = 256


@dataclass(frozen=True, kw_only=True)
class Lookups:
    """What belongs to a configuration: its caller, what that depends on, its tenant's gate."""

    caller: Callable[[ClientConfig], BatchRunner]
    caller_key: Callable[[ClientConfig], object]
    gate: Callable[[ClientConfig], TenantLimit | None]


class SingleCalls:
    """Brings single texts to their outcomes.

    Args:
        workers: What sends batches; its workers never run the user's code.
        bulk: Workers for texts that are not interactive: they may sleep there.
        calls: Workers for the user's callbacks, which may take their time.
        lookups: What belongs to a configuration.
        submitted: Bound the texts of `submit`.
    """

    def __init__(
        self,
        crew: QueueWorkers,
        bulk: Executor,
        calls: Executor,
        lookups: Lookups,
        submitted: SubmitLimit,
    ) -> None:
        self._crew = crew
        self._bulk = bulk
        self._calls = calls
        self._lookups = lookups
        self._submitted = submitted
        # Guards: _coalescers.
        self._lock = threading.Lock()
        self._coalescers: BoundedCache[object, TextQueue] = BoundedCache(_MOST_LINES)
        # Written as a whole, without the lock: whichever thread's pair it is, it is a right one.
        self._latest: tuple[ClientConfig, TextQueue] | None = None
        self._closed = False

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome; waits at most until its deadline."""
        deadline = self._deadline(config)
        if config.serial or asking.batch is not None:
            return self._run_here(utterance, config, deadline)
        coalescer = self._coalescer(config)
        if threading.current_thread() is threading.main_thread():
            return self._run_elsewhere(utterance, config, deadline)
        pending = coalescer.try_send_alone(utterance)
        if pending is not None:
            return self._lead(coalescer, pending, config, deadline)
        if self._crew.workers.is_inside():  # in an observer, say: it must not wait
            return self._run_here(utterance, config, deadline)
        waiter = BlockingWaiter(deadline)
        try:
            coalescer.join(utterance, waiter)
            return coalescer.wait(utterance, waiter)
        except BaseException:
            coalescer.leave(waiter, cut=True)
            raise

    def submit(
        self,
        utterance: Utterance,
        config: ClientConfig,
        callback: Callable[[Future[Audio]], object] | None = None,
    ) -> Future[Audio]:
        """Bring one text to its outcome on a worker.

        Waits, up to the deadline, while too many are submitted already, unless on_full="shed".
        Raises ShedError.
        """
        deadline = self._deadline(config)
        promise = FutureWaiter(deadline, TextFuture(self._calls))
        alone = config.serial or asking.batch is not None
        coalescer = None if alone else self._coalescer(config)
        future = promise.future

        def ended(_: Future[Audio]) -> None:
            self._submitted.leave(seat)
            if future.cancelled() and coalescer is not None and coalescer.leave(promise):
                future.set_running_or_notify_cancel()  # tell those who wait for several futures

        future.when_ended(ended)
        if callback is not None:
            future.add_done_callback(callback)
        seat = self._make_seat(utterance, config, promise, coalescer)
        try:
            self._take_seat(seat, utterance, config)
            # Given back before the result is set: its receiver may submit the next text at once.
            promise.release = functools.partial(self._submitted.leave, seat)
            if coalescer is None:
                promise.tell(self._run_here(utterance, config, deadline))
            else:
                coalescer.join(utterance, promise)
        except BaseException:  # Ctrl-C
            if coalescer is not None:
                coalescer.leave(promise)
            self._submitted.leave(seat)
            raise
        return future

    def share_few(
        self,
        texts: Sequence[Utterance | Outcome],
        config: ClientConfig,
        within: Deadline | None,
    ) -> SmallCall:
        """Prepare a call of few texts, which share batches with those of others."""
        coalescer = self._coalescer(config)
        return SmallCall(texts, config.deadline, within, coalescer, self._crew.clock)

    def _make_seat(
        self,
        utterance: Utterance,
        config: ClientConfig,
        promise: FutureWaiter,
        coalescer: TextQueue | None,
    ) -> SubmitSlot:
        def give_up(error: ShedError) -> bool:
            if coalescer is None or not coalescer.leave(promise, unless_sent=True):
                return False
            self._submitted.leave(seat)
            promise.tell(self._failed(utterance, error))
            return True

        seat = SubmitSlot(give_up, tenant=config.tenant or "", urgent=config.priority != "bulk")
        return seat

    def _take_seat(self, seat: SubmitSlot, utterance: Utterance, config: ClientConfig) -> None:
        # A worker must not wait.
        inside = any(each.is_inside() for each in (self._calls, self._crew.workers, self._bulk))
        try:
            self._submitted.take(seat, 0.0 if inside else config.deadline)
        except ShedError as error:
            final = self._failed(utterance, error).error
            assert final is not None
            raise final from None

    def _failed(self, utterance: Utterance, error: ShedError) -> Outcome:
        """Return the outcome of a text that got no seat, or lost it, and report it."""
        outcome = failed(utterance, error)
        assert outcome.error is not None
        event = TextFailed(utterance.hash, len(utterance.text), outcome.error)
        self._crew.observer.on_event(event)
        return outcome

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True

    def cut(self) -> None:
        """End what is in flight, where it waits for anything but the network."""
        self._closed = True
        crew = self._crew
        crew.cut.set()
        crew.alarms.close()
        for stop in list(crew.stops):
            stop.set()

    # -- one text -------------------------------------------------------------------------------

    def _deadline(self, config: ClientConfig) -> Deadline:
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        return Deadline(self._crew.clock.now(), config.deadline)

    def _lead(
        self,
        coalescer: TextQueue,
        pending: PendingText,
        config: ClientConfig,
        deadline: Deadline,
        stop: Stop | None = None,
    ) -> Outcome:
        """Send a text for which the text queue let this thread take off."""
        outcome = told = None
        with self._crew.workers.busy():
            try:
                told = outcome = self._send(pending.utterance, config, deadline, stop)
                if isinstance(outcome.error, ClosedError) and not self._crew.cut.is_set():
                    told = None  # its caller is gone, but not the others who wait for the text
            finally:
                coalescer.finish_alone(pending, deadline, told)
        return outcome

    def _run_here(self, utterance: Utterance, config: ClientConfig, deadline: Deadline) -> Outcome:
        """Send a text on this thread, whatever the others do."""
        with self._crew.workers.busy():
            return self._send(utterance, config, deadline)

    def _run_elsewhere(
        self, utterance: Utterance, config: ClientConfig, deadline: Deadline
    ) -> Outcome:
        """Let a worker do what another thread does itself.

        Ctrl-C comes to the main thread, at any line: that thread must hold no permits then, and
        must not be in the middle of changing what others rely on.
        """
        coalescer, waiter, stop = self._coalescer(config), BlockingWaiter(deadline), Stop()

        def take_up() -> None:
            if stop.is_set():
                return
            pending = coalescer.try_send_alone(utterance)
            if pending is None:
                coalescer.join(utterance, waiter)
                return
            self._crew.stops.add(stop)
            if self._crew.cut.is_set():  # too late for the one who sets all stops
                stop.set()
            try:
                waiter.tell(self._lead(coalescer, pending, config, deadline, stop))
            except BaseException as error:
                waiter.break_off(error)
            finally:
                self._crew.stops.discard(stop)

        try:
            self._crew.workers.submit(take_up)
            return coalescer.wait(utterance, waiter)
        except BaseException:
            stop.set()
            leave_behind(stop.cut)
            coalescer.leave(waiter, cut=True)
            raise

    def _send(
        self,
        utterance: Utterance,
        config: ClientConfig,
        deadline: Deadline,
        stop: Stop | None = None,
    ) -> Outcome:
        batch = Batch(
            [utterance],
            deadline,
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            stop=stop or self._crew.cut,
        )
        gate = None if config.max_in_flight is None else self._lookups.gate(config)
        if gate is None or has_place(batch.tenant):
            self._run(batch, config)
            return batch.outcomes[0]
        left = deadline.remaining(self._crew.clock.now())
        if not gate.acquire(urgent=batch.interactive, seconds=left):
            why = f"waiting for one of the tenant's {gate.limit} places"
            batch.fail(utterance, deadline.error(why))
            return batch.outcomes[0]
        try:
            self._run(batch, config)
        finally:
            gate.release()
        return batch.outcomes[0]

    def _run(self, batch: Batch, config: ClientConfig) -> None:
        try:
            self._lookups.caller(config).run(batch)
        except BaseException as error:
            if goes_on(error):
                raise
            batch.end(error)

    # -- what callers share ---------------------------------------------------------------------

    def _coalescer(self, config: ClientConfig) -> TextQueue:
        # A view always comes with the same object: comparing it is cheaper than its many fields.
        known = self._latest
        if known is not None and known[0] is config:
            return known[1]
        key = (
            *(self._lookups.caller_key(config), config.coalesce, config.priority),
            *(config.tenant, config.max_in_flight),
        )
        with self._lock:
            coalescer = self._coalescers.get(key)
        if coalescer is None:
            made = self._make(config)
            with self._lock:
                coalescer = self._coalescers.keep(key, made)
        self._latest = config, coalescer
        return coalescer

    def _make(self, config: ClientConfig) -> TextQueue:
        sharing, batch = config.coalesce, config.batch
        packing = QueueOptions(
            max_texts=batch.max_texts if sharing.enabled else 1,
            max_chars=batch.max_chars,
            linger=sharing.linger,
            single_flight=sharing.single_flight,
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
        )
        lookups, crew = self._lookups, self._crew
        if not packing.interactive:
            crew = replace(crew, workers=self._bulk)
        return TextQueue(packing, crew, lookups.caller(config), lookups.gate(config))
