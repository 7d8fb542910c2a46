"""The machines of one client in one process: shared by all of its callers, gone after a fork."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from ..audio import Verifier
from ..clock import Clock
from ..config import ClientConfig, Endpoint
from ..errors import ClosedError, ConfigError, ShedError
from ..events import Observer
from ..models import Audio, Outcome, Utterance
from ..policies import Deadline, RetryPolicy
from ..wires.base import Wire
from .attempt import Attempter, Sender
from .budget import Permits
from .caller import Caller
from .cluster import Cluster, Ways
from .dispatcher import Dispatcher, Terms
from .executor import SerialExecutor, ThreadExecutor
from .gate import Gate
from .job import Job
from .sizes import ReplyBounds

__all__ = ["Engine", "Network", "Supplies"]

T = TypeVar("T")

# Seconds that running work gets to notice that it was cut off.
_GRACE = 5.0
# Configurations whose callers are kept. A program that makes more (headers of its own for each
# request, say) must not grow for ever.
_MOST_CALLERS = 256


class Network(Sender, Ways, Protocol):
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
class Supplies:
    """What an engine is built from. `wire` makes the wire of an endpoint for a configuration."""

    endpoints: Sequence[Endpoint]
    config: ClientConfig
    network: Network
    wire: Callable[[Endpoint, ClientConfig], Wire]
    observer: Observer
    clock: Clock


class Engine:
    """Composes permits, workers and callers, and closes them."""

    def __init__(self, supplies: Supplies) -> None:
        config = supplies.config
        self._supplies = supplies
        self._clock = supplies.clock
        self.network = supplies.network
        self.cluster = Cluster(
            supplies.endpoints, config, supplies.network, supplies.observer, supplies.clock
        )
        places = sum(endpoint.max_connections for endpoint in supplies.endpoints)
        most = config.pool.max_connections
        grows = self.cluster.grows
        # Only where the endpoints together may open more than the pool has.
        self._connections = Permits(most) if grows or places > most else None
        workers = most if grows else min(places, most)
        make = SerialExecutor if config.serial else functools.partial(ThreadExecutor, workers)
        # Bulk batches may sleep on their workers; single texts have workers of their own, and so
        # has the main thread, which Ctrl-C could otherwise hit while it holds permits.
        self._bulk, self._single, self._main = make(), make(), make()
        self._memory = Permits(config.limits.max_bytes_in_flight)
        self._submitted = Permits(config.limits.max_submitted)
        # Guards: _callers, _gates, _stops, _closed.
        self._lock = threading.Lock()
        self._callers: dict[object, Caller] = {}
        # Written as a whole, without the lock: whichever thread's pair it is, it is a right one.
        self._latest: tuple[ClientConfig, Caller] | None = None
        self._gates: dict[str, Gate] = {}
        self._stops: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        self._closed = False

    # -- work -----------------------------------------------------------------------------------

    def run_many(
        self,
        texts: Iterable[Utterance | Outcome],
        config: ClientConfig,
        *,
        within: float | None = None,
        lazy: bool = False,
    ) -> Dispatcher:
        """Prepare a call of many texts; its `outcomes()` do the work.

        An outcome among the texts is handed out in its place. A lazy call bounds what it holds;
        of another one the caller keeps all the audio anyway.
        """
        limits = config.limits
        gate = self._gate(config)
        places = self.cluster.places(min(config.deadline, config.timeouts.connect))
        terms = Terms(
            deadline=config.deadline,
            within=None if within is None else Deadline(self._clock.now(), within),
            interactive=config.priority == "interactive",
            lazy=lazy,
            alone=len(self._supplies.endpoints) == 1,
            tenant=config.tenant or "",
            gate=gate,
            ahead=min(places, gate.limit if gate else places),
            # Serial work runs on the caller's thread: nobody could make room meanwhile.
            max_waiting=limits.max_bytes_waiting if lazy and not config.serial else None,
        )
        dispatcher = Dispatcher(
            texts, config.batch, terms, self._caller(config), self._bulk, self._clock
        )
        self._watch(dispatcher.stop)
        return dispatcher

    def busy(self) -> AbstractContextManager[None]:
        """Make close() wait for a call of many texts, also between two of its batches."""
        return self._bulk.busy()

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome, on this very thread unless it is the main one."""
        job = self._job(utterance, config)
        if threading.current_thread() is not threading.main_thread() or config.serial:
            with self._single.busy():
                return self._run_gated(job, config)
        future: Future[Outcome] = Future()
        self._main.submit(lambda: _fulfil(future, lambda: self._run_gated(job, config)))
        try:
            return future.result()
        except KeyboardInterrupt:
            job.stop.set()
            raise

    def submit(self, utterance: Utterance, config: ClientConfig) -> Future[Audio]:
        """Bring one text to its outcome on a worker.

        Waits, up to the deadline, while too many are submitted already: then ShedError.
        """
        job, gate = self._job(utterance, config), self._gate(config)
        seconds = 0.0 if self._single.is_inside() else config.deadline  # a worker must not wait
        if not self._submitted.acquire(seconds=seconds):
            raise ShedError(
                f"{self._submitted.limit} texts are submitted and not finished; wait for some, "
                "use synth_many, or raise LimitConfig(max_submitted)"
            )
        future: Future[Audio] = Future()

        def work() -> None:
            _fulfil(future, lambda: self._speak(job, config), self._submitted.release, gate)

        if gate is None:
            self._hand_over(work, future)
        else:
            gate.enter_later(lambda: self._hand_over(work, future))
        return future

    def _hand_over(self, work: Callable[[], None], future: Future[Audio]) -> None:
        try:
            self._single.submit(work)
        except ClosedError as error:
            self._submitted.release()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _speak(self, job: Job, config: ClientConfig) -> Audio:
        self._run(job, config)
        outcome = job.outcomes[0]
        if outcome.audio is None:
            assert outcome.error is not None
            raise outcome.error
        return outcome.audio

    def _job(self, utterance: Utterance, config: ClientConfig) -> Job:
        job = Job(
            [utterance],
            Deadline(self._clock.now(), config.deadline),
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            stop=threading.Event(),
        )
        self._watch(job.stop)
        return job

    def _run_gated(self, job: Job, config: ClientConfig) -> Outcome:
        gate = self._gate(config)
        left = job.deadline.remaining(self._clock.now())
        if gate is not None and not gate.acquire(urgent=job.interactive, seconds=left):
            error = job.deadline.error(f"waiting for one of the tenant's {gate.limit} places")
            job.fail(job.texts[0], error)
            return job.outcomes[0]
        try:
            self._run(job, config)
        finally:
            if gate is not None:
                gate.release()
        return job.outcomes[0]

    def _run(self, job: Job, config: ClientConfig) -> None:
        try:
            self._caller(config).run(job)
        except (Exception, SystemExit) as error:
            job.end(error)

    # -- what callers share ---------------------------------------------------------------------

    def _caller(self, config: ClientConfig) -> Caller:
        # A view always comes with the same object: comparing it is cheaper than its many fields.
        known = self._latest
        if known is not None and known[0] is config:
            return known[1]
        key = _caller_key(config)
        with self._lock:
            caller = self._callers.get(key)
            if caller is None:
                if len(self._callers) >= _MOST_CALLERS:
                    self._callers.clear()
                caller = self._callers[key] = self._make_caller(config)
        self._latest = config, caller
        self.cluster.open()
        return caller

    def _make_caller(self, config: ClientConfig) -> Caller:
        supplies = self._supplies
        attempter = Attempter(
            wires={e.url: supplies.wire(e, config) for e in supplies.endpoints},
            sender=self.network,
            memory=self._memory,
            connections=self._connections,
            bounds=ReplyBounds(config),
            verifier=Verifier(config.verify),
            observer=supplies.observer,
            clock=self._clock,
            sample_rate=config.sample_rate,
        )
        retry = RetryPolicy(config.retry)
        return Caller(attempter, self.cluster, retry, supplies.observer, self._clock)

    def _gate(self, config: ClientConfig) -> Gate | None:
        limit = config.max_in_flight
        if limit is None:
            return None
        name = config.tenant or f"at most {limit}"
        with self._lock:
            gate = self._gates.get(name)
            if gate is None:
                gate = self._gates[name] = Gate(limit)
        if gate.limit != limit:
            raise ConfigError(
                f"max_in_flight: tenant {name!r} already has {gate.limit}; a tenant has one limit"
            )
        return gate

    def _watch(self, stop: threading.Event) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            self._stops.add(stop)

    # -- the end --------------------------------------------------------------------------------

    def close(self, seconds: float) -> None:
        """Let running work finish for so many seconds, then cut it off; leave no thread behind.

        Of several calls, each on its own thread, the most impatient decides.
        """
        with self._lock:
            self._closed = True
        try:
            self.drain(seconds)
        finally:
            self.cut()
            self.drain(_GRACE)
            for executor in (self._bulk, self._single, self._main):
                executor.close()
            self.cluster.close(_GRACE)
            self.network.close()

    def drain(self, seconds: float) -> None:
        """Wait until nothing is queued or running, at most so many seconds."""
        until = time.monotonic() + seconds
        for executor in (self._bulk, self._single, self._main):
            executor.drain(max(0.0, until - time.monotonic()))

    def cut(self) -> None:
        """End everything that waits: for a permit, for a turn, for a reply."""
        with self._lock:
            self._closed = True
            stops, gates = list(self._stops), list(self._gates.values())
        for stop in stops:
            stop.set()
        for permits in (self._memory, self._submitted, self._connections):
            if permits is not None:
                permits.close()
        for station in self.cluster.everybody():
            station.slots.close()
        for gate in gates:
            for task in gate.close():
                task()  # its job was stopped, so it only tells its future
        self.network.cut()

    def in_flight(self) -> int:
        """Return how many requests are under way."""
        return sum(station.slots.used for station in self.cluster.everybody())


def _fulfil(
    future: Future[T],
    work: Callable[[], T],
    after: Callable[[], None] | None = None,
    gate: Gate | None = None,
) -> None:
    """Do the work and tell its future, once what it held is given back: callbacks may go on."""
    result: T | None = None
    failure: BaseException | None = None
    wanted = future.set_running_or_notify_cancel()
    try:
        if wanted:
            result = work()
    except BaseException as error:
        failure = error
    finally:
        if after is not None:
            after()
        if gate is not None:
            gate.release()
    if failure is not None:
        future.set_exception(failure)
        if isinstance(failure, KeyboardInterrupt):  # on the caller's own thread, when serial
            raise failure
    elif wanted:
        future.set_result(cast(T, result))


def _caller_key(config: ClientConfig) -> object:
    """Return what a caller depends on; the rest of a configuration belongs to the single call."""
    return (
        *(config.wire, config.voice, config.model, config.format, config.sample_rate),
        *(config.speed, config.api_key, tuple(sorted(config.headers.items()))),
        *(config.batch, config.retry, config.verify, config.limits),
    )
