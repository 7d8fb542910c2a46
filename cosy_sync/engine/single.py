"""Calls of one text: `synth` on the caller's thread or in a batch with others, and `submit`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import replace

from ..bounded import BoundedCache
from ..config import ClientConfig
from ..errors import ClosedError, ShedError
from ..events import TextFailed
from ..models import Audio, Outcome, Utterance
from ..policies import Deadline
from ..threads import enter, leave_behind, pause
from ..threads.stop import Stop
from ..threads.workers import Executor
from .audio_check import asking, has_place
from .batch import Batch, failed
from .pending_texts import QueueOptions
from .ports import Runs
from .queue_workers import QueueWorkers
from .runners import Runners, runner_key
from .small_call import SmallCall
from .submit_limit import SubmitLimit, SubmitSlot
from .tenants import TenantLimits
from .text_future import TextFuture
from .text_queue import TextQueue
from .waiters import BlockingWaiter, FutureWaiter, PendingText

__all__ = ["SingleCalls"]

# Text queues that are kept. A program that makes more (headers of its own for each request, say)
# must not grow for ever.
_MOST_QUEUES = 256
# Times as long as others a bulk text waits for more to join its batch: it is in less of a hurry.
_BULK_LINGER = 2.0


class SingleCalls:
    """Brings single texts to their outcomes.

    Args:
        workers: What the text queues share; its threads never run the user's code.
        bulk: Workers for texts that are not interactive: they may sleep there.
        calls: Workers for the user's callbacks, which may take their time.
        runners: Run the batches, each of its configuration.
        tenant_limits: Bound the batches of a tenant.
        submitted: Bound the texts of `submit`.
    """

    def __init__(
        self,
        workers: QueueWorkers,
        bulk: Executor,
        calls: Executor,
        runners: Runners,
        tenant_limits: TenantLimits,
        submitted: SubmitLimit,
    ) -> None:
        self._workers = workers
        self._bulk = bulk
        self._calls = calls
        self._runners = runners
        self._tenant_limits = tenant_limits
        self._submitted = submitted
        # Guards: changes of _queues.
        self._lock = threading.Lock()
        self._queues: BoundedCache[object, TextQueue] = BoundedCache(_MOST_QUEUES)
        # Written as a whole, without the lock: whichever thread's pair it is, it is a right one.
        self._latest: tuple[ClientConfig, TextQueue] | None = None
        self._closed = False
        # Whether each thread that has called is the main one: asked once, as every text comes here.
        # A forked child, where another thread may be the main one, makes an engine of its own.
        self._thread = threading.local()

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome; waits at most until its deadline."""
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        deadline = Deadline(self._workers.clock.now(), config.deadline)
        if config.serial or asking.batch is not None:
            return self._run_here(utterance, config, deadline)
        known = self._latest  # as in `_queue_for`: mostly it is this one
        queue = known[1] if known and known[0] is config else self._queue_for(config)
        try:
            is_main = self._thread.is_main
        except AttributeError:
            is_main = threading.current_thread() is threading.main_thread()
            self._thread.is_main = is_main
        if is_main:
            return self._run_elsewhere(utterance, config, deadline)
        pending = queue.try_send_alone(utterance)
        if pending is not None:
            return self._send_alone(queue, pending, config, deadline)
        if self._workers.executor.is_inside():  # in an observer, say: it must not wait
            return self._run_here(utterance, config, deadline)
        waiter = BlockingWaiter(deadline)
        try:
            queue.join(utterance, waiter)
            return queue.wait(utterance, waiter)
        except BaseException:
            queue.leave(waiter, cut=True)
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
        waiter = FutureWaiter(deadline, TextFuture(self._calls))
        alone = config.serial or asking.batch is not None
        queue = None if alone else self._queue_for(config)
        future = waiter.future

        def ended(_: Future[Audio]) -> None:
            self._submitted.leave(slot)
            if future.cancelled() and queue is not None and queue.leave(waiter):
                future.set_running_or_notify_cancel()  # tell those who wait for several futures

        future.when_ended(ended)
        if callback is not None:
            future.add_done_callback(callback)
        slot = self._make_slot(utterance, config, waiter, queue)
        try:
            self._take_slot(slot, utterance, config)
            # Given back before the result is set: its receiver may submit the next text at once.
            waiter.release = functools.partial(self._submitted.leave, slot)
            if queue is None:
                waiter.tell(self._run_here(utterance, config, deadline))
            else:
                queue.join(utterance, waiter)
        except BaseException:  # Ctrl-C
            if queue is not None:
                queue.leave(waiter)
            self._submitted.leave(slot)
            raise
        return future

    def make_future(self) -> TextFuture:
        """Return a future whose callbacks run on the workers for callbacks."""
        return TextFuture(self._calls)

    def share_few(
        self,
        texts: Sequence[Utterance | Outcome],
        config: ClientConfig,
        within: Deadline | None,
    ) -> SmallCall:
        """Prepare a call of few texts, which share batches with those of others."""
        queue, of = self._queue_for(config), self._queue_for
        return SmallCall(texts, config.deadline, within, queue, of, self._workers.clock)

    def _make_slot(
        self,
        utterance: Utterance,
        config: ClientConfig,
        waiter: FutureWaiter,
        queue: TextQueue | None,
    ) -> SubmitSlot:
        def give_up(error: ShedError) -> bool:
            if queue is None or not queue.leave(waiter, unless_sent=True):
                return False
            self._submitted.leave(slot)
            waiter.tell(self._failed(utterance, error))
            return True

        slot = SubmitSlot(give_up, tenant=config.tenant or "", urgent=config.priority != "bulk")
        return slot

    def _take_slot(self, slot: SubmitSlot, utterance: Utterance, config: ClientConfig) -> None:
        # A worker must not wait.
        inside = any(each.is_inside() for each in (self._calls, self._workers.executor, self._bulk))
        try:
            self._submitted.take(slot, 0.0 if inside else config.deadline)
        except ShedError as error:
            final = self._failed(utterance, error).error
            assert final is not None
            raise final from None

    def _failed(self, utterance: Utterance, error: ShedError) -> Outcome:
        """Return the outcome of a text that got no slot, or lost it, and report it."""
        outcome = failed(utterance, error)
        assert outcome.error is not None
        event = TextFailed(utterance.hash, len(utterance.text), outcome.error)
        self._workers.observer.on_event(event)
        return outcome

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True

    def cut(self) -> None:
        """End what is in flight, where it waits for anything but the network."""
        self._closed = True
        workers = self._workers
        workers.cut.set()
        workers.alarms.close()
        for stop in list(workers.stops):
            stop.set()

    # -- one text -------------------------------------------------------------------------------

    def _deadline(self, config: ClientConfig) -> Deadline:
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        return Deadline(self._workers.clock.now(), config.deadline)

    def _send_alone(
        self,
        queue: TextQueue,
        pending: PendingText,
        config: ClientConfig,
        deadline: Deadline,
        stop: Stop | None = None,
    ) -> Outcome:
        """Send a text for which the text queue let this thread send alone."""
        outcome = told = None
        executor = self._workers.executor
        enter()
        try:
            executor.occupy(pending, threading.get_ident())
            try:
                told = outcome = self._send(pending.utterance, config, deadline, queue.runner, stop)
                if isinstance(outcome.error, ClosedError) and not self._workers.cut.is_set():
                    told = None  # its caller is gone, but not the others who wait for the text
            finally:
                queue.finish_alone(pending, deadline, told)
                pause()
        finally:
            executor.vacate(pending, None)
        return outcome

    def _run_here(self, utterance: Utterance, config: ClientConfig, deadline: Deadline) -> Outcome:
        """Send a text on this thread, whatever the others do."""
        enter()
        try:
            with self._workers.executor.busy():
                return self._send(utterance, config, deadline, self._runners.of(config))
        finally:
            pause()

    def _run_elsewhere(
        self, utterance: Utterance, config: ClientConfig, deadline: Deadline
    ) -> Outcome:
        """Let a worker do what another thread does itself.

        Ctrl-C comes to the main thread, at any line: that thread must hold no permits then, and
        must not be in the middle of changing what others rely on.
        """
        queue, waiter, stop = self._queue_for(config), BlockingWaiter(deadline), Stop()

        def begin() -> None:
            if stop.is_set():
                return
            pending = queue.try_send_alone(utterance)
            if pending is None:
                queue.join(utterance, waiter)
                return
            self._workers.stops.add(stop)
            if self._workers.cut.is_set():  # too late for the one who sets all stops
                stop.set()
            try:
                waiter.tell(self._send_alone(queue, pending, config, deadline, stop))
            except BaseException as error:
                waiter.break_off(error)
            finally:
                self._workers.stops.discard(stop)

        try:
            self._workers.executor.submit(functools.partial(copy_context().run, begin))
            return queue.wait(utterance, waiter)
        except BaseException:
            stop.set()
            leave_behind(stop.cut)
            queue.leave(waiter, cut=True)
            raise

    def _send(
        self,
        utterance: Utterance,
        config: ClientConfig,
        deadline: Deadline,
        runner: Runs,
        stop: Stop | None = None,
    ) -> Outcome:
        batch = Batch(
            (utterance,),
            deadline,
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            stop=stop or self._workers.cut,
        )
        limited = config.max_in_flight is not None and not has_place(batch.tenant)
        tenant_limit = self._tenant_limits.of_config(config) if limited else None
        if tenant_limit is not None:
            left = deadline.remaining(self._workers.clock.now())
            if not tenant_limit.acquire(urgent=batch.interactive, seconds=left):
                why = f"waiting for one of the tenant's {tenant_limit.limit} places"
                batch.fail(utterance, deadline.error(why))
                return batch.outcomes[0]
        try:
            runner.run(batch)
        finally:
            if tenant_limit is not None:
                tenant_limit.release()
        return batch.outcomes[0]

    # -- what callers share ---------------------------------------------------------------------

    def _queue_for(self, config: ClientConfig) -> TextQueue:
        # A view always comes with the same object: comparing it is cheaper than its many fields.
        known = self._latest
        if known is not None and known[0] is config:
            return known[1]
        key = (
            runner_key(config),
            config.coalesce,
            config.priority,
            config.tenant,
            config.max_in_flight,
        )
        with self._lock:
            queue = self._queues.get(key)
        if queue is None:
            made = self._make(config)
            with self._lock:
                queue = self._queues.keep(key, made)
        self._latest = config, queue
        return queue

    def _make(self, config: ClientConfig) -> TextQueue:
        sharing, batch = config.coalesce, config.batch
        interactive = config.priority != "bulk"
        options = QueueOptions(
            max_texts=batch.max_texts if sharing.enabled else 1,
            max_chars=batch.max_chars,
            linger=sharing.linger if interactive else _BULK_LINGER * sharing.linger,
            single_flight=sharing.single_flight,
            interactive=interactive,
            tenant=config.tenant or "",
        )
        workers = self._workers
        if not options.interactive:
            workers = replace(workers, executor=self._bulk)
        tenant_limit = self._tenant_limits.of_config(config)
        return TextQueue(options, workers, self._runners.of(config), tenant_limit)
