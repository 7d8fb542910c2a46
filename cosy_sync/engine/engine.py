"""The machines of one client in one process: shared by all of its callers, gone after a fork."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

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
from .dispatcher import Dispatcher, Terms
from .executor import Executor, SerialExecutor, ThreadExecutor
from .job import Job
from .sizes import ReplyBounds
from .station import Station

__all__ = ["Engine", "Network", "Supplies"]

# Seconds that running work gets to notice that it was cut off.
_GRACE = 5.0
# Configurations whose callers are kept. A program that makes more (headers of its own for each
# request, say) must not grow for ever.
_MOST_CALLERS = 256


class Network(Sender, Protocol):
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
        self.stations = [
            Station(endpoint, config.breaker, supplies.observer) for endpoint in supplies.endpoints
        ]
        places = sum(endpoint.max_connections for endpoint in supplies.endpoints)
        self.workers = min(places, config.pool.max_connections)
        self._executor: Executor = (
            SerialExecutor() if config.serial else ThreadExecutor(self.workers)
        )
        self._memory = Permits(config.limits.max_bytes_in_flight)
        self._submitted = Permits(config.limits.max_submitted)
        # Guards: _callers, _gates, _stops, _closed.
        self._lock = threading.Lock()
        self._callers: dict[object, Caller] = {}
        self._gates: dict[str, Permits] = {}
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
        terms = Terms(
            deadline=config.deadline,
            within=None if within is None else Deadline(self._clock.now(), within),
            interactive=config.priority == "interactive",
            tenant=config.tenant or "",
            gate=gate,
            ahead=min(self.workers, gate.limit if gate else self.workers),
            max_waiting=limits.max_bytes_waiting if lazy else limits.max_bytes_in_flight,
        )
        dispatcher = Dispatcher(
            texts, config.batch, terms, self._caller(config), self._executor, self._clock
        )
        self._watch(dispatcher.stop)
        return dispatcher

    def run_one(self, utterance: Utterance, config: ClientConfig) -> Outcome:
        """Bring one text to its outcome, on this very thread."""
        job = self._job(utterance, config)
        return self._executor.run_here(lambda: self._run(job, config))

    def submit(self, utterance: Utterance, config: ClientConfig) -> Future[Audio]:
        """Bring one text to its outcome on a worker.

        Waits, up to the deadline, while too many are submitted already: then ShedError.
        """
        job = self._job(utterance, config)
        if not self._submitted.acquire(seconds=config.deadline):
            raise ShedError(
                f"{self._submitted.limit} texts are submitted and not finished; wait for some, "
                "use synth_many, or raise LimitConfig(max_submitted)"
            )
        future: Future[Audio] = Future()
        try:
            self._executor.submit(lambda: self._fulfil(future, job, config))
        except ClosedError:
            self._submitted.release()
            raise
        return future

    def _fulfil(self, future: Future[Audio], job: Job, config: ClientConfig) -> None:
        outcome: Outcome | None = None
        bug: BaseException | None = None
        try:
            if not future.set_running_or_notify_cancel():
                return
            outcome = self._run(job, config)
        except BaseException as error:
            bug = error
        finally:
            self._submitted.release()  # first: the future's callbacks may submit more
        if outcome is not None and outcome.audio is not None:
            future.set_result(outcome.audio)
        else:
            future.set_exception(bug if outcome is None else outcome.error)

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

    def _run(self, job: Job, config: ClientConfig) -> Outcome:
        gate = self._gate(config)
        left = job.deadline.remaining(self._clock.now())
        if gate is not None and not gate.acquire(urgent=job.interactive, seconds=left):
            error = job.deadline.error(f"waiting for one of the tenant's {gate.limit} places")
            job.fail(job.texts[0], error)
            return job.outcomes[0]
        try:
            self._caller(config).run(job)
        finally:
            if gate is not None:
                gate.release()
        return job.outcomes[0]

    # -- what callers share ---------------------------------------------------------------------

    def _caller(self, config: ClientConfig) -> Caller:
        key = _caller_key(config)
        with self._lock:
            caller = self._callers.get(key)
            if caller is None:
                if len(self._callers) >= _MOST_CALLERS:
                    self._callers.clear()
                caller = self._callers[key] = self._make_caller(config)
            return caller

    def _make_caller(self, config: ClientConfig) -> Caller:
        supplies = self._supplies
        attempter = Attempter(
            wires={s: supplies.wire(s.endpoint, config) for s in self.stations},
            sender=self.network,
            memory=self._memory,
            bounds=ReplyBounds(config),
            verifier=Verifier(config.verify),
            observer=supplies.observer,
            clock=self._clock,
            sample_rate=config.sample_rate,
        )
        retry = RetryPolicy(config.retry)
        return Caller(attempter, self.stations, retry, supplies.observer, self._clock)

    def _gate(self, config: ClientConfig) -> Permits | None:
        limit = config.max_in_flight
        if limit is None:
            return None
        name = config.tenant or f"at most {limit}"
        with self._lock:
            gate = self._gates.get(name)
            if gate is None:
                gate = self._gates[name] = Permits(limit)
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
        """Let running work finish for so many seconds, then cut it off; leave no thread behind."""
        with self._lock:
            first, self._closed = not self._closed, True
        if not first:
            return
        if not self._executor.drain(seconds):
            self.cut()
            self._executor.drain(_GRACE)
        self.cut()
        self._executor.close()
        self.network.close()

    def cut(self) -> None:
        """End everything that waits: for a permit, for a turn, for a reply."""
        with self._lock:
            self._closed = True
            stops, gates = list(self._stops), list(self._gates.values())
        for stop in stops:
            stop.set()
        for permits in (self._memory, self._submitted, *gates):
            permits.close()
        for station in self.stations:
            station.slots.close()
        self.network.cut()

    def in_flight(self) -> int:
        """Return how many requests are under way."""
        return sum(station.slots.used for station in self.stations)


def _caller_key(config: ClientConfig) -> object:
    """Return what a caller depends on; the rest of a configuration belongs to the single call."""
    return (
        *(config.wire, config.voice, config.model, config.format, config.sample_rate),
        *(config.speed, config.api_key, tuple(sorted(config.headers.items()))),
        *(config.batch, config.retry, config.verify, config.limits),
    )
