"""One text's sound while it comes: what it holds, how long it may take, and how it ends.

States of a stream, and what is done in them:

    opening     the text is sent, and its first sound waited for
    open        nothing, between two reads; it holds a connection and its permits
    reading     one thread reads, and waits for the service
    unwanted    the same, and somebody wants no more of it
    ending      nobody reads any more, and nothing more is handed out; some thread gives all back
    over        nothing is held; `_news` is raised by the next read, once

    opening -> open         `begin`, without the lock: only its own thread knows the stream
    opening -> over         the same, with what failed
    open -> reading         `read`, under `_lock`; refused while another thread reads
    reading -> open         `_stop_reading`, under `_lock`: sound came
    reading -> ending       the same: the sound was whole or broke, or Ctrl-C came
    reading -> unwanted     `close`, `cut`: `_leave`, under `_lock`; the thread that reads ends it
    unwanted -> ending      `_stop_reading`, under `_lock`, after the next sound, which is dropped
    open -> ending          `close`, `cut`: `_leave`, under `_lock`; the same thread ends it
    ending -> over          `_end`, under `_lock`; of several threads the first one: `close` ends
                            also what another thread has begun to end, as Ctrl-C may have come there

Where the main thread ends it, `_end` runs on another thread (`cosy-reaper`); a finaliser leaves
`close` to such a one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from enum import Enum
from typing import cast

from ..atomic import on_main_thread, run_aside
from ..endpoints.endpoint import EndpointState
from ..errors import BadAudioError, ClosedError, ConfigError, CosyError, DeadlineError
from ..events import StreamStarted, TextFailed, TextsFinished
from ..messages import Reply, TextSource, WireRequest
from ..models import Audio, Timing
from ..threads import leave_behind
from ..user_code import unexpected
from ..wires.base import DuplexWire, StreamReader
from .attempt import NOT_SENT, Attempt, AttemptRunner, fair_verdict
from .audio_check import ask
from .batch import Batch
from .request_ids import next_request_id
from .sending import aim
from .streamed_reply import StreamedReply

__all__ = ["AudioStream"]


class _State(Enum):
    """What a stream is doing; the steps are at the top of this file."""

    OPENING = "opening"
    OPEN = "open"
    READING = "reading"
    UNWANTED = "unwanted"
    ENDING = "ending"
    OVER = "over"


class AudioStream:
    """An attempt at one text whose sound is handed on as it comes.

    It holds its connection and its permits until the sound is whole or broken, or nobody wants
    the rest. One thread at a time reads; any thread may close.

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
        self._received = StreamedReply(batch, attempter.clock)
        # Seconds from sending until the head of the reply, and until the first sound.
        self._head = self._first_audio = 0.0
        # What `begin` waited for, until it is handed out.
        self._first = b""
        self._pid = os.getpid()
        # The thread that read last: close() of the client waits for the others only.
        self.thread: int | None = None
        # Called once, when nothing is held any more; not where there was no first sound.
        self._on_end = on_end
        # Told what became of the sound: all of it, what broke it, or None where nobody wanted the
        # rest.
        self.on_result: Callable[[Audio | CosyError | None], None] | None = None
        # Guards: _state, _reason, _news.
        self._lock = threading.Lock()
        self._state = _State.OPENING
        # Why nobody wants the rest, where that is an error.
        self._reason: CosyError | None = None
        # What the next read raises.
        self._news: CosyError | None = None

    @property
    def sample_rate(self) -> int:
        """Return the Hz."""
        return self._received.reader.sample_rate

    @property
    def state(self) -> str:
        """Return "open" or "ended"."""
        return "ended" if self._state is _State.OVER else "open"

    @property
    def timing(self) -> Timing:
        """Return the times so far."""
        sent, reply = self._attempt.sent, self._received.reply
        connect = reply.connect if reply else 0.0
        return Timing(
            started=sent,
            queued=sent - self._batch.accepted_at,
            connect=connect,
            first_byte=max(0.0, self._head - connect),
            total=self._received.waited,
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
            self._first = self._received.pull()
            if not self._first:
                raise BadAudioError("the reply ended without any sound; try again", reason="empty")
        except BaseException as error:
            self._state = _State.OVER
            self._note_text()
            waited = self._received.waited = attempter.clock.now() - attempt.sent
            if isinstance(error, CosyError):
                self._wire.capabilities.explain(error)
                error.endpoint = self._endpoint.label
                verdict = fair_verdict(self._batch, error, attempt.sent)
            try:
                self._hang_up()
            finally:
                said = attempter.leave(attempt, [self._text], verdict, waited)
                attempter.judge(attempt, [self._text], (), said, waited)
            if isinstance(error, CosyError) and attempt.holds:
                self._tell_attempt(error)
            raise
        self._state = _State.OPEN
        self._received.sent = attempt.sent
        self._first_audio = self._received.waited = attempter.clock.now() - attempt.sent
        attempter.observer.on_event(StreamStarted(self.timing, len(self._text.text)))

    def _ask(self) -> None:
        attempter, batch, endpoint = self._attempter, self._batch, self._endpoint
        clock, text, source = attempter.clock, self._text.text, self._source
        most = attempter.bounds.most([text]) if source is None else attempter.bounds.largest

        again = functools.partial(
            attempter.enter_again, batch, self._attempt, [text], self._request_id, self._number
        )

        def send(request: WireRequest) -> Reply:
            aim(request, endpoint, again, batch.stop)
            left = batch.deadline.remaining(clock.now())
            return attempter.sender.post(request, left, most, lambda _: None)

        batch.seal(batch.texts)
        if source is None:
            reader: StreamReader = self._wire.listen(text, send, self._request_id)
        else:
            reader = cast(DuplexWire, self._wire).listen_to(source, send, self._request_id)
        received = self._received
        received.reader = reader
        aim(reader.request, endpoint, again, batch.stop)
        left = batch.deadline.remaining(clock.now())
        reply = received.reply = attempter.sender.open(reader.request, left, most)
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
                self._refuse_reader()
                if self._state is not _State.OPEN:
                    return b""
                mine = True  # before the step: Ctrl-C between the two must end it as well
                self._state = _State.READING
            self.thread = threading.get_ident()
            sound, error = self._next()
            if self._stop_reading(_State.OPEN if sound else _State.ENDING):
                self._finish(self._reason)
            elif sound:
                return sound
            elif error is not None:
                self._finish(error)
            else:
                self._finish(self._refusal(), whole=True)
        except BaseException:  # Ctrl-C, mostly
            if mine:
                self._stop_reading(_State.ENDING)
                self._finish(None)
            raise
        with self._lock:
            self._refuse_reader()
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
        if self._state is _State.OVER or self._pid != os.getpid():
            return False
        leave_behind(self.close)
        return True

    def _leave(self, reason: CosyError | None) -> None:
        if self._pid != os.getpid():
            return  # its permits and its connection are the parent's
        with self._lock:
            if self._state in (_State.UNWANTED, _State.OVER):
                return
            self._reason = self._reason or reason
            if self._state is _State.READING:
                self._state = _State.UNWANTED
                return
            self._state = _State.ENDING
        self._finish(self._reason)

    def _refuse_reader(self) -> None:
        """Under the lock: raise what is to be told, or why this thread cannot read."""
        if self._pid != os.getpid():
            raise ClosedError("this stream belongs to the process that forked; open another one")
        if self._state in (_State.READING, _State.UNWANTED):
            raise ConfigError("stream: another thread is reading it; one at a time can")
        error, self._news = self._news, None
        if error is not None:
            raise error

    def _stop_reading(self, then: _State) -> bool:
        """Take the next step, from the thread that reads; return whether nobody wants more."""
        with self._lock:
            unwanted = self._state is _State.UNWANTED
            if self._state is not _State.OVER:
                self._state = _State.ENDING if unwanted else then
            return unwanted

    # -- the sound ------------------------------------------------------------------------------

    def _next(self) -> tuple[bytes, CosyError | None]:
        try:
            sound, self._first = self._first, b""
            return sound or self._received.pull(), None
        except CosyError as error:
            self._wire.capabilities.explain(error)
            return b"", error
        except Exception as error:
            return b"", unexpected(error)

    # -- the end --------------------------------------------------------------------------------

    def _refusal(self) -> CosyError | None:
        """Return why the whole sound cannot be the speech of its text."""
        size = self._received.size
        if size % 2:
            return BadAudioError(f"{size} bytes are no whole samples", reason="odd")
        self._note_text()
        verifier = self._attempter.verifier
        (result,) = verifier.check([self._text.text], [self._audio()])
        return result if isinstance(result, CosyError) else None

    def _finish(self, error: CosyError | None, *, whole: bool = False) -> None:
        """End it, unless it has ended.

        Ctrl-C comes to the main thread, at any line: there another thread does it, lest it is
        left half done.
        """
        if self._state is _State.OVER:
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
        audio, attempter, waited = self._audio(), self._attempter, self._received.waited
        error, final = self._fail(audio, error)
        with self._lock:
            if self._state is _State.OVER:
                return
            self._state, self._news = _State.OVER, final
        verdict = None if whole else error
        if isinstance(error, DeadlineError) and isinstance(error.__cause__, CosyError):
            verdict = error.__cause__
        try:
            self._hang_up()
        finally:
            verdict = attempter.leave(self._attempt, [self._text], verdict, waited)
            self._on_end()
        if whole and error is None and attempter.verifier.asks:
            (result,) = ask(attempter.verifier, self._batch, [self._text.text], [audio])
            error, final = self._fail(audio, result if isinstance(result, CosyError) else None)
            self._news = final
        attempter.judge(self._attempt, [self._text], [error or audio], verdict, waited)
        if self.on_result is not None:
            self.on_result(error or (audio if whole else None))
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
        if self._received.reply is not None:
            self._received.reply.close()

    def _audio(self) -> Audio:
        data = b"".join(self._received.pieces)
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
        timing, attempter, reply = self.timing, self._attempter, self._received.reply
        attempter.tell(timing, [self._text.text], reply.received if reply else 0, error)
        failed = [each for each in (refused or error,) if each]
        attempter.tell_refused(timing, failed, reply)
