"""Replies that are read as they come: over our own connections, or through a foreign client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import httpx

from ..errors import ClosedError, CutError, ReplyTimeout
from ..messages import UNFRAMED, Link
from .connection import Connection
from .exchange import Exchange
from .exchange_limits import ExchangeLimits, StaleConnection
from .httpx_errors import is_of_httpx, translate
from .matching import lost_trust
from .pool import ConnectionPool
from .reply_head import named

__all__ = ["HttpxReplyStream", "PooledReplyStream", "closed_meanwhile", "named_foreign"]


def closed_meanwhile() -> ClosedError:
    """Build the error for a reply that the end of the client cut off."""
    return ClosedError("the client was closed while it waited for the reply", sent=True)


def named_foreign(response: httpx.Response) -> dict[str, str]:
    """Return the headers of httpx's reply; see `named`. HTTP/2 frames each reply, and what is no
    network's (mocks) is whole."""
    headers = named(response.headers.raw)
    if not response.extensions.get("http_version", b"").startswith(b"HTTP/1"):
        headers.pop(UNFRAMED, None)
    return headers


class PooledReplyStream:
    """A reply over one of our own connections."""

    def __init__(
        self,
        pool: ConnectionPool,
        connection: Connection,
        request: bytes,
        limits: ExchangeLimits,
        started: float,
    ) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._exchange = Exchange(connection, request, limits, started)
        self.link: Link | None = connection
        self._limits = limits
        self._cut = connection.cut
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.connect = 0.0

    def begin(self, reused: bool) -> None:
        """Send the request and read the head of the reply; like `exchange`, of which the rest is
        read later. When it raises, the connection is closed."""
        try:
            self._limits.hold(self._cut)
            self._exchange.begin(reused)
            if self._connection is not None and self._connection.is_distrusted:
                raise lost_trust()
            self.status, headers = self._exchange.head
            self.headers = named(headers)
        except BaseException as error:
            self.close()
            self._tell_own_cut(error)
            raise

    def read(self) -> bytes:
        """Wait for the next bytes; see Incoming."""
        try:
            data = self._exchange.next()
        except CutError as error:
            self._tell_own_cut(error)
            raise
        if not data and not self._exchange.framed:  # the end that came may be our own doing
            if self._pool.was_cut:
                raise closed_meanwhile()
            self._limits.check()
        return data

    def close(self) -> None:
        """Give the connection back if the reply came to its end; else hang up."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        keep = self._limits.let_go(self._cut) and self._exchange.reusable
        if keep and self.status < 400:
            connection.stack.alive_at = time.monotonic()
        self._exchange.end()
        if keep:
            self._pool.give_back(connection)
        else:
            self._pool.drop(connection)

    def _tell_own_cut(self, error: BaseException) -> None:
        """Raise ClosedError in the place of a cut that the end of the client or the call made."""
        if isinstance(error, CutError) and self._pool.was_cut:
            raise closed_meanwhile() from error
        if isinstance(error, (CutError, StaleConnection)):
            self._limits.check(error)


class HttpxReplyStream:
    """A reply through an httpx.Client, with its own time-outs."""

    def __init__(self, response: httpx.Response, limits: ExchangeLimits) -> None:
        self._response = response
        self._limits = limits
        self._pieces = self._all_pieces()
        self.status = response.status_code
        headers = named_foreign(response)
        if response.is_stream_consumed:  # by a mock or a hook: whole, and decompressed
            headers.pop("content-encoding", None)
        self.headers: Mapping[str, str] = headers
        self.connect: float = response.extensions.get("cosy_connect", 0.0)

    def read(self) -> bytes:
        """Wait for the next bytes; see Incoming."""
        if time.monotonic() > self._limits.until:
            raise ReplyTimeout("the reply began and did not end in time", phase="idle")
        try:
            return next(self._pieces, b"")
        except Exception as error:
            if is_of_httpx(error):
                raise translate(error) from error
            raise

    def close(self) -> None:
        """Leave it to the client what becomes of the connection."""
        self._response.close()

    def _all_pieces(self) -> Iterator[bytes]:
        response = self._response
        if response.is_stream_consumed:
            yield response.content
            return
        for piece in response.iter_raw():
            if piece:
                yield piece
