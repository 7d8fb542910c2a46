"""Open sockets: name look-up, TCP, proxy tunnel and TLS, all on urllib3's connections."""

from __future__ import annotations

import functools
import socket
import ssl
import time
from http.client import HTTPException

import httpx
import urllib3
from urllib3._base_connection import ProxyConfig
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url

from ..errors import ConnectError
from .route import Proxy, Route

__all__ = ["default_ssl_context", "dial"]

_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


@functools.cache
def default_ssl_context(verify: bool) -> ssl.SSLContext:
    """Return the process's one TLS context; making one costs some 50 ms."""
    context = httpx.create_ssl_context(verify=verify)
    context.set_alpn_protocols(["http/1.1"])
    return context


def dial(route: Route, context: ssl.SSLContext | None, until: float) -> socket.socket:
    """Connect to the route's server, trying each of its addresses, until the instant `until`.

    Raises ConnectError; its message says what to check.
    """
    failure: Exception = TimeoutError("no time left")
    for address in _addresses(route):
        left = until - time.monotonic()
        if left <= 0:
            break
        connection = _prepare(route, address, context, left)
        try:
            connection.connect()
        except (OSError, urllib3.exceptions.HTTPError, HTTPException) as error:
            connection.close()
            failure = error
        else:
            assert connection.sock is not None
            return connection.sock
    raise _explain(route, failure) from failure


def _addresses(route: Route) -> list[str]:
    first = route.proxy or route
    try:
        found = socket.getaddrinfo(first.host, first.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"the name {first.host!r} has no address ({error}); check the host", phase="dns"
        ) from error
    return [str(item[4][0]) for item in found]


def _prepare(
    route: Route, address: str, context: ssl.SSLContext | None, seconds: float
) -> HTTPConnection:
    proxy = route.proxy
    if proxy is not None and route.tls:
        return _tunnel(route, proxy, context, seconds)
    first = proxy or route
    if not first.tls:
        return HTTPConnection(address, first.port, timeout=seconds, socket_options=_OPTIONS)
    return HTTPSConnection(
        address,
        first.port,
        timeout=seconds,
        ssl_context=context,
        server_hostname=first.host,
        socket_options=_OPTIONS,
    )


def _tunnel(
    route: Route, proxy: Proxy, context: ssl.SSLContext | None, seconds: float
) -> HTTPSConnection:
    scheme = "https" if proxy.tls else "http"
    connection = HTTPSConnection(
        proxy.host,
        proxy.port,
        timeout=seconds,
        ssl_context=context,
        socket_options=_OPTIONS,
        proxy=Url(scheme, host=proxy.host, port=proxy.port),
        proxy_config=ProxyConfig(context, False, None, None),
    )
    headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    connection.set_tunnel(route.host, route.port, headers, scheme=scheme)
    return connection


def _explain(route: Route, failure: Exception) -> ConnectError:
    reason: BaseException = failure
    while reason.__cause__ is not None and not isinstance(reason, ssl.SSLError):
        reason = reason.__cause__
    where = f"cannot connect to {route.label}"
    # urllib3 makes every failed connection a kind of time-out; the cause tells them apart.
    if isinstance(reason, (TimeoutError, urllib3.exceptions.ConnectTimeoutError)):
        return ConnectError(f"{where} in time; is the service reachable?", phase="connect")
    if isinstance(reason, ssl.SSLCertVerificationError):
        text = f"{where}: its certificate was refused ({reason.verify_message})"
        return ConnectError(
            f"{text}; check the host name, or give the right CA as PoolConfig(ssl_context=...)",
            phase="tls",
            retryable=False,
        )
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return ConnectError(f"{where}: {text}; is the service running there?", phase="connect")
