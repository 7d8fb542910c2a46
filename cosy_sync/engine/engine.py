"""The machines of one client in one process: shared by all of its callers, gone after a fork."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from ..config import ClientConfig
from ..endpoints.pool import EndpointPool
from ..errors import ClosedError
from ..models import Audio, Outcome, Utterance
from ..policies import Deadline
from ..threads import open_schedule
from ..threads.lifo_pool import LifoThreadPool
from ..threads.permits import Permits
from ..threads.workers import SerialExecutor
from .audio_check import asking, has_place
from .audio_stream import AudioStream
from .bulk import BulkCall
from .bulk_options import BulkOptions
from .parts import EngineParts
from .queue_workers import QueueWorkers
from .runners import Runners
from .single import SingleCalls
from .small_call import SmallCall
from .streams import StreamOpener
from .submit_limit import SubmitLimit
from .tenants import TenantLimits
from .text_future import TextFuture

__all__ = ["Engine"]

# Seconds that running work gets to notice that it was cut off.
_GRACE = 5.0
# Seconds to wait for the thread of all engines, where nobody else needs it.
_MOMENT = 1.0
# Calls of many texts after which those that ended are forgotten.
_MANY = 64

_Held = TypeVar("_Held")


class Engine:
    """Composes permits, workers and runners, and closes them."""

    def __init__(self, parts: EngineParts) -> None:
        config, limits = parts.config, parts.config.limits
        self._parts, self._clock = parts, parts.clock
        self.pid = os.getpid()  # the process whose threads and sockets it has
        self.network, self.observer = parts.network, parts.observer
        self.endpoints = EndpointPool(
            parts.endpoints, config, parts.network, parts.observer, parts.clock
        )
        places = sum(endpoint.max_connections for endpoint in parts.endpoints)
        most = config.pool.max_connections
        grows = self.endpoints.grows
        # Only where the endpoints together may open more than the pool has.
        self._connections = Permits(most) if grows or places > most else None
        self.workers = most if grows else min(places, most)
        make = SerialExecutor if config.serial else functools.partial(LifoThreadPool, self.workers)
        # Bulk batches may sleep on their workers; single texts have workers of their own, and so
        # have the callbacks of users, which may take their time.
        self._bulk, self._calls, self._single = make(), make(), make()
        self.vacate = self._bulk.vacate
        # Of two attempts of a late call one is left behind, so both run on workers of their own.
        self._hedge_workers = LifoThreadPool(2 * self.workers)
        self._memory = Permits(limits.max_bytes_in_flight)
        self._submitted = SubmitLimit(limits.max_submitted, sheds=limits.on_full == "shed")
        self._runners = Runners(
            parts, self.endpoints, self._memory, self._connections, self._hedge_workers
        )
        self.budget = self._runners.budget
        self._tenant_limits, self._alarms = TenantLimits(), open_schedule()
        # Guards: changes of _stops, _closed.
        self._lock, self._closed = threading.Lock(), False
        # No WeakSet: Ctrl-C in a weak reference's callback is lost.
        self._stops: list[weakref.ref[threading.Event]] = []
        workers = QueueWorkers(
            executor=self._single,
            alarms=self._alarms,
            free=self._is_free,
            clock=self._clock,
            observer=parts.observer,
            most=lambda texts: self.endpoints.texts_at_most(texts, self._clock.now()),
        )
        runners, limits_of = self._runners, self._tenant_limits
        self.interactive = SingleCalls(
            workers, self._bulk, self._calls, runners, limits_of, self._submitted
        )
        self._stream_opener = StreamOpener(runners.of_stream, limits_of, self._clock, self._single)

    # -- work -----------------------------------------------------------------------------------

    def run_many(
        self,
        texts: Iterable[Utterance | Outcome | None],
        config: ClientConfig,
        *,
        within: float | None = None,
        lazy: bool = False,
        read_ahead: int | None = None,
        after: Callable[[Sequence[Utterance], Sequence[Outcome]], None] | None = None,
    ) -> BulkCall | SmallCall:
        """Prepare a call of many texts; its `outcomes()` do the work.

        Texts that fill less than half a batch share batches with those of other calls. An outcome
        among the texts is handed out in its place. A lazy call bounds what it holds, and pulls at
        most `read_ahead` texts before their outcomes are taken; of another one the caller keeps all
        the audio anyway. A None among the texts lets those before it go. `after` gets texts and
        outcomes of each batch on its worker; a call of few texts has none of its own.
        """
        limits, until = config.limits, None
        if within is not None:
            until = Deadline(self._clock.now(), within, "within")
        # In the user's check it runs on its thread: workers may all be busy with checks.
        alone = asking.batch is not None
        if isinstance(texts, list) and not alone and _is_small(texts, config):
            call = self.interactive.share_few(texts, config, until)
            self._watch(call.stop)
            return call
        inside = has_place(config.tenant or "")
        tenant_limit = None if inside else self._tenant_limits.of_config(config)
        places = self.endpoints.places(min(config.deadline, config.timeouts.connect))
        options = BulkOptions(
            deadline=config.deadline,
            within=until,
            interactive=config.priority == "interactive",
            lazy=lazy,
            read_ahead=read_ahead,
            alone=len(self._parts.endpoints) == 1,
            tenant=config.tenant or "",
            tenant_limit=tenant_limit,
            ahead=min(places, tenant_limit.limit if tenant_limit else places),
            # Serial work runs on the caller's thread: nobody could make room meanwhile.
            max_waiting=None if alone or config.serial or not lazy else limits.max_bytes_waiting,
            limit=self.endpoints.batch_limit,
            places=self._places,
            silent=self.endpoints.silent_since,
            after=after,
        )
        workers = SerialExecutor() if alone else self._bulk
        runner_of = self._runners.for_texts(config)
        bulk_call = BulkCall(texts, config.batch, options, runner_of, workers, self._clock)
        self._watch(bulk_call.stop)
        return bulk_call

    def occupy(self, call: object) -> None:
        """Make close() wait for a call of many texts, also between two of its batches, until
        `vacate(call, None)`."""
        self._bulk.occupy(call, threading.get_ident())

    def submit(
        self,
        utterance: Utterance,
        config: ClientConfig,
        callback: Callable[[Future[Audio]], object] | None = None,
    ) -> Future[Audio]:
        """Bring one text to its outcome on a worker; see SingleCalls."""
        return self.interactive.submit(utterance, config, callback)

    def make_future(self) -> TextFuture:
        """Return a future whose callbacks run as those of `submit` do."""
        return self.interactive.make_future()

    def run_behind(self, work: Callable[[], None]) -> None:
        """Do work that may wait, on a worker."""
        self._bulk.submit(work)

    def stream(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[AudioStream], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech with its first sound; see StreamOpener."""
        return self._stream_opener.open(text, config, hold)

    # -- the end --------------------------------------------------------------------------------

    def _watch(self, stop: threading.Event) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            if len(self._stops) % _MANY == 0:  # now and then
                self._stops = _known_of(self._stops)
            self._stops.append(weakref.ref(stop))

    def close(self, seconds: float) -> None:
        """Let running work finish for `seconds`, then cut it off; leave no thread behind.

        Of several calls, each on its own thread, the most impatient decides.
        """
        with self._lock:
            self._closed = True
        self.interactive.close()
        self._stream_opener.close()
        try:
            self.drain(seconds)
        finally:
            self.cut()
            self.drain(_GRACE)
            self._hedge_workers.drain(_GRACE)
            for executor in (self._bulk, self._single, self._calls, self._hedge_workers):
                executor.close()
            self.discard(_GRACE)

    def discard(self, seconds: float) -> None:
        """End what runs beside the calls of an engine that has none; wait at most so long for a
        look-up that is in flight."""
        self.endpoints.close(seconds)
        self.network.close()
        self._alarms.close(_MOMENT)

    def drain(self, seconds: float) -> None:
        """Wait until nothing is queued or running, at most `seconds`."""
        until = time.monotonic() + seconds
        # Outcomes run callbacks, and a callback may have begun something before the close.
        for executor in (self._bulk, self._single, self._calls, self._bulk, self._single):
            executor.drain(max(0.0, until - time.monotonic()))
        self._stream_opener.drain(max(0.0, until - time.monotonic()))

    def cut(self) -> None:
        """End everything that waits: for a permit, for a slot, for a reply."""
        with self._lock:
            self._closed = True
            stops = [known() for known in self._stops]
        for stop in stops:
            if stop is not None:
                stop.set()
        self.interactive.cut()
        for permits in (self._memory, self._submitted, self._connections):
            if permits is not None:
                permits.close()
        for endpoint in self.endpoints.everybody():
            endpoint.close_slots()
        for tenant_limit in self._tenant_limits.everybody():
            for task in tenant_limit.close():
                task()  # its batch was stopped, so it only sets its future
        self.network.cut()
        self._stream_opener.cut()

    def _is_free(self) -> bool:
        """Return whether a request could leave right now."""
        now = self._clock.now()
        return any(
            endpoint.slots.used < endpoint.slots.limit and endpoint.wait(now) <= 0
            for endpoint in self.endpoints.endpoints
        )

    def _places(self) -> float:
        return sum([endpoint.slots.limit for endpoint in self.endpoints.endpoints])

    def in_flight(self) -> int:
        """Return how many requests are in flight."""
        return sum(endpoint.slots.used for endpoint in self.endpoints.everybody())


def _known_of(stops: list[weakref.ref[threading.Event]]) -> list[weakref.ref[threading.Event]]:
    return [stop for stop in stops if stop() is not None]


def _is_small(texts: Sequence[Utterance | Outcome], config: ClientConfig) -> bool:
    """Return whether texts fill less than half a batch, and may share one with others."""
    batch = config.batch
    if config.serial or not config.coalesce.enabled or 2 * len(texts) >= batch.max_texts:
        return False
    chars = sum([len(text.text) for text in texts if isinstance(text, Utterance)])
    return 0 < 2 * chars < batch.max_chars
