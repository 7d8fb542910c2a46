"""One HTTP/1.1 exchange on one socket: send a request whole, read its reply whole, in time."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass

import httptools

from ..errors import BadAudioError, CutError, ReplyTimeout, TransportError
from .inflate import too_large

__all__ = ["Budget", "RawReply", "StaleConnection", "exchange"]

# Bytes asked of the kernel at once while a reply's length is not known.
_CHUNK = 65536
# Bytes of status line and headers; beyond that it is an attack or not HTTP.
_MAX_HEAD = 65536


class StaleConnection(Exception):
    """A reused connection was closed by the server before the first byte of a reply."""


@dataclass(slots=True)
class Budget:
    """What one exchange may take: seconds, the instant that ends it all, and bytes of body."""

    first_byte: float
    idle: float
    until: float
    max_bytes: int


@dataclass(slots=True)
class RawReply:
    """A reply as it came: `body` still has its Content-Encoding."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | bytearray
    first_byte: float
    reusable: bool


def exchange(sock: socket.socket, request: bytes, budget: Budget, *, reused: bool) -> RawReply:
    """Send the request and return its reply; time-outs and sizes are bounded by the budget.

    Raises StaleConnection (a reused connection was dead: send again on a fresh one), ReplyTimeout,
    CutError, BadAudioError (too large), TransportError (not HTTP). After any of them the socket is
    of no further use.
    """
    return _Exchange(sock, budget).run(request, reused)


class _Exchange:
    """The state of one exchange; httptools calls its `on_` methods while it is fed."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        self._sock = sock
        self._budget = budget
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._length: int | None = None
        self._chunked = False
        self._body_starts = False
        self._complete = False
        self._after = False
        self._parser = httptools.HttpResponseParser(self)

    def run(self, request: bytes, reused: bool) -> RawReply:
        started = time.monotonic()
        try:
            self._send(request)
            data = self._first_bytes()
        except (ConnectionError, ssl.SSLError, ssl.SSLEOFError) as error:
            if reused:
                raise StaleConnection from error
            raise CutError(f"the connection broke before the reply: {error}") from error
        if not data:
            if reused:
                raise StaleConnection
            raise CutError("the server closed the connection before the reply")
        first_byte = time.monotonic() - started
        body = self._read_reply(data)
        status = self._parser.get_status_code()
        keep = self._complete and not self._after and bool(self._parser.should_keep_alive())
        return RawReply(status, self._headers, body, first_byte, keep)

    # -- reading ------------------------------------------------------------------------------

    def _read_reply(self, data: bytes) -> bytes | bytearray:
        head = 0
        while True:
            self._feed(data)
            if self._complete:
                return self._joined()
            if self._body_starts:
                break
            head += len(data)
            if head > _MAX_HEAD:
                raise TransportError("the reply's headers are larger than 64 KiB: is it HTTP?")
            data = self._more()
            if not data:
                raise CutError("the connection ended within the reply's headers")
        if self._length is not None and not self._chunked:
            return self._read_sized(self._length)
        return self._read_until_done()

    def _read_sized(self, length: int) -> bytearray:
        body = bytearray(length)
        view, at = memoryview(body), 0
        for chunk in self._chunks:
            view[at : at + len(chunk)] = chunk
            at += len(chunk)
        while at < length:
            got = self._more_into(view[at:])
            if not got:
                text = f"the connection ended after {at} of the reply's {length} bytes"
                raise CutError(text, partial=bytes(view[:at]))
            at += got
        self._complete = True
        return body

    def _read_until_done(self) -> bytes:
        while not self._complete:
            data = self._more()
            if not data:
                if self._chunked:
                    text = f"the connection ended after {self._size} bytes, before the last chunk"
                    raise CutError(text, partial=self._joined())
                # Without a length the end of the connection is the end of the body (RFC 9112 6.3).
                self._after = self._complete = True
                break
            self._feed(data)
        return self._joined()

    def _joined(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise TransportError("the server wants to switch protocols") from None
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, BadAudioError):
                raise error.__context__ from None
            if self._complete:
                self._after = True
                return
            raise TransportError(f"the reply is not HTTP: {error}") from error

    # -- called by httptools --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._after = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete or self._informational():
            return
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                self._length = int(value)
            elif lower == b"transfer-encoding":
                self._chunked = True
        if self._length is not None and self._length > self._budget.max_bytes:
            raise too_large(self._budget.max_bytes)
        self._body_starts = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._size += len(data)
        if self._size > self._budget.max_bytes:
            raise too_large(self._budget.max_bytes)
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._body_starts:
            self._complete = True
        else:
            self._headers.clear()

    def _informational(self) -> bool:
        return 100 <= self._parser.get_status_code() < 200

    # -- the socket -----------------------------------------------------------------------------

    def _send(self, request: bytes) -> None:
        self._sock.settimeout(self._time("send", self._budget.first_byte))
        try:
            self._sock.sendall(request)
        except TimeoutError as error:
            raise self._late("send") from error
        except ConnectionError:
            # The server may have answered early (413, say) and closed: its reply is worth a look.
            if not self._readable():
                raise

    def _readable(self) -> bool:
        self._sock.settimeout(0)
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def _first_bytes(self) -> bytes:
        return self._receive("first byte", self._budget.first_byte)

    def _more(self) -> bytes:
        try:
            return self._receive("idle", self._budget.idle)
        except (ConnectionError, ssl.SSLError) as error:
            text = f"the connection broke in the middle of the reply: {error}"
            raise CutError(text, partial=self._joined()) from error

    def _receive(self, phase: str, seconds: float) -> bytes:
        self._sock.settimeout(self._time(phase, seconds))
        try:
            return self._sock.recv(_CHUNK)
        except TimeoutError as error:
            raise self._late(phase) from error

    def _more_into(self, view: memoryview) -> int:
        self._sock.settimeout(self._time("idle", self._budget.idle))
        try:
            return self._sock.recv_into(view)
        except TimeoutError as error:
            raise self._late("idle") from error
        except (ConnectionError, ssl.SSLError) as error:
            raise CutError(f"the connection broke in the middle of the reply: {error}") from error

    def _time(self, phase: str, seconds: float) -> float:
        left = self._budget.until - time.monotonic()
        if left <= 0:
            raise self._late(phase)
        return left if left < seconds else seconds

    def _late(self, phase: str) -> ReplyTimeout:
        if phase == "first byte":
            return ReplyTimeout("the server accepted the request and did not answer", phase=phase)
        if phase == "send":
            return ReplyTimeout("the server did not take the request in time", phase=phase)
        return ReplyTimeout("the reply began and did not end in time", phase=phase)
