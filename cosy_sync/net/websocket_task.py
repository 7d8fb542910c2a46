"""One task on one WebSocket: its frames sent and taken in, in time."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from ..errors import ConnectError, CosyError, CutError, ReplyTimeout, TransportError
from ..messages import WebSocketExchange
from .connection import Connection, Stream
from .exchange_limits import UNREAD_WITHIN, ExchangeLimits, StaleConnection
from .handshake import Handshake
from .inflate import too_large
from .request_encoding import USER_AGENT
from .route import Route

__all__ = ["Socket", "WebSocketTask"]

_CHUNK = 65536
# Seconds between two looks at what the caller's side has to say.
_GLANCE = 0.02
# Bytes of one message that may come beside the audio: events, and words with their times.
_EVENT_BYTES = 1 << 20
# Bytes that may wait to be sent: more than a whole task's texts.
_MOST_UNSENT = 4 << 20
# The first byte of a pong: the only frame of its message, and no larger than 125 bytes.
_PONG = 0x8A
# The library would log keys and texts where the program lets everything be logged.
_SILENT = logging.Logger("cosy_sync.net.websocket_task", logging.CRITICAL + 1)


class Socket(Connection):
    """A connection that speaks WebSocket from its handshake on.

    `task` is the one that was cancelled on it and whose end has not been heard yet.
    """

    __slots__ = ("_handshake", "_kind", "_pid", "_pieces", "_pong", "_unsent", "protocol", "task")

    def __init__(self, route: Route, sock: Stream) -> None:
        super().__init__(route, sock)
        self.protocol = ClientProtocol(parse_uri("ws://unused"), logger=_SILENT)
        self.task: WebSocketExchange | None = None
        self._pid = os.getpid()
        # What is heard is the answer to the handshake.
        self._handshake: Handshake | None = None
        self._unsent: bytes | memoryview = b""
        # The answer to the latest ping, while the network takes nothing.
        self._pong = b""
        self._pieces: list[bytes] = []
        self._kind = Opcode.TEXT

    @property
    def is_open(self) -> bool:
        """Return whether both sides may still speak."""
        return self.protocol.state is State.OPEN

    def shake_hands(self, exchange: WebSocketExchange, until: float) -> None:
        """Shake hands as the exchange wants it, before the instant `until`.

        Raises ConnectError, and what the server's refusal means to the exchange.
        """
        protocol = self.protocol = ClientProtocol(parse_uri(exchange.url), logger=_SILENT)
        request = protocol.connect()
        if all(name.lower() != "user-agent" for name, _ in exchange.headers):
            request.headers["User-Agent"] = USER_AGENT
        for name, value in exchange.headers:
            request.headers[name] = value
        protocol.send_request(request)
        failed = f"cannot connect to {self.route.label}: the WebSocket handshake"
        handshake = self._read_handshake(until, failed)
        refusal = handshake.refusal
        if refusal is not None and refusal.status >= 300:
            raise exchange.refuse(refusal)
        if refusal is not None:
            raise ConnectError(
                f"{failed} got HTTP {refusal.status}, as from a server that speaks no WebSocket "
                "there; check the URL",
                phase="handshake",
                retryable=False,
            )
        protocol.receive_data(handshake.switch)
        if protocol.handshake_exc is not None:
            raise ConnectError(
                f"{failed} got no such answer; check the URL", phase="handshake"
            ) from protocol.handshake_exc

    def _read_handshake(self, until: float, failed: str) -> Handshake:
        """Return an answer to the handshake that is HTTP. Raises ConnectError for none."""
        handshake = self._handshake = Handshake()
        cause: OSError | None = None
        try:
            while not handshake.over and self.step(until):
                pass
        except OSError as error:
            cause = error
        self._handshake = None
        if handshake.switch or handshake.refusal is not None:
            return handshake
        late = cause is None and not handshake.over
        why = handshake.fault(cause, self.route)
        raise ConnectError(f"{failed} {why}", phase="handshake", timed_out=late) from cause

    def send_frames(self, frames: Sequence[str | bytes]) -> None:
        """Send frames, or as much of them as the network takes now; `step` sends the rest.

        Raises OSError.
        """
        for frame in frames:
            if isinstance(frame, str):
                self.protocol.send_text(frame.encode())
            else:
                self.protocol.send_binary(frame)
        self._push()

    def step(self, until: float) -> bool:
        """Wait until something has come, sending meanwhile what is unsent, and take it in.

        Returns False when the instant came first. Raises OSError.
        """
        while True:
            self._push()
            # TLS may hold bytes that no poll can see: so read first.
            if self._fill():
                return True
            if not self._unsent:
                if not self.wait(until):
                    return False
            elif not any(self.wait_both(until)):
                return False

    def messages(self) -> list[str | bytes]:
        """Return the messages that are complete now. Raises TransportError for no UTF-8."""
        found = []
        for frame in self.protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode in _DATA:
                if frame.opcode is not Opcode.CONT:
                    self._kind = frame.opcode
                self._pieces.append(bytes(frame.data))
                if frame.fin:
                    found.append(self._whole())
        return found

    def bound(self, size: int) -> None:
        """Refuse messages of more bytes than so much audio may have."""
        self.protocol.max_message_size = size + _EVENT_BYTES

    def is_quiet(self) -> bool:
        """Return whether it can take a task; what came while it was idle is answered here."""
        try:
            while self._fill():
                for message in self.messages():
                    if self.task is None:
                        return False
                    self.task.receive(message)
                    self.task.take()
            self._push()
        except (OSError, CosyError):
            return False
        if self.task is not None and self.task.reusable:
            self.task = None
        return self.is_open and self.task is None and not self._unsent

    def close(self) -> None:
        """Close with a goodbye, if it can leave at once; closing twice is harmless."""
        # A forked child must not talk on its parent's sockets.
        if self.is_open and not self._unsent and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self.protocol.send_close(1000)
                self._push()
        super().close()

    def _fill(self) -> bool:
        """Take in what has come; return whether that was anything."""
        if self.protocol.eof_sent or self.protocol.state is State.CLOSED:
            return False
        data = self.receive(_CHUNK)
        if data is None:
            return False
        if self._handshake is not None:
            self._handshake.feed(data)
        elif data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        return True

    def _push(self) -> None:
        writes = [data for data in self.protocol.data_to_send() if data]
        if self._unsent and writes:
            # Whoever sends pings and reads no answer gets the latest one (RFC 6455 5.5.3).
            pongs = [data for data in writes if data[0] == _PONG]
            self._pong = pongs[-1] if pongs else self._pong
            writes = [data for data in writes if data[0] != _PONG]
        self._flush(writes)
        if self._pong and not self._unsent:
            pong, self._pong = self._pong, b""
            self._flush([pong])

    def _flush(self, writes: Sequence[bytes]) -> None:
        """Send what the network takes now of what is unsent, and of these frames behind it."""
        if writes:
            self._unsent = b"".join([self._unsent, *writes])
        if len(self._unsent) > _MOST_UNSENT:
            raise OSError("the service reads nothing of what it is sent")
        while self._unsent:
            sent = self.send(self._unsent)
            if not sent:
                return
            self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""

    def _whole(self) -> str | bytes:
        pieces, self._pieces = self._pieces, []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._kind is Opcode.BINARY:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise TransportError("the server sent a text frame that is no UTF-8") from None


_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class WebSocketTask:
    """One task on one socket, from its first frame to its last; used by one thread."""

    def __init__(
        self, socket: Socket, exchange: WebSocketExchange, limits: ExchangeLimits, *, reused: bool
    ) -> None:
        self.socket = socket
        self._exchange = exchange
        self.limits = limits
        self._reused = reused
        self._started = self._spoke = time.monotonic()
        self._is_answered = False
        # Something came behind the task's end: whatever it was, the next task must not hear it.
        self._is_dirty = False
        self._size = 0
        self._error: CosyError | None = None
        # Seconds until the first audio.
        self.first_byte = 0.0

    @property
    def reusable(self) -> bool:
        """Return whether the socket may take another task now."""
        return self._exchange.reusable and not self._is_dirty and self.socket.is_open

    def begin(self, opening: Sequence[str | bytes]) -> None:
        """Send the frames that begin the task, and wait until they are answered.

        Raises StaleConnection (a reused socket was dead: begin again on a fresh one), and what
        `read` raises.
        """
        if self._reused and not self.socket.is_quiet():
            raise StaleConnection
        self.socket.bound(self.limits.max_bytes)
        try:
            self.socket.send_frames(opening)
        except OSError as error:
            raise self._broken(error) from error
        while not self._is_answered and self._error is None:
            self._step(self._limit())

    def read(self) -> bytes:
        """Wait for audio and return it, b"" at the end of the task.

        Raises ReplyTimeout, CutError, BadAudioError, and what the exchange says.
        """
        while (audio := self._ready()) is None:
            if self._exchange.listens:
                self._glance()
            else:
                self._step(self._limit())
        return audio

    def send_frames(self, frames: Sequence[str | bytes]) -> None:
        """Send frames, or as much of them as the network takes now. Raises CutError."""
        if frames and self.socket.is_open:
            try:
                self.socket.send_frames(frames)
            except OSError as error:
                raise self._broken(error) from error
            self._spoke = time.monotonic()

    def leave(self) -> bool:
        """End a task early; return whether the socket will be of use when that was heard."""
        frames = self._exchange.cancel() if self.socket.is_open else ()
        if not frames:
            return False
        try:
            self.socket.send_frames(frames)
        except OSError:
            return False
        self.socket.task = self._exchange
        return True

    def _glance(self) -> None:
        """Say what the caller's side has said, and look shortly for what comes.

        While both sides wait for the caller no time-out of the service's runs, only the deadline.
        """
        self.send_frames(self._exchange.pending())
        try:
            self._step(min(time.monotonic() + _GLANCE, self.limits.until))
        except ReplyTimeout:
            if time.monotonic() >= self.limits.until:
                raise

    def _ready(self) -> bytes | None:
        """Return the audio that is there, b"" at the end, None before."""
        audio = self._exchange.take()
        if audio:
            return self._counted(audio)
        if self._error is not None:
            raise self._error
        return b"" if self._exchange.done else None

    def _limit(self) -> float:
        # Until the first audio, time runs from the last text; afterwards from what came last.
        if self._size:
            return min(time.monotonic() + self.limits.idle, self.limits.until)
        # It may be busy with others meanwhile: time runs from the last task that it finished.
        since = max(self._spoke, self.socket.stack.alive_at)
        return min(since + self.limits.first_byte, self.limits.until)

    def _step(self, until: float) -> None:
        """Take in what comes next. What fails is kept, for what was heard before goes first."""
        # Where something is always there, pings say, no wait would notice.
        if time.monotonic() >= self.limits.until:
            raise self._late()
        try:
            if not self.socket.step(until):
                if not self._size and until < self._limit():
                    return
                raise self._late()
        except OSError as error:
            raise self._broken(error) from error
        try:
            for message in self.socket.messages():
                self._is_answered = True
                if self._exchange.done:
                    self._is_dirty = True
                else:
                    self.send_frames(self._exchange.receive(message))
        except CosyError as error:
            self._error = error
        if self._error is None and not self.socket.is_open and not self._exchange.done:
            self._error = self._ended()

    def _counted(self, audio: bytes) -> bytes:
        if not self._size:
            self.first_byte = time.monotonic() - self._started
            self.limits.make_room(0)
        self._size += len(audio)
        if self._size > self.limits.max_bytes:
            raise too_large(self.limits.max_bytes)
        return audio

    def _ended(self) -> CosyError:
        """Return what the end of the connection means."""
        protocol = self.socket.protocol
        if isinstance(protocol.parser_exc, PayloadTooBig):
            return too_large(self.limits.max_bytes)
        goodbye = protocol.close_rcvd
        if goodbye is None:
            return self._broken(protocol.parser_exc)
        # A service that closes an idle socket may do it just when a task is sent.
        cut = self._cut(f"was closed by the service (WebSocket code {goodbye.code})")
        return self._exchange.closed(goodbye.code, goodbye.reason) or cut

    def _broken(self, cause: Exception | None) -> CutError:
        return self._cut(f"broke: {cause}" if isinstance(cause, OSError) else "ended")

    def _cut(self, why: str) -> CutError:
        """Return that the connection ended. Raises StaleConnection where it was dead before."""
        cut = CutError(f"the connection {why} before the task's end")
        young = time.monotonic() - self._started < UNREAD_WITHIN
        if self._reused and not self._is_answered and young:
            raise StaleConnection(cut)
        return cut

    def _late(self) -> ReplyTimeout:
        if self._size:
            return ReplyTimeout("the service sent no further audio in time", phase="idle")
        done = "sent no audio" if self._is_answered else "did not begin the task"
        return ReplyTimeout(f"the service {done} in time", phase="first byte")
