"""The machines of one client in one process: shared by all of its callers, gone after a fork."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..audio import Verifier
from ..bounded import BoundedCache
from ..clock import Clock
from ..config import ClientConfig, Endpoint
from ..endpoints.pool import EndpointPool, HostConnections
from ..errors import ClosedError
from ..events import Observer
from ..models import Audio, Outcome, Utterance
from ..policies import AcceptedKeys, Deadline, HedgePolicy, RetryBudget, RetryPolicy
from ..threads import open_schedule
from ..threads.lifo_pool import LifoThreadPool
from ..threads.permits import Permits
from ..threads.workers import SerialExecutor
from ..wires.base import Wire
from .attempt import AttemptRunner
from .audio_check import asking, has_place
from .audio_stream import AudioStream
from .bulk import BulkCall, BulkOptions
from .hedging import Hedging
from .ports import Attempts, Sender
from .queue_workers import QueueWorkers
from .reply_bounds import ReplyBounds
from .retrying import BatchRunner
from .single import Lookups, SingleCalls
from .small_call import SmallCall
from .splitting import Splitter
from .streams import StreamingAttempts, StreamOpener
from .submit_limit import SubmitLimit
from .tenants import TenantLimit, TenantLimits

__all__ = ["Engine", "EngineParts", "Network"]

# Seconds that running work gets to notice that it was cut off.
_GRACE = 5.0
# Seconds to wait for the thread of all engines, where nobody else needs it.
_MOMENT = 1.0
# Configurations whose runners are kept. A program that makes more (headers of its own for each
# request, say) must not grow for ever.
_MOST_RUNNERS = 256
# Calls of many texts after which those that ended are forgotten.
_MANY = 64

_Held = TypeVar("_Held")
_Runners = tuple[BatchRunner, BatchRunner]


class Network(Sender, HostConnections, Protocol):
    """The net, as the engine needs it."""

    def cut(self) -> None:
        """Wake every thread that waits for a reply."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets."""
        ...

    def connections(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are idle."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineParts:
    """What an engine is built from. `wire` makes the wire of an endpoint for a configuration."""

    endpoints: Sequence[Endpoint]
    config: ClientConfig
    network: Network
    wire: Callable[[Endpoint, ClientConfig], Wire]
    observer: Observer
    clock: Clock


class Engine:
    """Composes permits, workers and runners, and closes them."""

    def __init__(self, parts: EngineParts) -> None:
        config, limits = parts.config, parts.config.limits
        self._parts, self._clock = parts, parts.clock
        self.pid = os.getpid()  # the process whose threads and sockets it has
        self.network = parts.network
        self.endpoints = EndpointPool(
            parts.endpoints, config, parts.network, parts.observer, parts.clock
        )
        self.budget, self._keys = RetryBudget(config.overload), AcceptedKeys()
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
        # Guards: changes of _runners, _stops, _closed.
        self._lock, self._closed = threading.Lock(), False
        self._runners: BoundedCache[object, _Runners] = BoundedCache(_MOST_RUNNERS)
        # Written as a whole, without the lock: whichever thread's it is, it is a right one.
        self._latest: tuple[ClientConfig, BatchRunner, BatchRunner] | None = None
        self._tenant_limits, self._alarms = TenantLimits(), open_schedule()
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
        limit_of = self._tenant_limit
        lookups = Lookups(runner=self._runner, runner_key=_runner_key, tenant_limit=limit_of)
        self.interactive = SingleCalls(workers, self._bulk, self._calls, lookups, self._submitted)
        self._stream_opener = StreamOpener(
            lambda config: self._find(config)[2], limit_of, self._clock, self._single
        )

    # -- work -----------------------------------------------------------------------------------

    def run_many(
        self,
        texts: Iterable[Utterance | Outcome],
        config: ClientConfig,
        *,
        within: float | None = None,
        lazy: bool = False,
        read_ahead: int | None = None,
    ) -> BulkCall | SmallCall:
        """Prepare a call of many texts; its `outcomes()` do the work.

        Texts that fill less than half a batch share batches with those of other calls. An outcome
        among the texts is handed out in its place. A lazy call bounds what it holds, and pulls at
        most `read_ahead` texts before their outcomes are taken; of another one the caller keeps all
        the audio anyway.
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
        tenant_limit = None if has_place(config.tenant or "") else self._tenant_limit(config)
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
        )
        workers = SerialExecutor() if alone else self._bulk
        runner = self._runner(config)
        bulk_call = BulkCall(texts, config.batch, options, runner, workers, self._clock)
        self._watch(bulk_call.stop)
        return bulk_call

    def occupy(self, call: object) -> None:
        """Make close() wait for a call of many texts, also between two of its batches, until
        `vacate(call, None)`."""
        self._bulk.occupy(call)

    def submit(
        self,
        utterance: Utterance,
        config: ClientConfig,
        callback: Callable[[Future[Audio]], object] | None = None,
    ) -> Future[Audio]:
        """Bring one text to its outcome on a worker; see SingleCalls."""
        return self.interactive.submit(utterance, config, callback)

    def stream(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[AudioStream], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech with its first sound; see StreamOpener."""
        return self._stream_opener.open(text, config, hold)

    # -- what callers share ---------------------------------------------------------------------

    def _runner(self, config: ClientConfig) -> BatchRunner:
        known = self._latest
        if known is not None and known[0] is config:
            return known[1]
        return self._find(config)[1]

    def _find(self, config: ClientConfig) -> tuple[ClientConfig, BatchRunner, BatchRunner]:
        """Return what belongs to a configuration: the runners of whole replies and of streams."""
        # A view always comes with the same object: comparing it is cheaper than its many fields.
        known = self._latest
        if known is not None and known[0] is config:
            return known
        key = _runner_key(config)
        runners = self._runners.get(key)
        if runners is None:
            # Outside the lock: it imports modules, and runs what makes somebody else's wire. Of two
            # that are made at the same time the second is not needed.
            made = self._make_runners(config)
            with self._lock:
                runners = self._runners.keep(key, made)
        known = self._latest = config, *runners
        self.endpoints.open()
        return known

    def _make_runners(self, config: ClientConfig) -> tuple[BatchRunner, BatchRunner]:
        parts = self._parts
        plain = AttemptRunner(
            wires={e.url: parts.wire(e, config) for e in parts.endpoints},
            sender=self.network,
            memory=self._memory,
            connections=self._connections,
            silent_since=self.endpoints.silent_since,
            bounds=ReplyBounds(config),
            verifier=Verifier(config.verify),
            observer=parts.observer,
            clock=self._clock,
            sample_rate=config.sample_rate,
            format=config.format,
            kind=hash((config.voice, config.model, json.dumps(dict(config.extra), sort_keys=True))),
        )
        retry = RetryPolicy(config.retry)
        # What stands for the key: other headers may bring it as well.
        key = hash((config.api_key, tuple(sorted(config.headers.items()))))
        halves = config.batch.halve_refused

        def runner(attempter: Attempts) -> BatchRunner:
            observer, clock = parts.observer, self._clock
            splitter = Splitter(plain.wires, self._keys, key, halves, clock)
            made = BatchRunner(attempter, self.endpoints, retry, observer, clock, self.budget)
            return made.split_with(splitter)

        return runner(self._hedged(plain, config)), runner(StreamingAttempts(plain))

    def _hedged(self, attempter: AttemptRunner, config: ClientConfig) -> Attempts:
        if not config.hedge.enabled or self.endpoints.alone or config.serial:
            return attempter
        return Hedging(
            attempter=attempter,
            endpoints=self.endpoints,
            policy=HedgePolicy(config.hedge),
            budget=self.budget,
            workers=self._hedge_workers,
        )

    def _tenant_limit(self, config: ClientConfig) -> TenantLimit | None:
        limit = config.max_in_flight
        if limit is None:
            return None
        return self._tenant_limits.of(config.tenant or limit, limit)

    def _watch(self, stop: threading.Event) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            if len(self._stops) % _MANY == 0:  # now and then
                self._stops = [known for known in self._stops if known() is not None]
            self._stops.append(weakref.ref(stop))

    # -- the end --------------------------------------------------------------------------------

    def close(self, seconds: float) -> None:
        """Let running work finish for so many seconds, then cut it off; leave no thread behind.

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
        """Wait until nothing is queued or running, at most so many seconds."""
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


def _is_small(texts: Sequence[Utterance | Outcome], config: ClientConfig) -> bool:
    """Return whether texts fill less than half a batch, and may share one with others."""
    batch = config.batch
    if config.serial or not config.coalesce.enabled or 2 * len(texts) >= batch.max_texts:
        return False
    chars = sum([len(text.text) for text in texts if isinstance(text, Utterance)])
    return 0 < 2 * chars < batch.max_chars


def _runner_key(config: ClientConfig) -> object:
    """Return what a runner depends on; the rest of a configuration belongs to the single call."""
    return (
        *(config.wire, config.voice, config.model, config.format, config.sample_rate),
        *(config.speed, config.api_key, tuple(sorted(config.headers.items()))),
        json.dumps(dict(config.extra), sort_keys=True),
        *(config.batch, config.retry, config.verify, config.limits, config.hedge),
    )
