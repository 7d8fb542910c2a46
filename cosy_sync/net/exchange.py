"""One HTTP/1.1 exchange on one connection: send a request, read its reply whole, in time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import TypeVar

import httptools

from ..errors import CosyError, CutError, ReplyTimeout, TransportError
from .buffer import new_buffer
from .connection import Connection
from .exchange_limits import UNREAD_WITHIN, Budget, StaleConnection
from .inflate import shown_coding, too_large
from .matching import check_echo, sent_id
from .plain_ports import ask_for_tls, not_http
from .raw_reply import RawReply
from .request_encoding import one_length

__all__ = ["Exchange", "RawReply", "exchange"]

# Bytes asked of the kernel at once while a reply's length is not known; and at the reply's begin,
# which each of many threads may hold while it waits for room.
_CHUNK = 65536
_BEGIN = 16384
# Bytes without any of the body among them: status line, headers, chunk extensions, trailers.
# Beyond that it is an attack or not HTTP.
_MAX_DRY = 65536

_A = TypeVar("_A")
_T = TypeVar("_T")


def exchange(connection: Connection, request: bytes, budget: Budget, *, reused: bool) -> RawReply:
    """Send the request and return its reply; time-outs and sizes are bounded by the budget.

    Raises StaleConnection (a reused connection was dead: send again on a fresh one), ReplyTimeout,
    CutError, BadAudioError (too large, or another request's), TransportError (not HTTP). After any
    of them the connection is of no further use.
    """
    one = Exchange(connection, request, budget)
    try:
        return one.run(reused)
    finally:
        one.end()


class Exchange:
    """The state of one exchange; httptools calls its `on_` methods while it is fed."""

    __slots__ = (
        *("_begun", "_body", "_bodyless", "_broken", "_budget", "_chunked", "_complete"),
        *("_connection", "_dry", "_final", "_head", "_headers", "_keep", "_length", "_parser"),
        *("_phase", "_refused", "_request", "_size", "_sized", "_started", "_status", "_unsent"),
    )

    def __init__(self, connection: Connection, request: bytes, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget
        self._started = time.monotonic()
        self._request = request
        self._unsent: bytes | memoryview = request
        self._broken: OSError | None = None
        self._bodyless = request.startswith((b"HEAD ", b"CONNECT "))
        self._phase = "first byte"
        self._begun = False
        self._dry = 0
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = None
        self._chunked = False
        self._keep = False
        self._final = False
        # It says no, and only the beginning of its body is wanted.
        self._refused = False
        self._complete = False
        self._body = bytearray()
        self._sized: memoryview | None = None
        self._size = 0
        self._parser = self._new_parser()
        # What has come of a head that is not complete.
        self._head = b""

    def run(self, reused: bool) -> RawReply:
        """Send the request and return its reply."""
        first_byte = self.begin(reused)
        self._budget.make_room(0 if self._refused else self._length or 0)
        if not self._size:  # the head may be there long before the work is done
            self._phase = "first byte"
        if self._length is not None and not self._complete and not self._refused:
            self._read_sized(self._length)
        while not self._complete:
            self._read_some()
        return RawReply(
            *(self._status, self._headers, self._whole(), first_byte),
            *(self.reusable, self._started),
        )

    def begin(self, reused: bool) -> float:
        """Send the request and read the head of its reply; return the seconds until it began."""
        if self._connection.watched is not None:
            self._connection.watched.begin()
        # What came since the connection was taken belongs to nobody.
        if reused and not self._connection.is_quiet():
            raise StaleConnection
        self._push()
        data = self._first_bytes(reused)
        first_byte = time.monotonic() - self._started
        self._feed(data)
        while not self._final:
            data = self._more()
            if not data:
                raise CutError("the connection ended within the reply's headers")
            self._feed(data)
        return first_byte

    def next(self) -> bytes:
        """After `begin`: wait for the next bytes of the body; b"" at its end."""
        if not self._size:
            self._phase = "first byte"
        while not self._body and not self._complete:
            self._read_some()
        data = bytes(self._body)
        self._body.clear()
        return data

    @property
    def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return the status and the headers."""
        return self._status, self._headers

    @property
    def framed(self) -> bool:
        """Return whether the reply says where it ends; if not, the connection's end does."""
        return self._chunked or self._length is not None

    @property
    def reusable(self) -> bool:
        """Return whether the reply ended and the connection stands where the next will begin."""
        return self._complete and self._keep and not self._unsent and self._broken is None

    def end(self) -> None:
        """Let go of the parser."""
        # The parser and its callbacks hold each other: a large body would wait for the collector.
        del self._parser

    # -- reading ------------------------------------------------------------------------------

    def _first_bytes(self, reused: bool) -> bytes:
        broken: OSError | None = None
        try:
            data = self._get(self._connection.receive, _BEGIN)
        except OSError as error:
            data, broken = b"", error
        if data:
            return data
        broken = self._broken or broken
        why = f"broke before the reply: {broken}" if broken else "was closed before the reply"
        connection = self._connection
        if connection.stack.alive_at == -math.inf and not self._bodyless:
            why += ask_for_tls(connection.route)
        cut = CutError(f"the connection {why}")
        if reused and time.monotonic() - self._started < UNREAD_WITHIN:
            raise StaleConnection(cut) from broken
        raise cut from broken

    def _read_sized(self, length: int) -> None:
        """Read a body of known length straight into its place."""
        view = memoryview(new_buffer(length))
        view[: self._size] = self._body
        self._sized = view
        while self._size < length:
            got = self._take(self._connection.receive_into, view[self._size :])
            if not got:
                raise self._cut(f"ended after {self._size} of the reply's {length} bytes")
            self._size += got
            self._phase = "idle"
        self._complete = True

    def _read_some(self) -> None:
        try:
            data = self._more()
        except (CutError, ReplyTimeout):
            if not self._refused:
                raise
            data = b""
        if data:
            self._feed(data)
        elif self._refused:  # its status says enough
            self._complete, self._keep = True, False
        elif self._chunked:
            raise self._cut(f"ended after {self._size} bytes, before the last chunk")
        elif self._length is not None:
            raise self._cut(f"ended after {self._size} of the reply's {self._length} bytes")
        else:
            # Without a length the end of the connection is the end of the body (RFC 9112 6.3).
            self._complete = True

    def _more(self) -> bytes:
        return self._take(self._connection.receive, _CHUNK)

    def _take(self, read: Callable[[_A], _T | None], what: _A) -> _T:
        try:
            return self._get(read, what)
        except OSError as error:
            # Without its frames, which would hold on to the buffer.
            raise self._cut(f"broke in the middle of the reply: {error}") from error.with_traceback(
                None
            )

    def _cut(self, why: str) -> CutError:
        return CutError(f"the connection {why}", partial=bytes(self._whole()[: self._size]))

    def _whole(self) -> bytearray | memoryview:
        return self._body if self._sized is None else self._sized

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Chunks count more than a Content-Length beside them.
        parser.set_dangerous_leniencies(lenient_chunked_length=True)
        return parser

    def _feed(self, data: bytes) -> None:
        self._dry += len(data)
        if not self._final:
            self._head += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, CosyError):
                raise error.__context__ from None
            if not self._final and "Content-Length" in str(error) and self._feed_one_length():
                return
            if not self._complete and not self._refused:
                raise not_http(self._connection.route, self._head, error) from error
            self._complete, self._keep = True, False
        if self._dry > _MAX_DRY and not self._complete:
            raise TransportError("more than 64 KiB of headers in the reply: is it HTTP?")

    def _feed_one_length(self) -> bool:
        """Begin again with a head that says its length once, where it said the same several times;
        return whether it did."""
        while b"\r\n\r\n" not in self._head:
            data = self._more()
            if not data or len(self._head) > _MAX_DRY:
                return False
            self._head += data
        mended = one_length(self._head)
        if mended is None:
            return False
        self._headers.clear()
        self._parser = self._new_parser()
        with contextlib.suppress(httptools.HttpParserError):
            self._parser.feed_data(mended)
            return True
        return False

    # -- called by httptools --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False  # it said more than it was asked
        self._phase = "idle"

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows the body (trailers, rubbish) has no say in what the reply is.
        if not self._final:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._final:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._check_informational()
            return
        self._final = True
        self._refused = self._status >= 300 and self._budget.max_refusal is not None
        # The parser forgets it with the end of the message, so this is the time to ask.
        self._keep = bool(self._parser.should_keep_alive())
        self._find_length()
        if self._bodyless:
            self._complete, self._keep = True, False
        elif (self._length or 0) > self._budget.max_bytes and not self._refused:
            raise too_large(self._budget.max_bytes)

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._dry = 0
        self._phase = "idle"
        budget = self._budget
        most = budget.max_bytes
        if self._refused and budget.max_refusal is not None:
            most = budget.max_refusal
        room = most - self._size
        if len(data) > room:
            if not self._refused:
                raise too_large(most)
            data = data[:room]
            self._complete, self._keep = True, False
        self._size += len(data)
        self._body += data

    def on_message_complete(self) -> None:
        if self._final:
            self._complete = True
        else:
            # An interim reply: the real one is still to come.
            self._headers.clear()
            self._phase = "first byte"

    def _check_informational(self) -> None:
        if self._status == 101:
            raise TransportError("the server wants to switch protocols")
        if self._status < 100:
            raise TransportError(f"the reply is not HTTP: status {self._status}")

    def _find_length(self) -> None:
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                self._length = int(value)
            elif lower == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked":
                    coding = shown_coding(value.decode("latin-1"))
                    raise TransportError(f"the reply's Transfer-Encoding {coding} is unknown")
                self._chunked = True
            elif lower == b"x-request-id":
                check_echo(sent_id(self._request), value)
        if self._chunked and self._length is not None:
            # Somebody on the way may have counted otherwise (RFC 9112 6.3).
            self._length, self._keep = None, False

    # -- the socket -----------------------------------------------------------------------------

    def _get(self, read: Callable[[_A], _T | None], what: _A) -> _T:
        """Read as soon as there is something to read; send the rest of the request meanwhile."""
        got: _T | None = None
        # Of a reply that has begun, more is mostly there already; TLS may hold it.
        if self._begun or self._connection.tls:
            if time.monotonic() >= self._budget.until:
                raise _late(self._phase)
            got = read(what)
        while got is None:
            self._wait()
            got = read(what)
        self._begun = True
        return got

    def _wait(self) -> None:
        while self._unsent:
            readable, writable = self._connection.wait_both(self._limit(self._budget.idle))
            if writable:
                self._push()
            if readable:
                # A server may answer before it has read everything: a refusal, mostly.
                return
            if not writable:
                raise _late("send")
        first = self._phase == "first byte"
        patience = self._budget.first_byte if first else self._budget.idle
        limit = self._limit(patience)
        while not self._connection.wait(limit):
            # The service may be busy with others: its time runs from the last reply it gave.
            alive = self._connection.stack.alive_at if first else 0.0
            before, limit = limit, min(alive + patience, self._budget.until)
            if limit <= before:
                raise _late(self._phase)

    def _push(self) -> None:
        """Send what the network takes now of what is unsent."""
        try:
            while self._unsent:
                sent = self._connection.send(self._unsent)
                if sent == len(self._unsent):
                    self._unsent = b""
                elif sent:
                    self._unsent = memoryview(self._unsent)[sent:]
                else:
                    break
        except OSError as error:
            # The server may have answered and closed: its reply is worth a look.
            self._broken, self._unsent = error, b""

    def _limit(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self._budget.until)


def _late(phase: str) -> ReplyTimeout:
    if phase == "first byte":
        return ReplyTimeout("the server accepted the request and did not answer", phase=phase)
    if phase == "send":
        return ReplyTimeout("the server did not take the request in time", phase=phase)
    return ReplyTimeout("the reply began and did not end in time", phase=phase)
