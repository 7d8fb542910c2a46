"""Streams: brings texts to their first sound, and knows which of them still sound."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..config import ClientConfig
from ..errors import ClosedError
from ..models import Utterance
from ..policies import Deadline
from ..wires.base import Wire
from .attempt import Attempter, Result
from .caller import Caller
from .gate import Gate
from .job import Job
from .speech import Speech
from .station import Station

__all__ = ["Listener", "Streamer"]

# Seconds between two looks at what still sounds.
_LOOK = 0.01


class StreamJob(Job):
    """A job of one text that ends with its first sound.

    `on_end` is called once its speech ended.
    """

    __slots__ = ("_thread", "on_end", "speech")

    def __init__(
        self,
        text: Utterance,
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        stop: threading.Event,
    ) -> None:
        super().__init__([text], deadline, interactive=interactive, tenant=tenant, stop=stop)
        self.speech: Speech | None = None
        self.on_end: Callable[[], None]
        self._thread = threading.get_ident()

    @property
    def thread(self) -> int:
        """Return which thread opens it, or reads it."""
        return self._thread if self.speech is None else self.speech.thread


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
        speech = Speech(self.attempter, job, station, number, job.on_end)
        speech.begin()
        job.speech = speech
        return ()


class Streamer:
    """Opens streams, on the threads of those who listen.

    Args:
        caller: Returns the caller whose attempts are a Listener's, for a configuration.
        gate: Returns a tenant's gate; its place is held until the stream ends.
        clock: The time.
    """

    def __init__(
        self,
        caller: Callable[[ClientConfig], Caller],
        gate: Callable[[ClientConfig], Gate | None],
        clock: Clock,
    ) -> None:
        self._caller = caller
        self._gate = gate
        self._clock = clock
        self._closed = False
        self._cut = threading.Event()
        # What waits for its first sound, or sounds. Every use of it is one atomic step.
        self._open: set[StreamJob] = set()

    def open(self, utterance: Utterance, config: ClientConfig) -> Speech:
        """Return a text's speech once its first sound is there.

        Waits for that at most until the deadline. Raises what went wrong instead.
        """
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        job = StreamJob(
            utterance,
            Deadline(self._clock.now(), config.deadline),
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            stop=self._cut,
        )
        gate = self._gate(config)
        job.on_end = functools.partial(self._open.discard, job)
        self._open.add(job)
        try:
            if gate is not None:
                self._enter(job, gate)
                job.on_end = functools.partial(self._leave, job, gate)
            speech = self._run(job, config)
        except BaseException:
            if job.speech is None:
                job.on_end()
            else:
                job.speech.close()
            raise
        if self._cut.is_set():  # here or in cut(), whichever comes later
            speech.cut()
        return speech

    def close(self) -> None:
        """Open nothing more."""
        self._closed = True

    def drain(self, seconds: float) -> bool:
        """Wait until nothing sounds, at most so many seconds; return whether that came in time.

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
        """End what waits, and what sounds; whoever reads there was woken by the net."""
        self._closed = True
        self._cut.set()
        for job in list(self._open):
            if job.speech is not None:
                job.speech.cut()

    def _enter(self, job: StreamJob, gate: Gate) -> None:
        deadline = job.deadline
        left = deadline.remaining(self._clock.now())
        if not gate.acquire(urgent=job.interactive, seconds=left):
            why = f"waiting for one of the tenant's {gate.limit} places"
            raise job.fail(job.texts[0], deadline.error(why))

    def _leave(self, job: StreamJob, gate: Gate) -> None:
        self._open.discard(job)
        gate.release()

    def _run(self, job: StreamJob, config: ClientConfig) -> Speech:
        try:
            self._caller(config).run(job)
        except (Exception, SystemExit) as error:
            job.end(error)
        if job.speech is None:
            failure = job.outcomes[0].error
            assert failure is not None
            raise failure
        return job.speech
