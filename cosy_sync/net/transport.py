"""The httpx transport over our connections, and the short way past httpx.Client."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable

import httpx

from ..config import PoolConfig, TimeoutConfig
from .dial import default_ssl_context, dial
from .exchange import Budget, RawReply, StaleConnection, exchange
from .pool import ConnectionPool
from .route import Route, find_route

__all__ = ["PoolTransport", "Sent"]

# One hop only, so never passed on: they belong to this connection, and we write our own.
_OURS = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding"))


class Sent:
    """A reply with what its connection cost."""

    __slots__ = ("connect", "raw")

    def __init__(self, raw: RawReply, connect: float) -> None:
        self.raw = raw
        self.connect = connect


class PoolTransport(httpx.BaseTransport):
    """Sends requests over pooled connections; every wait ends at a deadline.

    As a transport of any `httpx.Client` it reads each reply whole. The deadline of a request is
    its extension `cosy_deadline` (an instant of `time.monotonic()`).
    """

    def __init__(self, pool: PoolConfig, timeouts: TimeoutConfig, max_bytes: int) -> None:
        self._config = pool
        self._timeouts = timeouts
        self._max_bytes = max_bytes
        self._routes: dict[str, Route] = {}
        self.connections = ConnectionPool(
            self._dial, max_connections=pool.max_connections, idle_expiry=pool.idle_expiry
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx. Raises CosyError, in place of httpx's own errors."""
        url = request.url
        route = self.route(f"{url.scheme}://{url.netloc.decode('ascii')}")
        target = url.raw_path
        if route.forwards:
            target = f"{url.scheme}://{url.netloc.decode('ascii')}".encode() + target
        head = head_bytes(request.method.encode("ascii"), target, route, request.headers.raw)
        body = request.read()
        sent = self.send(route, with_body(head, body), self._budget_of(request))
        return httpx.Response(
            sent.raw.status,
            headers=sent.raw.headers,
            stream=httpx.ByteStream(bytes(sent.raw.body)),
            extensions={"cosy_connect": sent.connect, "cosy_first_byte": sent.raw.first_byte},
        )

    def route(self, origin: str) -> Route:
        """Find the way to a server; the answer is kept."""
        found = self._routes.get(origin)
        if found is None:
            found = find_route(origin, trust_env=self._config.trust_env)
            self._routes[origin] = found
        return found

    def send(self, route: Route, request: bytes, budget: Budget) -> Sent:
        """Send prepared bytes and return the reply.

        A reused connection that proves dead before the first byte is replaced, once, by a fresh
        one: the server closed it while idle, so it cannot have taken the request up.
        """
        pool = self.connections
        connection = pool.take(route)
        if connection is not None:
            try:
                raw = exchange(connection.sock, request, budget, reused=True)
            except StaleConnection:
                pool.drop(connection)
            except BaseException:
                pool.drop(connection)
                raise
            else:
                if raw.reusable:
                    pool.give_back(connection)
                else:
                    pool.drop(connection)
                return Sent(raw, 0.0)
        return self._send_fresh(route, request, budget)

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def _send_fresh(self, route: Route, request: bytes, budget: Budget) -> Sent:
        pool = self.connections
        started = time.monotonic()
        connection = pool.open(route, min(budget.until, started + self._timeouts.connect))
        connect = time.monotonic() - started
        keep = False
        try:
            raw = exchange(connection.sock, request, budget, reused=False)
            keep = raw.reusable
        finally:
            if keep:
                pool.give_back(connection)
            else:
                pool.drop(connection)
        return Sent(raw, connect)

    def _dial(self, route: Route, until: float) -> socket.socket:
        return dial(route, self._ssl_context(route), until)

    def _ssl_context(self, route: Route) -> ssl.SSLContext | None:
        if not route.tls and not (route.proxy and route.proxy.tls):
            return None
        return self._config.ssl_context or default_ssl_context(self._config.verify_tls)

    def _budget_of(self, request: httpx.Request) -> Budget:
        until = request.extensions.get("cosy_deadline")
        if until is None:
            read = request.extensions.get("timeout", {}).get("read")
            until = time.monotonic() + (read or self._timeouts.first_byte)
        times = self._timeouts
        return Budget(times.first_byte, times.idle, until, self._max_bytes)


def head_bytes(
    method: bytes, target: bytes, route: Route, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Write a request's head, without Content-Length and the empty line after it."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + route.netloc.encode("ascii")]
    lines += [name + b": " + value for name, value in headers if name.lower() not in _OURS]
    if route.forwards and route.proxy and route.proxy.authorization:
        lines.append(b"Proxy-Authorization: " + route.proxy.authorization.encode("ascii"))
    return b"\r\n".join(lines)


def with_body(head: bytes, body: bytes) -> bytes:
    """Join head and body into what is sent in one piece."""
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
