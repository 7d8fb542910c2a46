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
from ..endpoints.endpoint import EndpointState
from ..errors import ClosedError
from ..models import Utterance
from ..policies import Deadline
from ..threads import leave_behind
from ..threads.stop import Stop
from ..threads.workers import Executor
from ..user_code import goes_on
from ..wires.base import Wire
from .attempt import AttemptRunner
from .audio_check import has_place
from .audio_stream import AudioStream
from .batch import Batch
from .ports import Result
from .retrying import BatchRunner
from .tenants import TenantLimit
from .text_pump import TextPump

__all__ = ["StreamOpener", "StreamingAttempts"]

# Seconds between two looks at the streams that are still open.
_LOOK = 0.01
# Seconds that a worker gets after the deadline to say what happened.
_LAST_WORD = 0.05

_Held = TypeVar("_Held")


class StreamBatch(Batch):
    """A batch of one text that ends with its first sound.

    `on_end` is called once its speech ended.
    """

    __slots__ = ("_owner", "on_end", "source", "stream", "tenant_limit")

    def __init__(
        self,
        text: Utterance,
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        source: TextPump | None,
    ) -> None:
        super().__init__([text], deadline, interactive=interactive, tenant=tenant, stop=Stop())
        self.source = source
        self.stream: AudioStream | None = None
        self.on_end: Callable[[], None]
        # Of its tenant, once it is inside.
        self.tenant_limit: TenantLimit | None = None
        self._owner = threading.get_ident()

    @property
    def thread(self) -> int:
        """Return which thread reads it, or asked for it."""
        stream = self.stream
        read_by = stream.thread if stream is not None else None
        return self._owner if read_by is None else read_by


@dataclass(frozen=True)
class StreamingAttempts:
    """Makes attempts like an AttemptRunner, each an AudioStream that the batch takes over."""

    attempter: AttemptRunner

    @property
    def wires(self) -> Mapping[str, Wire]:
        """Return each endpoint's wire, by its URL."""
        return self.attempter.wires

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Send a text and wait for its first sound; there is no result yet. Raises what failed."""
        assert isinstance(batch, StreamBatch)
        stream = AudioStream(self.attempter, batch, endpoint, number, batch.on_end, batch.source)
        stream.begin()
        batch.stream = stream
        return ()


class StreamOpener:
    """Opens streams, on the threads of those who listen.

    Args:
        runner: Returns the BatchRunner whose attempts are StreamingAttempts, for a configuration.
        tenant_limit: Returns a tenant's limit; its place is held until the stream ends.
        clock: The time.
        workers: Open the streams of the main thread.
    """

    def __init__(
        self,
        runner: Callable[[ClientConfig], BatchRunner],
        tenant_limit: Callable[[ClientConfig], TenantLimit | None],
        clock: Clock,
        workers: Executor,
    ) -> None:
        self._runner = runner
        self._tenant_limit = tenant_limit
        self._clock = clock
        self._workers = workers
        self._closed = False
        self._was_cut = False
        # Streams that wait for their first sound, or go on. Every use of it is one atomic step.
        self._open: set[StreamBatch] = set()

    def open(
        self,
        text: Utterance | Iterable[str],
        config: ClientConfig,
        hold: Callable[[AudioStream], _Held],
    ) -> _Held:
        """Return what `hold` makes of a text's speech, once its first sound is there; the text may
        come in pieces.

        Waits for that at most until the deadline. Raises what went wrong instead.
        """
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        batch = StreamBatch(
            text if isinstance(text, Utterance) else Utterance(0, ""),
            Deadline(self._clock.now(), config.deadline),
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            source=None if isinstance(text, Utterance) else TextPump(text),
        )
        if config.serial or threading.current_thread() is not threading.main_thread():
            return hold(self._open_here(batch, config))
        return self._open_elsewhere(batch, config, hold)

    def _open_elsewhere(
        self, batch: StreamBatch, config: ClientConfig, hold: Callable[[AudioStream], _Held]
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
                held.append(hold(self._open_here(batch, config)))
            except BaseException as error:
                failed.append(error)
            done.set()
            if not wanted:
                _close(batch)

        try:
            self._workers.submit(work)
            left = batch.deadline.remaining(self._clock.now()) + _LAST_WORD
            if not done.wait(min(left, threading.TIMEOUT_MAX)):
                raise batch.deadline.error("waiting for a worker: all are busy with other calls")
            if failed:
                raise failed.pop()
            return held.pop()
        except BaseException:
            wanted = False
            batch.stop.set()
            leave_behind(batch.stop.cut)
            if done.is_set():  # here or in work(), whichever comes later
                _close(batch)
            raise

    def _open_here(self, batch: StreamBatch, config: ClientConfig) -> AudioStream:
        tenant_limit = self._tenant_limit(config)
        batch.on_end = functools.partial(self._leave, batch)
        self._open.add(batch)
        if self._was_cut:  # here or in cut(), whichever comes later
            batch.stop.set()
        try:
            if batch.source is not None and not batch.stop.is_set():
                batch.source.start()
            if tenant_limit is not None and not has_place(batch.tenant):
                self._enter(batch, tenant_limit)
            stream = self._run(batch, config)
        except BaseException:
            _close(batch)
            self._leave(batch)
            raise
        if self._was_cut:
            stream.cut()
        return stream

    def close(self) -> None:
        """Open nothing more."""
        self._closed = True

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until no stream is open; return whether that came in time.

        A stream that this very thread reads is not waited for: it would not end meanwhile.
        """
        until = time.monotonic() + seconds
        mine = threading.get_ident()
        while any(batch.thread != mine for batch in list(self._open)):
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True

    def cut(self) -> None:
        """End the streams that wait or go on; the net has woken the threads that read them."""
        self._closed = self._was_cut = True
        for batch in list(self._open):
            batch.stop.set()
            stream = batch.stream
            if stream is not None:
                stream.cut()

    def _enter(self, batch: StreamBatch, tenant_limit: TenantLimit) -> None:
        deadline = batch.deadline
        left = deadline.remaining(self._clock.now())
        if not tenant_limit.acquire(urgent=batch.interactive, seconds=left):
            why = f"waiting for one of the tenant's {tenant_limit.limit} places"
            raise batch.fail(batch.texts[0], deadline.error(why))
        batch.tenant_limit = tenant_limit

    def _leave(self, batch: StreamBatch) -> None:
        """Forget a batch and give its tenant's place back, the first time that this is called."""
        try:
            self._open.remove(batch)
        except KeyError:
            return
        batch.stream = None  # it refers to its batch: a cycle that only the collector would free
        if batch.source is not None:
            batch.source.stop()
        if batch.tenant_limit is not None:
            batch.tenant_limit.release()

    def _run(self, batch: StreamBatch, config: ClientConfig) -> AudioStream:
        try:
            self._runner(config).run(batch)
        except BaseException as error:
            if goes_on(error):
                raise
            batch.end(error)
        stream = batch.stream
        if stream is not None:
            return stream
        failure = batch.outcomes[0].error if batch.outcomes else None
        raise failure or ClosedError("the client was closed with the first sound")


def _close(batch: StreamBatch) -> None:
    stream = batch.stream
    if stream is not None:
        stream.close()
