"""Streams: brings texts to their first sound, and knows which of them are still open."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..atomic import Flag
from ..clock import Clock
from ..config import ClientConfig
from ..errors import ClosedError
from ..models import Utterance
from ..policies import Deadline
from ..threads import leave_behind
from ..user_code import goes_on
from ..wires.base import Wire
from .asking import has_place
from .attempt import Attempter
from .caller import Caller
from .executor import Executor
from .feeder import Feeder
from .gate import Gate
from .job import Job, Stop
from .ports import Result
from .speech import Speech
from .station import Station

__all__ = ["Listener", "Streamer"]

# Seconds between two looks at the streams that are still open.
_LOOK = 0.01
# Seconds that a worker gets after the deadline to say what happened.
_LAST_WORD = 0.05

_Held = TypeVar("_Held")


class StreamJob(Job):
    """A job of one text that ends with its first sound.

    `on_end` is called once its speech ended.
    """

    __slots__ = ("_owner", "gate", "on_end", "source", "speech")

    def __init__(
        self,
        text: Utterance,
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        source: Feeder | None,
    ) -> None:
        super().__init__([text], deadline, interactive=interactive, tenant=tenant, stop=Stop())
        self.source = source
        self.speech: Speech | None = None
        self.on_end: Callable[[], None]
        # Of its tenant, once it is inside.
        self.gate: Gate | None = None
        self._owner = threading.get_ident()

    @property
    def thread(self) -> int:
        """Return which thread reads it, or asked for it."""
        speech = self.speech
        read_by = speech.thread if speech is not None else None
        return self._owner if read_by is None else read_by


@dataclass(frozen=True)
class Listener:
    """Makes attempts like an Attempter, each of them a Speech that the job takes over."""

    attempter: Attempter

    @property
    def wires(self) -> Mapping[str, Wire]:
        """Return each endpoint's wire, by its URL."""
        return self.attempter.wires

    def attempt(
        self, job: Job, texts: Sequence[Utterance], station: Station, number: int
    ) -> Sequence[Result]:
        """Send a text and wait for its first sound; there is no result yet. Raises what failed."""
        assert isinstance(job, StreamJob)
        speech = Speech(self.attempter, job, station, number, job.on_end, job.source)
        speech.begin()
        job.speech = speech
        return ()


class Streamer:
    """Opens streams, on the threads of those who listen.

    Args:
        caller: Returns the caller whose attempts are a Listener's, for a configuration.
        gate: Returns a tenant's gate; its place is held until the stream ends.
        clock: The time.
        workers: Open the streams of the main thread.
    """

    def __init__(
        self,
        caller: Callable[[ClientConfig], Caller],
        gate: Callable[[ClientConfig], Gate | None],
        clock: Clock,
        workers: Executor,
    ) -> None:
        self._caller = caller
        self._gate = gate
        self._clock = clock
        self._workers = workers
        self._closed = False
        self._was_cut = False
        # Streams that wait for their first sound, or go on. Every use of it is one atomic step.
        self._open: set[StreamJob] = set()

    def open(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[Speech], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech, once its first sound is there; the text may
        come in pieces.

        Waits for that at most until the deadline. Raises what went wrong instead.
        """
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        job = StreamJob(
            text if isinstance(text, Utterance) else Utterance(0, ""),
            Deadline(self._clock.now(), config.deadline),
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            source=None if isinstance(text, Utterance) else Feeder(text),
        )
        if config.serial or threading.current_thread() is not threading.main_thread():
            return hold(self._open_here(job, config))
        return self._open_elsewhere(job, config, hold)

    def _open_elsewhere(
        self, job: StreamJob, config: ClientConfig, hold: Callable[[Speech], _Held]
    ) -> _Held:
        """Let a worker do what another thread does itself.

        Ctrl-C comes to the main thread, at any line: it must find it without permits.
        """
        held: list[_Held] = []
        failed: list[BaseException] = []
        done = Flag()
        wanted = True

        def work() -> None:
            try:
                held.append(hold(self._open_here(job, config)))
            except BaseException as error:
                failed.append(error)
            done.set()
            if not wanted:
                _close(job)

        try:
            self._workers.submit(work)
            left = job.deadline.remaining(self._clock.now()) + _LAST_WORD
            if not done.wait(min(left, threading.TIMEOUT_MAX)):
                raise job.deadline.error("waiting for a worker: all are busy with other calls")
            if failed:
                raise failed.pop()
            return held.pop()
        except BaseException:
            wanted = False
            job.stop.set()
            leave_behind(job.stop.cut)
            if done.is_set():  # here or in work(), whichever comes later
                _close(job)
            raise

    def _open_here(self, job: StreamJob, config: ClientConfig) -> Speech:
        gate = self._gate(config)
        job.on_end = functools.partial(self._leave, job)
        self._open.add(job)
        if self._was_cut:  # here or in cut(), whichever comes later
            job.stop.set()
        try:
            if job.source is not None and not job.stop.is_set():
                job.source.start()
            if gate is not None and not has_place(job.tenant):
                self._enter(job, gate)
            speech = self._run(job, config)
        except BaseException:
            _close(job)
            self._leave(job)
            raise
        if self._was_cut:
            speech.cut()
        return speech

    def close(self) -> None:
        """Open nothing more."""
        self._closed = True

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until no stream is open; return whether that came in time.

        A stream that this very thread reads is not waited for: it would not end meanwhile.
        """
        until = time.monotonic() + seconds
        mine = threading.get_ident()
        while any(job.thread != mine for job in list(self._open)):
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True

    def cut(self) -> None:
        """End the streams that wait or go on; the net has woken the threads that read them."""
        self._closed = self._was_cut = True
        for job in list(self._open):
            job.stop.set()
            speech = job.speech
            if speech is not None:
                speech.cut()

    def _enter(self, job: StreamJob, gate: Gate) -> None:
        deadline = job.deadline
        left = deadline.remaining(self._clock.now())
        if not gate.acquire(urgent=job.interactive, seconds=left):
            why = f"waiting for one of the tenant's {gate.limit} places"
            raise job.fail(job.texts[0], deadline.error(why))
        job.gate = gate

    def _leave(self, job: StreamJob) -> None:
        """Forget a job and leave its tenant's gate, the first time that this is called."""
        try:
            self._open.remove(job)
        except KeyError:
            return
        job.speech = None  # it refers to its job: a cycle that only the collector would free
        if job.source is not None:
            job.source.stop()
        if job.gate is not None:
            job.gate.release()

    def _run(self, job: StreamJob, config: ClientConfig) -> Speech:
        try:
            self._caller(config).run(job)
        except BaseException as error:
            if goes_on(error):
                raise
            job.end(error)
        speech = job.speech
        if speech is not None:
            return speech
        failure = job.outcomes[0].error if job.outcomes else None
        raise failure or ClosedError("the client was closed with the first sound")


def _close(job: StreamJob) -> None:
    speech = job.speech
    if speech is not None:
        speech.close()
