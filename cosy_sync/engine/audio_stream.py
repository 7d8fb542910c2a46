"""One text's sound while it comes: what it holds, how long it may take, and how it ends.

States of a stream, and the fields that say so:

    opening     no first sound yet (`_begun` is False)
    open        between two reads; it holds a connection and its permits
    reading     one thread reads (`_reading`)
    leaving     somebody wants no more of it (`_leaving`)
    over        nothing is held (`_over`); `_news` is raised by the next read, once

    opening -> open     `begin`, without the lock: only its own thread knows the stream
    opening -> over     the same, with what failed
    open -> reading     `read`, under `_lock`; refused while another thread reads
    reading -> open     `_stop_reading`, under `_lock`: sound came
    open -> leaving     `close`, `cut`: `_leave`, under `_lock`; the same thread ends it
    reading -> leaving  the same; the thread that reads ends it, after its next sound
    leaving -> over     `_end`, under `_lock`; of several threads the first one
    reading -> over     `_end`, under `_lock`: the sound was whole or broke, or Ctrl-C came. The
                        reader has stopped reading before, so `close` may be quicker

Where the main thread ends it, `_end` runs on another thread (`cosy-reaper`); a finaliser leaves
`close` to such a one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import cast

from ..atomic import on_main_thread, run_aside
from ..endpoints.endpoint import EndpointState
from ..errors import BadAudioError, ClosedError, ConfigError, CosyError, DeadlineError, ReplyTimeout
from ..events import StreamStarted, TextFailed, TextsFinished
from ..messages import Reply, TextSource, WireRequest
from ..models import Audio, Timing
from ..threads import leave_behind
from ..user_code import unexpected
from ..wires.base import DuplexWire, StreamReader
from .attempt import NOT_SENT, Attempt, AttemptRunner, aim, fair_verdict
from .audio_check import ask
from .batch import Batch
from .ports import ReplyStream
from .request_ids import next_request_id

__all__ = ["AudioStream"]


class AudioStream:
    """An attempt at one text whose sound is handed on as it comes.

    It holds its connection and its permits until the sound is whole or broken, or nobody wants
    the rest. One thread at a time reads; any thread may close.

    The deadline bounds the time until the first sound. Afterwards it bounds how far the service
    may fall behind: all the time that was spent waiting for it, less the sound that it gave. What
    the listener takes between two reads does not count.

    All of the sound is kept until the end, and verified there; replies' bounds hold for it.
    """

    def __init__(
        self,
        attempter: AttemptRunner,
        batch: Batch,
        endpoint: EndpointState,
        number: int,
        on_end: Callable[[], None],
        source: TextSource | None = None,
    ) -> None:
        self._attempter = attempter
        self._batch = batch
        self._endpoint = endpoint
        self._wire = attempter.wires[endpoint.endpoint.url]
        self._number = number
        self._text = batch.texts[0]
        # Where the text comes in pieces; they are put together when it has ended.
        self._source = source
        self._request_id = next_request_id()
        self._attempt: Attempt
        self._reader: StreamReader
        self._reply: ReplyStream | None = None
        # Seconds: from sending until the head of the reply, until the first sound, in all reads.
        self._head = self._first_audio = self._waited = 0.0
        self._sound: list[bytes] = []
        self._size = 0
        # The first sound is there; the listener took it.
        self._begun = False
        self._heard = False
        self._complete = False
        self._pid = os.getpid()
        # The thread that read last: close() of the client waits for the others only.
        self.thread: int | None = None
        # Called once, when nothing is held any more; not where there was no first sound.
        self._on_end = on_end
        # Guards: _reading, _over, _leaving, _news.
        self._lock = threading.Lock()
        self._reading = False
        self._over = False
        # Nobody wants the rest: whoever reads now ends it, for this reason.
        self._leaving = False
        self._reason: CosyError | None = None
        # What the next read raises.
        self._news: CosyError | None = None

    @property
    def sample_rate(self) -> int:
        """Return the Hz."""
        return self._reader.sample_rate

    @property
    def state(self) -> str:
        """Return "open" or "ended"."""
        return "ended" if self._over else "open"

    @property
    def timing(self) -> Timing:
        """Return the times so far."""
        sent, reply = self._attempt.sent, self._reply
        connect = reply.connect if reply else 0.0
        return Timing(
            started=sent,
            queued=sent - self._batch.accepted_at,
            connect=connect,
            first_byte=max(0.0, self._head - connect),
            total=self._waited,
            attempts=self._number,
            endpoint=self._endpoint.label,
            request_id=self._request_id,
            first_audio=self._first_audio,
        )

    # -- the first sound ------------------------------------------------------------------------

    def begin(self) -> None:
        """Send the text and wait for its first sound.

        Raises what went wrong, like AttemptRunner.attempt; then nothing is held.
        """
        attempter = self._attempter
        attempt = self._attempt = attempter.enter(self._batch, self._endpoint, self._number)
        verdict: CosyError = NOT_SENT
        try:
            self._ask()
            if not self._pull():
                raise BadAudioError("the reply ended without any sound; try again", reason="empty")
        except BaseException as error:
            self._over = True
            self._note_text()
            self._waited = attempter.clock.now() - attempt.sent
            if isinstance(error, CosyError):
                self._wire.capabilities.explain(error)
                error.endpoint = self._endpoint.label
                verdict = fair_verdict(self._batch, error, attempt.sent)
            try:
                self._hang_up()
            finally:
                said = attempter.leave(attempt, [self._text], verdict, self._waited)
                attempter.judge(attempt, [self._text], (), said, self._waited)
            if isinstance(error, CosyError) and attempt.holds:
                self._tell_attempt(error)
            raise
        self._begun = True
        self._first_audio = self._waited = attempter.clock.now() - attempt.sent
        attempter.observer.on_event(StreamStarted(self.timing, len(self._text.text)))

    def _ask(self) -> None:
        attempter, batch, endpoint = self._attempter, self._batch, self._endpoint
        clock, text, source = attempter.clock, self._text.text, self._source
        most = attempter.bounds.most([text]) if source is None else attempter.bounds.largest

        again = functools.partial(
            attempter.enter_again, batch, self._attempt, [text], self._request_id, self._number
        )

        def send(parcel: WireRequest) -> Reply:
            aim(parcel, endpoint, again, batch.stop)
            left = batch.deadline.remaining(clock.now())
            return attempter.sender.post(parcel, left, most, lambda _: None)

        batch.seal(batch.texts)
        if source is None:
            reader = self._reader = self._wire.listen(text, send, self._request_id)
        else:
            reader = cast(DuplexWire, self._wire).listen_to(source, send, self._request_id)
            self._reader = reader
        aim(reader.parcel, endpoint, again, batch.stop)
        left = batch.deadline.remaining(clock.now())
        reply = self._reply = attempter.sender.open(reader.parcel, left, most)
        self._head = clock.now() - self._attempt.sent
        if not reader.accept(reply.status, reply.headers):
            raise reader.refuse(reply.whole(batch.deadline.remaining(clock.now())))

    # -- the rest -------------------------------------------------------------------------------

    def read(self) -> bytes:
        """Return the next sound, whole samples; b"" at the end, and after close().

        Waits for the service. Raises what broke the sound, once; it carries all of it as `partial`.
        """
        mine = False
        try:
            with self._lock:
                if self._is_over():
                    return b""
                mine = self._reading = True
            self.thread = threading.get_ident()
            sound, error = self._next()
            if self._stop_reading():
                self._finish(self._reason)
            elif error is not None:
                self._finish(error)
            elif sound:
                return sound
            else:
                self._finish(self._refusal(), whole=True)
        except BaseException:  # Ctrl-C, mostly
            if mine:
                self._stop_reading()
                self._finish(None)
            raise
        with self._lock:
            self._is_over()
        return b""

    def close(self) -> None:
        """Hang up, and give everything back. A thread that reads does it with its next sound."""
        self._leave(None)

    def cut(self) -> None:
        """End it because the client ends: the next read says so."""
        self._leave(ClosedError("the client was closed before the sound was whole", sent=True))

    def abandon(self) -> bool:
        """Close it from within a finaliser; return whether there was anything to close.

        The collector runs at any line of any thread, also where a lock is held that is needed
        here: so another thread does it.
        """
        if self._over or self._pid != os.getpid():
            return False
        leave_behind(self.close)
        return True

    def _leave(self, reason: CosyError | None) -> None:
        if self._pid != os.getpid():
            return  # its permits and its connection are the parent's
        with self._lock:
            if not self._leaving:
                self._leaving, self._reason = True, reason
            if self._over or self._reading:
                return
        self._finish(self._reason)

    def _is_over(self) -> bool:
        """Under the lock: return whether nothing more comes. Raises what is to be told."""
        if self._pid != os.getpid():
            raise ClosedError("this stream belongs to the process that forked; open another one")
        if self._reading:
            raise ConfigError("stream: another thread is reading it; one at a time can")
        error, self._news = self._news, None
        if error is not None:
            raise error
        return self._over or self._leaving

    def _stop_reading(self) -> bool:
        """Return whether somebody wanted to end it meanwhile."""
        with self._lock:
            self._reading = False
            return self._leaving

    # -- the sound ------------------------------------------------------------------------------

    def _next(self) -> tuple[bytes, CosyError | None]:
        if not self._heard:
            self._heard = True
            return self._sound[0], None
        try:
            return self._pull(), None
        except CosyError as error:
            self._wire.capabilities.explain(error)
            return b"", error
        except Exception as error:
            return b"", unexpected(error)

    def _pull(self) -> bytes:
        """Wait for the next sound and keep it; b"" at its end."""
        reader = self._reader
        sound = b""
        while not sound and not self._complete:
            data = self._receive()
            sound = reader.feed(data) if data else reader.end()
            self._complete = not data
        if sound:
            self._sound.append(sound)
            self._size += len(sound)
        return sound

    def _receive(self) -> bytes:
        assert self._reply is not None
        clock = self._attempter.clock
        started = clock.now()
        if not self._begun:
            return self._reply.read(self._batch.deadline.remaining(started))
        left = self._patience()
        try:
            if left <= 0:
                raise ReplyTimeout("the sound goes on, and its time is over", phase="idle")
            return self._reply.read(left)
        except ReplyTimeout as error:
            if clock.now() - started >= left:
                raise self._batch.deadline.behind(self._seconds) from error
            raise
        finally:
            self._waited += clock.now() - started

    def _patience(self) -> float:
        """Return how many seconds more the service may take; see the class."""
        deadline = self._batch.deadline
        queued = self._attempt.sent - deadline.started
        return deadline.seconds + self._seconds - queued - self._waited

    @property
    def _seconds(self) -> float:
        return self._size / (2 * self.sample_rate)

    # -- the end --------------------------------------------------------------------------------

    def _refusal(self) -> CosyError | None:
        """Return why the whole sound cannot be the speech of its text."""
        if self._size % 2:
            return BadAudioError(f"{self._size} bytes are no whole samples", reason="odd")
        self._note_text()
        verifier = self._attempter.verifier
        (result,) = verifier.check([self._text.text], [self._audio()])
        return result if isinstance(result, CosyError) else None

    def _finish(self, error: CosyError | None, *, whole: bool = False) -> None:
        """End it, unless it has ended.

        Ctrl-C comes to the main thread, at any line: there another thread does it, lest it is
        left half done.
        """
        if self._over:
            return
        if on_main_thread():
            with contextlib.suppress(RuntimeError):  # the machine is out of threads
                run_aside(functools.partial(self._end, error, whole), "cosy-reaper")
                return
        self._end(error, whole)

    def _end(self, error: CosyError | None, whole: bool) -> None:
        """Give everything back, once, and tell what became of the text.

        Of an error the next read tells. Without one, and before the sound is whole, nobody wanted
        the rest.
        """
        self._note_text()
        audio, attempter = self._audio(), self._attempter
        error, final = self._fail(audio, error)
        with self._lock:
            if self._over:
                return
            self._over, self._news = True, final
        verdict = None if whole else error
        if isinstance(error, DeadlineError) and isinstance(error.__cause__, CosyError):
            verdict = error.__cause__
        try:
            self._hang_up()
        finally:
            verdict = attempter.leave(self._attempt, [self._text], verdict, self._waited)
            self._on_end()
        if whole and error is None and attempter.verifier.asks:
            (result,) = ask(attempter.verifier, self._batch, [self._text.text], [audio])
            error, final = self._fail(audio, result if isinstance(result, CosyError) else None)
            self._news = final
        attempter.judge(self._attempt, [self._text], [error or audio], verdict, self._waited)
        self._tell(audio, None if whole else error, final, whole)

    def _fail(self, audio: Audio, error: CosyError | None) -> tuple[CosyError | None, ...]:
        """Return an error, if there is one, with what it carries; and as it ends the text."""
        if error is None:
            return None, None
        error = error.with_details(endpoint=self._endpoint.label, partial=audio.data)
        return error, self._batch.fail(self._text, error)

    def _note_text(self) -> None:
        if self._source is not None:
            self._text.text = "".join(self._source.pieces)

    def _hang_up(self) -> None:
        if self._reply is not None:
            self._reply.close()

    def _audio(self) -> Audio:
        data = b"".join(self._sound)
        return Audio(data, "pcm", self.sample_rate, 1, 0, len(data), self.timing)

    def _tell(
        self, audio: Audio, error: CosyError | None, final: CosyError | None, whole: bool
    ) -> None:
        observer, chars = self._attempter.observer, len(self._text.text)
        self._tell_attempt(error, final)
        if final is not None:
            observer.on_event(TextFailed(self._text.hash, chars, final))
        elif whole:
            assert audio.timing is not None
            latency = audio.timing.queued + audio.timing.total
            observer.on_event(TextsFinished(1, chars, len(audio.data), audio.duration, latency))

    def _tell_attempt(self, error: CosyError | None, refused: CosyError | None = None) -> None:
        timing, attempter = self.timing, self._attempter
        received = self._reply.received if self._reply else 0
        attempter.tell(timing, [self._text.text], received, error)
        failed = [each for each in (refused or error,) if each]
        attempter.tell_refused(timing, failed, self._reply)
