"""The httpx transport over our connections."""

from __future__ import annotations

import ssl
import time
from typing import Protocol, TypeVar

import httpx

from ..config import PoolConfig, TimeoutConfig
from ..errors import CutError
from .connect import connect, default_ssl_context
from .connection import Connection, Stream
from .exchange import Exchange, RawReply
from .exchange_limits import ExchangeLimits, StaleConnection
from .matching import lost_trust
from .pool import ConnectionPool
from .reply_streams import PooledReplyStream, closed_meanwhile
from .request_encoding import encode_request, head_start
from .route import Route, find_route

__all__ = ["PoolTransport"]


class _Came(Protocol):
    """A reply, or its beginning."""

    connect: float


_T = TypeVar("_T", bound=_Came)
_T_co = TypeVar("_T_co", covariant=True, bound=_Came)


class _Act(Protocol[_T_co]):
    """What is done with a connection."""

    def __call__(
        self,
        connection: Connection,
        request: bytes,
        limits: ExchangeLimits,
        now: float,
        *,
        reused: bool,
    ) -> _T_co: ...


class PoolTransport(httpx.BaseTransport):
    """Sends requests over pooled connections; every wait ends at a deadline.

    As a transport of any `httpx.Client` it reads each reply whole. The deadline of a request is
    its extension `cosy_deadline` (an instant of `time.monotonic()`); without it, httpx's read
    time-out bounds the whole exchange.
    """

    def __init__(self, pool: PoolConfig, timeouts: TimeoutConfig, max_bytes: int) -> None:
        self._config = pool
        self._timeouts = timeouts
        self._max_bytes = max_bytes
        self._routes: dict[str, Route] = {}
        self.connections = ConnectionPool(
            self._connect_to,
            max_connections=pool.max_connections,
            idle_expiry=pool.idle_expiry,
            max_age=pool.max_age,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx. Raises CosyError, in place of httpx's own errors."""
        route = self.route(request.url)
        target = request.url.raw_path.decode("ascii")
        host = request.headers.get("host", route.netloc)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw]
        start = head_start(request.method, target, host, route)
        data, limits = encode_request(start, headers, request.read()), self._limits_of(request)
        raw = self.send(self.exchange, route, data, limits, time.monotonic())
        return httpx.Response(
            raw.status,
            headers=raw.pairs(),
            stream=httpx.ByteStream(bytes(raw.body)),
            extensions={
                "http_version": b"HTTP/1.1",
                "cosy_connect": raw.connect,
                "cosy_first_byte": raw.first_byte,
                "cosy_link": raw.link,
            },
        )

    def route(self, url: httpx.URL) -> Route:
        """Find the way to a URL's server; the answer is kept."""
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        found = self._routes.get(origin)
        if found is None:
            found = find_route(origin, trust_env=self._config.trust_env)
            self._routes[origin] = found
        return found

    def send(
        self, act: _Act[_T], route: Route, request: bytes, limits: ExchangeLimits, now: float
    ) -> _T:
        """Send prepared bytes, now, and return what `exchange` or `begin` makes of the reply.

        A reused connection that proves dead is replaced: before anything is sent, or, once and as
        the limits allows it, at once after sending and before the first byte: the server closed it
        while idle, so it cannot have taken the request up.
        """
        pool = self.connections
        while (connection := pool.pop(route, now)) is not None:
            try:
                return act(connection, request, limits, now, reused=True)
            except StaleConnection as error:
                stale = error
            if stale.lost is not None:
                limits.ask_again(stale)
                break
            # Nothing was sent: the one below it in the stack may be alive.
            now = time.monotonic()
        started = time.monotonic()
        connection = pool.open(route, min(limits.until, started + self._timeouts.connect))
        now = time.monotonic()
        came = act(connection, request, limits, now, reused=False)
        came.connect = now - started
        return came

    def begin(
        self,
        connection: Connection,
        request: bytes,
        limits: ExchangeLimits,
        now: float,
        *,
        reused: bool,
    ) -> PooledReplyStream:
        """Return the reply as it begins."""
        incoming = PooledReplyStream(self.connections, connection, request, limits, now)
        incoming.begin(reused)
        return incoming

    def exchange(
        self,
        connection: Connection,
        request: bytes,
        limits: ExchangeLimits,
        now: float,
        *,
        reused: bool,
    ) -> RawReply:
        """Return the whole reply; the connection is given back, or dropped."""
        keep, cut = False, connection.cut
        held = limits.stop is not None
        try:
            if held:
                limits.hold(cut)
            raw = Exchange(connection, request, limits, now).run(reused)
            now = time.monotonic()
            if connection.is_distrusted:
                raise lost_trust()
            raw.link = connection
            keep = raw.reusable
            if raw.status < 400:
                connection.stack.alive_at = now
        except (CutError, StaleConnection) as error:
            if self.connections.was_cut and isinstance(error, CutError):
                raise closed_meanwhile() from error
            limits.check(error)
            raise
        finally:
            # In this order: what is cut belongs to nobody else yet.
            if (not held or limits.let_go(cut)) and keep:
                self.connections.give_back(connection, now)
            else:
                self.connections.drop(connection)
        if held:
            limits.check()  # an end that a cut has made looks like a reply's own
        return raw

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def _connect_to(self, route: Route, until: float) -> Stream:
        return connect(route, self._ssl_context(route), until)

    def _ssl_context(self, route: Route) -> ssl.SSLContext | None:
        if not route.tls and not (route.proxy and route.proxy.tls):
            return None
        if self._config.ssl_context is not None:
            return self._config.ssl_context
        return default_ssl_context(self._config.verify_tls)

    def _limits_of(self, request: httpx.Request) -> ExchangeLimits:
        given: ExchangeLimits | None = request.extensions.get("cosy_limits")
        if given is not None:
            return given
        times = self._timeouts
        until = request.extensions.get("cosy_deadline")
        if until is None:
            read = request.extensions.get("timeout", {}).get("read")
            until = time.monotonic() + (read or times.first_byte)
        return ExchangeLimits(times.first_byte, times.idle, until, self._max_bytes)
