"""Open sockets on urllib3's connections: name look-up, TCP, tunnel, TLS, before one instant."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Literal

import httpx
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..errors import ConnectError, TransportError
from .connection import LONGEST, Connection, Stream
from .exchange import Budget, exchange
from .nested import NestedTls
from .resolver import look_up_until
from .route import Proxy, Route

__all__ = ["default_ssl_context", "dial"]

_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
# Seconds: a timeout of 0 would mean something else.
_SHORTEST = 0.001

_CHECK = (
    "check the host name and the server's certificate; for a CA of your own, give "
    "PoolConfig(ssl_context=...)"
)


@functools.cache
def default_ssl_context(verify: bool) -> ssl.SSLContext:
    """Return the process's one TLS context; making one costs some 50 ms."""
    return httpx.create_ssl_context(verify=verify)


def dial(route: Route, context: ssl.SSLContext | None, until: float) -> Stream:
    """Connect to the route's server, trying each of its addresses, until the instant `until`.

    Raises ConnectError; its message says what to check.
    """
    first = route.proxy or route
    until = min(until, time.monotonic() + LONGEST)
    found = [route.address] if route.address else look_up_until(first.host, first.port, until)
    failure: Exception = TimeoutError("no time left")
    for number, address in enumerate(found):
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            # A silent address leaves time for the ones after it.
            share = until - left + left / (len(found) - number)
            return _secure(_connect(address, first.port, share), route, context, until)
        except (OSError, ValueError, ConnectError) as error:
            failure = error
    raise _explain(route, failure) from failure


def _connect(address: str, port: int, until: float) -> socket.socket:
    """Make a TCP connection, by urllib3."""
    seconds = max(until - time.monotonic(), _SHORTEST)
    connection = HTTPConnection(address, port, timeout=seconds, socket_options=_OPTIONS)
    try:
        connection.connect()
    except urllib3.exceptions.HTTPError as error:
        # Its own error only says that it failed; the system's, beneath, says why.
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise OSError(str(error)) from error
    assert connection.sock is not None
    return connection.sock


class _Upgrade(HTTPSConnection):
    """urllib3's TLS, with its checks of certificate and host, over a socket that is there."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        # None leaves the check of the host to the context; False respects one that does without.
        asserted: Literal[False] | None = None if context.check_hostname else False
        # Without a port, the end of an IPv6 address would be taken for one.
        port = self.default_port
        super().__init__(host, port, ssl_context=context, assert_hostname=asserted)
        self._given = sock

    def _new_conn(self) -> socket.socket:
        return self._given


def _secure(
    sock: socket.socket, route: Route, context: ssl.SSLContext | None, until: float
) -> Stream:
    """Put on the connected socket what the route asks for: TLS to the proxy, tunnel, TLS."""
    proxy = route.proxy
    stream: Stream = sock
    if proxy is not None and proxy.tls:
        stream = sock = _encrypt(sock, context, proxy.host, until)
    sock.setblocking(False)
    with _closing_on_error(sock):
        if route.tls and proxy is not None:
            _tunnel(sock, route, proxy, until)
        if route.tls and isinstance(sock, ssl.SSLSocket):
            assert context is not None
            return _nest(NestedTls(sock, context, route.host.rstrip(".")), until)
    if route.tls:
        stream = sock = _encrypt(sock, context, route.host, until)
        sock.setblocking(False)
    return stream


def _encrypt(
    sock: socket.socket, context: ssl.SSLContext | None, host: str, until: float
) -> ssl.SSLSocket:
    assert context is not None
    # Python takes a socket's timeout for the handshake as a whole.
    sock.settimeout(max(until - time.monotonic(), _SHORTEST))
    upgrade = _Upgrade(sock, context, host)
    with _closing_on_error(upgrade):
        upgrade.connect()
        stream = upgrade.sock
        assert isinstance(stream, ssl.SSLSocket)
    # A connection that ends without TLS's goodbye may have been cut by anybody.
    stream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    return stream


def _nest(stream: NestedTls, until: float) -> NestedTls:
    while True:
        try:
            stream.do_handshake()
            break
        except ssl.SSLWantReadError:
            _wait(stream, select.POLLIN, until)
        except ssl.SSLWantWriteError:
            _wait(stream, select.POLLOUT, until)
    return stream


def _tunnel(sock: socket.socket, route: Route, proxy: Proxy, until: float) -> None:
    host = f"[{route.host}]" if ":" in route.host else route.host
    lines = [f"CONNECT {host}:{route.port} HTTP/1.1", f"Host: {host}:{route.port}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    request = "\r\n".join([*lines, "", ""]).encode("ascii")
    seconds = until - time.monotonic()
    where = f"cannot connect to {route.label}"
    try:
        reply = exchange(
            Connection(route, sock), request, Budget(seconds, seconds, until, 0), reused=False
        )
    except TransportError as error:
        raise ConnectError(f"{where}: no tunnel: {error.message}", phase="proxy") from error
    if not 200 <= reply.status < 300:
        advice = "check its user and password" if reply.status == 407 else "is it allowed there?"
        raise ConnectError(
            f"{where}: the proxy refused the tunnel with HTTP {reply.status}; {advice}",
            phase="proxy",
            retryable=reply.status >= 500,
        )


def _wait(stream: Stream, event: int, until: float) -> None:
    left = until - time.monotonic()
    poller = select.poll()
    poller.register(stream.fileno(), event)
    if left <= 0 or not poller.poll(left * 1000):
        raise TimeoutError("no time left")


@contextlib.contextmanager
def _closing_on_error(stream: socket.socket | HTTPSConnection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _explain(route: Route, failure: Exception) -> ConnectError:
    if isinstance(failure, ConnectError):
        return failure
    where = f"cannot connect to {route.label}"
    if isinstance(failure, TimeoutError):
        return ConnectError(f"{where} in time; is the service reachable?", phase="connect")
    if isinstance(failure, ssl.SSLCertVerificationError):
        text = f"{where}: its certificate was refused ({failure.verify_message})"
        return ConnectError(f"{text}; {_CHECK}", phase="tls", retryable=False)
    if isinstance(failure, ssl.SSLError):
        reason = failure.reason or str(failure)
        text = f"{where}: TLS failed ({reason}); does the server speak TLS on this port?"
        return ConnectError(text, phase="tls")
    if isinstance(failure, ValueError):
        return ConnectError(f"{where}: {failure}", phase="tls", retryable=False)
    text = getattr(failure, "strerror", None) or str(failure)
    return ConnectError(f"{where}: {text}; is the service running there?", phase="connect")
