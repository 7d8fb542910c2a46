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
from .connection import BLOCKED, Connection
from .exchange_limits import UNREAD_WITHIN, ExchangeLimits, StaleConnection
from .plain_ports import ask_for_tls, not_http
from .raw_reply import RawReply
from .reply_parser import ReplyParser
from .request_encoding import one_length

__all__ = ["Exchange", "RawReply", "exchange"]

# Bytes asked of the kernel at once while a reply's length is not known; and at the reply's begin,
# which each of many threads may hold while it waits for room.
_CHUNK = 65536
_BEGIN = 32768
# Bytes without any of the body among them: status line, headers, chunk extensions, trailers.
# Beyond that it is an attack or not HTTP.
_MAX_DRY = 65536

_A = TypeVar("_A")
_T = TypeVar("_T")


def exchange(
    connection: Connection, request: bytes, limits: ExchangeLimits, *, reused: bool
) -> RawReply:
    """Send the request and return its reply; time-outs and sizes are bounded by the limits.

    Raises StaleConnection (a reused connection was dead: send again on a fresh one), ReplyTimeout,
    CutError, BadAudioError (too large, or another request's), TransportError (not HTTP). After any
    of them the connection is of no further use.
    """
    return Exchange(connection, request, limits, time.monotonic()).run(reused)


