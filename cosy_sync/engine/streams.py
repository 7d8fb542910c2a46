"""Streams: brings texts to their first sound, and knows which of them are still open."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import TypeVar

from ..atomic import Flag
from ..clock import Clock
from ..config import ClientConfig
from ..errors import ClosedError
from ..models import Utterance
from ..policies import Deadline
from ..threads import leave_behind
from ..threads.stop import Stop
from ..threads.workers import Executor
from .audio_check import has_place
from .audio_stream import AudioStream
from .batch import Batch
from .open_stream import OpenStream
from .ports import Runs
from .tenants import TenantLimit, TenantLimits
from .text_pump import TextPump

__all__ = ["StreamOpener"]

# Seconds between two looks at the streams that are still open.
_LOOK = 0.01
# Seconds that a worker gets after the deadline to say what happened.
_LAST_WORD = 0.05

_Held = TypeVar("_Held")


class StreamOpener:
    """Opens streams, on the threads of those who listen.

    Args:
        runner: Returns the BatchRunner whose attempts are a stream's, for a configuration.
        tenant_limits: A place in its tenant's limit is held until the stream ends.
        clock: The time.
        workers: Open the streams of the main thread.
    """

    def __init__(
        self,
        runner: Callable[[ClientConfig, OpenStream], Runs],
        tenant_limits: TenantLimits,
        clock: Clock,
        workers: Executor,
    ) -> None:
        self._runner = runner
        self._tenant_limits = tenant_limits
        self._clock = clock
        self._workers = workers
        self._closed = False
        self._was_cut = False
        # Streams that wait for their first sound, or go on. Every use of it is one atomic step.
        self._open: set[OpenStream] = set()

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
        batch = Batch(
            (text if isinstance(text, Utterance) else Utterance(""),),
            Deadline(self._clock.now(), config.deadline),
            interactive=config.priority != "bulk",
            tenant=config.tenant or "",
            stop=Stop(),
        )
        stream = OpenStream(batch, None if isinstance(text, Utterance) else TextPump(text))
        if config.serial or threading.current_thread() is not threading.main_thread():
            return hold(self._open_here(stream, config))
        return self._open_elsewhere(stream, config, hold)

    def _open_elsewhere(
        self, stream: OpenStream, config: ClientConfig, hold: Callable[[AudioStream], _Held]
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
                held.append(hold(self._open_here(stream, config)))
            except BaseException as error:
                failed.append(error)
            done.set()
            if not wanted:
                stream.close()

        batch = stream.batch
        try:
            self._workers.submit(functools.partial(copy_context().run, work))
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
                stream.close()
            raise

    def _open_here(self, stream: OpenStream, config: ClientConfig) -> AudioStream:
        batch, tenant_limit = stream.batch, self._tenant_limits.of_config(config)
        stream.on_end = functools.partial(self._leave, stream)
        self._open.add(stream)
        if self._was_cut:  # here or in cut(), whichever comes later
            batch.stop.set()
        try:
            if stream.source is not None and not batch.stop.is_set():
                stream.source.start()
            if tenant_limit is not None and not has_place(batch.tenant):
                self._enter(stream, tenant_limit)
            audio = self._run(stream, config)
        except BaseException:
            stream.close()
            self._leave(stream)
            raise
        if self._was_cut:
            audio.cut()
        return audio

    def close(self) -> None:
        """Open nothing more."""
        self._closed = True

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until no stream is open; return whether that came in time.

        A stream that this very thread reads is not waited for: it would not end meanwhile.
        """
        until = time.monotonic() + seconds
        mine = threading.get_ident()
        while any(stream.thread != mine for stream in list(self._open)):
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True

    def cut(self) -> None:
        """End the streams that wait or go on; the net has woken the threads that read them."""
        self._closed = self._was_cut = True
        for stream in list(self._open):
            stream.batch.stop.set()
            audio = stream.audio
            if audio is not None:
                audio.cut()

    def _enter(self, stream: OpenStream, tenant_limit: TenantLimit) -> None:
        batch = stream.batch
        deadline = batch.deadline
        left = deadline.remaining(self._clock.now())
        if not tenant_limit.acquire(urgent=batch.interactive, seconds=left):
            why = f"waiting for one of the tenant's {tenant_limit.limit} places"
            raise batch.fail(batch.texts[0], deadline.error(why))
        stream.tenant_limit = tenant_limit

    def _leave(self, stream: OpenStream) -> None:
        """Forget a stream and give its tenant's place back, the first time that this is called."""
        try:
            self._open.remove(stream)
        except KeyError:
            return
        stream.audio = None  # it refers to the stream: a cycle that only the collector would free
        if stream.source is not None:
            stream.source.stop()
        if stream.tenant_limit is not None:
            stream.tenant_limit.release()

    def _run(self, stream: OpenStream, config: ClientConfig) -> AudioStream:
        batch = stream.batch
        self._runner(config, stream).run(batch)
        audio = stream.audio
        if audio is not None:
            return audio
        failure = batch.outcomes[0].error if batch.outcomes else None
        raise failure or ClosedError("the client was closed with the first sound")
