"""Open sockets: name look-up, TCP, proxy tunnel and TLS, all before one instant."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import TypeVar

import httpx

from ..errors import ConnectError, TransportError
from .connection import Connection, Stream
from .exchange import Budget, exchange
from .nested import NestedTls
from .route import Proxy, Route

__all__ = ["default_ssl_context", "dial"]

_T = TypeVar("_T", ssl.SSLSocket, NestedTls)

_CHECK = (
    "check the host name and the server's certificate; for a CA of your own, give "
    "PoolConfig(ssl_context=...)"
)


@functools.cache
def default_ssl_context(verify: bool) -> ssl.SSLContext:
    """Return the process's one TLS context; making one costs some 50 ms."""
    context = httpx.create_ssl_context(verify=verify)
    context.set_alpn_protocols(["http/1.1"])
    return context


def dial(route: Route, context: ssl.SSLContext | None, until: float) -> Stream:
    """Connect to the route's server, trying each of its addresses, until the instant `until`.

    Only the system's look-up of a name cannot be bounded from here. Raises ConnectError; its
    message says what to check.
    """
    first = route.proxy or route
    found = _look_up(first.host, first.port)
    failure: Exception = TimeoutError("no time left")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        left = until - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            # A silent address leaves time for the ones after it.
            _connect(sock, address, until - left + left / (len(found) - number))
            return _secure(sock, route, context, until)
        except (OSError, ValueError, ConnectError) as error:
            failure = error
    raise _explain(route, failure) from failure


def _look_up(host: str, port: int) -> list[tuple[int, int, int, str, object]]:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"the name {host!r} has no address ({error}); check the host", phase="dns"
        ) from error


def _connect(sock: socket.socket, address: object, until: float) -> None:
    with _closing_on_error(sock):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            sock.connect(address)  # type: ignore[arg-type]
        except BlockingIOError:
            _wait(sock, select.POLLOUT, until)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code)) from None


def _secure(
    sock: socket.socket, route: Route, context: ssl.SSLContext | None, until: float
) -> Stream:
    """Put on the connected socket what the route asks for: TLS to the proxy, tunnel, TLS."""
    stream: socket.socket | ssl.SSLSocket = sock
    proxy = route.proxy
    if proxy is not None and proxy.tls:
        assert context is not None
        stream = _shake_hands(_wrap(stream, context, proxy.host), until)
    if not route.tls:
        return stream
    assert context is not None
    if proxy is not None:
        with _closing_on_error(stream):
            _tunnel(stream, route, proxy, until)
    if isinstance(stream, ssl.SSLSocket):
        with _closing_on_error(stream):
            nested = NestedTls(stream, context, route.host.rstrip("."))
        return _shake_hands(nested, until)
    return _shake_hands(_wrap(stream, context, route.host), until)


def _wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    with _closing_on_error(sock):
        return context.wrap_socket(
            sock,
            server_hostname=host.rstrip("."),
            do_handshake_on_connect=False,
            # A connection that ends without TLS's goodbye may have been cut by anybody.
            suppress_ragged_eofs=False,
        )


def _shake_hands(stream: _T, until: float) -> _T:
    with _closing_on_error(stream):
        while True:
            try:
                stream.do_handshake()
                break
            except ssl.SSLWantReadError:
                _wait(stream, select.POLLIN, until)
            except ssl.SSLWantWriteError:
                _wait(stream, select.POLLOUT, until)
        chosen = stream.selected_alpn_protocol()
        if chosen not in (None, "http/1.1"):
            raise ValueError(
                f"its TLS context agreed on {chosen}; let it offer http/1.1 alone "
                "(set_alpn_protocols)"
            )
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
def _closing_on_error(stream: Stream) -> Iterator[None]:
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