class Exchange(ReplyParser):
    """One request and its reply on one connection. Whoever begins it must end it."""

    # How the sending failed; whether the reply has begun, and when.
    _broken: OSError | None = None
    _begun = False
    _first_byte = 0.0

    def __init__(
        self, connection: Connection, request: bytes, limits: ExchangeLimits, started: float
    ) -> None:
        """Build it; `started` is now, as time.monotonic() says it."""
        self._connection = connection
        self._limits = limits
        self._started = started
        self._request = request
        self._bodyless = request.startswith((b"HEAD ", b"CONNECT "))
        self._unsent: bytes | memoryview = request
        self._headers = []
        self._body = bytearray()

    def run(self, reused: bool) -> RawReply:
        """Send the request and return its reply; see `exchange`."""
        try:
            data = self._ask(reused)
            if not self._take_plain(data):
                self._read_head(data)
            self._limits.make_room(0 if self._refused else self._length or 0)
            if not self._size:  # the head may be there long before the work is done
                self._phase = "first byte"
            if self._length is not None and not self._complete and not self._refused:
                self._read_sized(self._length)
            while True:
                if self._complete:
                    break
                self._read_some()
        finally:
            self._parser = None  # see `end`
        body = self._body if self._sized is None else self._sized
        return RawReply(
            status=self._status,
            headers=self._headers if self._names is None else None,
            body=body,
            first_byte=self._first_byte,
            reusable=self._keep and not self._unsent and self._broken is None,
            left=self._started,
            names=self._names,
        )

    def begin(self, reused: bool) -> None:
        """Send the request and read the head of its reply."""
        self._read_head(self._ask(reused))

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
    def reusable(self) -> bool:
        """Return whether the reply ended and the connection stands where the next will begin."""
        return self._complete and self._keep and not self._unsent and self._broken is None

    def end(self) -> None:
        """Let go of the parser."""
        # The parser and its callbacks hold each other: a large body would wait for the collector.
        self._parser = None

    # -- reading ------------------------------------------------------------------------------

    def _ask(self, reused: bool) -> bytes:
        """Send the request and return the first bytes of the reply."""
        connection = self._connection
        if reused:
            if connection.watched is not None:
                connection.watched.begin()
            # What came before this request belongs to nobody. This is the only look at a connection
            # that was taken out of the pool, so nothing may wait between it and the sending.
            if not connection.is_quiet() if connection.tls else connection.poll(0):
                raise StaleConnection
        self._push()
        broken: OSError | None = None
        try:
            if self._unsent or connection.tls:
                data = self._get(connection.sock.recv, _BEGIN)
            else:
                # As in `_get` and `_wait`, which every request would call. All was sent at once: no
                # time has passed that would count.
                patience, until = self._limits.first_byte, self._limits.until
                limit = min(self._started + patience, until)
                if not connection.wait(limit, self._started):
                    self._wait_longer(limit, patience)
                self._begun = True
                try:
                    data = connection.sock.recv(_BEGIN)
                except BLOCKED:
                    data = self._get(connection.sock.recv, _BEGIN)
        except OSError as error:
            data, broken = b"", error
        self._first_byte = time.monotonic() - self._started
        if data:
            return data
        broken = self._broken or broken
        why = f"broke before the reply: {broken}" if broken else "was closed before the reply"
        if connection.stack.alive_at == -math.inf and not self._bodyless:
            why += ask_for_tls(connection.route)
        cut = CutError(f"the connection {why}")
        if reused and self._first_byte < UNREAD_WITHIN:
            raise StaleConnection(cut) from broken
        raise cut from broken

    def _read_head(self, data: bytes) -> None:
        self._parser = self._new_parser()
        self._feed(data)
        while not self._final:
            data = self._more()
            if not data:
                raise CutError("the connection ended within the reply's headers")
            self._feed(data)

    def _read_sized(self, length: int) -> None:
        """Read a body of known length straight into its place."""
        view = memoryview(new_buffer(length))
        view[: self._size] = self._body if self._sized is None else self._sized
        self._sized = view
        while self._size < length:
            try:
                got = self._get(self._connection.sock.recv_into, view[self._size :])
            except OSError as error:
                raise self._broke(error) from error
            if not got:
                raise self._cut(f"ended after {self._size} of the reply's {length} bytes")
            self._size += got
            self._phase = "idle"
            if self._size < length:
                self._check_time()
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
        self._check_time()
        try:
            return self._get(self._connection.sock.recv, _CHUNK)
        except OSError as error:
            raise self._broke(error) from error

    def _check_time(self) -> None:
        """Raise ReplyTimeout where bytes that never cease would go on past the deadline."""
        if time.monotonic() >= self._limits.until:
            raise _late(self._phase)

    def _broke(self, error: OSError) -> CutError:
        error.__traceback__ = None  # its frames would hold on to the buffer
        return self._cut(f"broke in the middle of the reply: {error}")

    def _cut(self, why: str) -> CutError:
        body = self._body if self._sized is None else self._sized
        return CutError(f"the connection {why}", partial=bytes(body[: self._size]))

    def _feed(self, data: bytes) -> None:
        self._dry += len(data)
        if not self._final:
            self._head += data
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
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
        self._parser = parser = self._new_parser()
        with contextlib.suppress(httptools.HttpParserError):
            parser.feed_data(mended)
            return True
        return False

    # -- the socket -----------------------------------------------------------------------------

    def _get(self, read: Callable[[_A], _T], what: _A) -> _T:
        """Read as soon as there is something to read; send the rest of the request meanwhile."""
        # Of a reply that has begun, more is mostly there already; TLS may hold it.
        if not self._begun and not self._connection.tls:
            self._wait()
        while True:
            try:
                got = read(what)
            except BLOCKED:
                self._wait()
            else:
                self._begun = True
                return got

    def _wait(self) -> None:
        connection, until = self._connection, self._limits.until
        while self._unsent:
            limit = min(time.monotonic() + self._limits.idle, until)
            readable, writable = connection.wait_both(limit)
            if writable:
                self._push()
            if readable:
                # A server may answer before it has read everything: a refusal, mostly.
                return
            if not writable:
                raise _late("send")
        now = time.monotonic()
        first = self._phase == "first byte"
        patience = self._limits.first_byte if first else self._limits.idle
        limit = min(now + patience, until)
        if not connection.wait(limit, now):
            self._wait_longer(limit, patience)

    def _wait_longer(self, limit: float, patience: float) -> None:
        """Wait on where nothing came until that instant. Raises ReplyTimeout."""
        connection, until = self._connection, self._limits.until
        first = self._phase == "first byte"
        came = False
        while not came:
            # The service may be busy with others: its time runs from the last reply it gave.
            alive = connection.stack.alive_at if first else 0.0
            before, limit = limit, min(alive + patience, until)
            if limit <= before:
                raise _late(self._phase)
            came = connection.wait(limit)

    def _push(self) -> None:
        """Send what the network takes now of what is unsent."""
        send = self._connection.sock.send
        try:
            while self._unsent:
                sent = send(self._unsent)
                if sent == len(self._unsent):
                    self._unsent = b""
                elif sent:
                    self._unsent = memoryview(self._unsent)[sent:]
                else:
                    break
        except BLOCKED:
            pass
        except OSError as error:
            # The server may have answered and closed: its reply is worth a look.
            self._broken, self._unsent = error, b""


def _late(phase: str) -> ReplyTimeout:
    if phase == "first byte":
        return ReplyTimeout("the server accepted the request and did not answer", phase=phase)
    if phase == "send":
        return ReplyTimeout("the server did not take the request in time", phase=phase)
    return ReplyTimeout("the reply began and did not end in time", phase=phase)
