"""Open sockets before one instant: name look-up, TCP, tunnel, TLS."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import urllib3
from urllib3.connection import HTTPConnection

from ..atomic import Flag
from ..errors import ConnectError, TransportError
from ..forks import renew_after_fork
from ..threads import leave
from .connection import LONGEST, Connection, Stream
from .exchange import exchange
from .exchange_limits import ExchangeLimits
from .plain_ports import is_plain, plain_port
from .request_encoding import USER_AGENT
from .resolver import FailedAddresses, has_way, look_up_until
from .route import Proxy, Route
from .scarcity import raise_scarcity

__all__ = ["connect", "default_ssl_context"]

_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
# Seconds: a timeout of 0 would mean something else.
_SHORTEST = 0.001

# Shared by all clients of the process: a server's address is silent for all of them.
_FAILED = FailedAddresses()

_CHECK = (
    "check the host name and the server's certificate; for a CA of your own, give "
    "PoolConfig(ssl_context=...)"
)


# Guards: _contexts, by whether they verify, and _makers, set once whoever makes one is done.
_lock = threading.Lock()
_contexts: dict[bool, ssl.SSLContext] = {}
_makers: dict[bool, Flag] = {}


def default_ssl_context(verify: bool) -> ssl.SSLContext:
    """Return the process's one TLS context.

    Making one reads files and costs some 50 ms: of hundreds of first connections one does it, and
    the others wait for that.
    """
    while (context := _contexts.get(verify)) is None:
        mine = Flag()
        with _lock:
            maker = _makers.setdefault(verify, mine)
        if maker is not mine:
            leave()
            maker.wait()
            continue
        try:
            context = _contexts.get(verify) or _make_context(verify)
            with _lock:
                _contexts[verify] = context
        finally:
            with _lock:
                _makers.pop(verify, None)
            mine.set()
    return context


def _make_context(verify: bool) -> ssl.SSLContext:
    context = httpx.create_ssl_context(verify=verify)
    context.set_alpn_protocols(["http/1.1"])
    # A certificate must name its hosts in the extension for them (RFC 9110 4.3.4).
    context.hostname_checks_common_name = False
    return context


def _renew() -> None:
    # In a forked child, whose copy of the lock nobody may ever release.
    global _lock
    _lock = threading.Lock()
    _makers.clear()


renew_after_fork(_renew)


def connect(route: Route, context: ssl.SSLContext | None, until: float) -> Stream:
    """Connect to the route's server, trying each of its addresses, until the instant `until`.

    Raises ConnectError, whose message says what to check, and ResourceError.
    """
    first = route.proxy or route
    until = min(until, time.monotonic() + LONGEST)
    found = [route.address] if route.address else look_up_until(first.host, first.port, until)
    # Those that failed lately come last; the list may be another thread's as well.
    found = sorted(found, key=lambda address: _FAILED.has(address, first.port))
    connect_to = _connect if route.tls or route.proxy is not None else _connect_plain
    failure: Exception = TimeoutError("no time left")
    for number, address in enumerate(found):
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            # A silent address leaves time for the ones after it.
            share = until - left + left / (len(found) - number)
            sock = connect_to(address, first.port, share)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRNOTAVAIL or has_way(address, first.port):
                raise_scarcity(error)
            _FAILED.add(address, first.port)
            continue
        _FAILED.discard(address, first.port)
        try:
            return _secure(sock, route, context, until)
        except ConnectError as error:
            failure = error
        except (OSError, ValueError) as error:
            failure = _explain_tls(route, error)
            failure.__cause__ = error
    if isinstance(failure, ConnectError):
        raise failure
    raise _explain(route, failure) from failure


def _connect(address: str, port: int, until: float) -> socket.socket:
    """Make a TCP connection, by urllib3."""
    leave()
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
    connection.sock.setblocking(False)
    return connection.sock


def _connect_plain(address: str, port: int, until: float) -> socket.socket:
    """Make a TCP connection that nothing is put on.

    urllib3 would keep the thread in `connect` until that is over. This thread keeps its turn where
    it takes no time, as within a machine: of hundreds that connect at once each would wait for the
    GIL after each step.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where: tuple[Any, ...] = (address, port)
    if "%" in address:  # the scope would be lost
        numbers = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=numbers)[0][4]
    sock = socket.socket(family, socket.SOCK_STREAM)
    with _closing_on_error(sock):
        sock.setblocking(False)
        for option in _OPTIONS:
            sock.setsockopt(*option)
        try:
            sock.connect(where)
        except BlockingIOError:
            _await_connected(sock, until)
    return sock


def _await_connected(sock: socket.socket, until: float) -> None:
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLOUT)
    if not poller.poll(0):
        leave()
        if not poller.poll(max(until - time.monotonic(), _SHORTEST) * 1000):
            raise TimeoutError("timed out")
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def _secure(
    sock: socket.socket, route: Route, context: ssl.SSLContext | None, until: float
) -> Stream:
    """Put on the connected socket what the route asks for: TLS to the proxy, tunnel, TLS."""
    proxy = route.proxy
    if proxy is not None and proxy.tls:
        sock = _encrypt(sock, context, proxy.host, until)
        sock.setblocking(False)
    if route.tls:
        if proxy is not None:
            with _closing_on_error(sock):
                _tunnel(sock, route, proxy, until)
        sock = _encrypt(sock, context, route.host, until)
        sock.setblocking(False)
    return sock


def _encrypt(
    sock: socket.socket, context: ssl.SSLContext | None, host: str, until: float
) -> ssl.SSLSocket:
    assert context is not None
    # Python takes a socket's timeout for the handshake as a whole.
    sock.settimeout(max(until - time.monotonic(), _SHORTEST))
    with _closing_on_error(sock):
        # A connection that ends without TLS's goodbye may have been cut by anybody.
        stream = context.wrap_socket(
            sock, server_hostname=host.rstrip("."), suppress_ragged_eofs=False
        )
    if stream.selected_alpn_protocol() not in (None, "http/1.1"):
        stream.close()
        raise ConnectError(
            "the server was offered HTTP/2 by your ssl_context, which this client does not speak: "
            'call its set_alpn_protocols(["http/1.1"]), or not at all',
            phase="tls",
            retryable=False,
        )
    return stream


def _tunnel(sock: socket.socket, route: Route, proxy: Proxy, until: float) -> None:
    host = f"[{route.host}]" if ":" in route.host else route.host
    lines = [f"CONNECT {host}:{route.port} HTTP/1.1", f"Host: {host}:{route.port}"]
    lines.append(f"User-Agent: {USER_AGENT}")
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    request = "\r\n".join([*lines, "", ""]).encode("ascii")
    seconds = until - time.monotonic()
    where = f"cannot connect to {route.label}"
    try:
        reply = exchange(
            Connection(route, sock),
            request,
            ExchangeLimits(seconds, seconds, until, 0),
            reused=False,
        )
    except TransportError as error:
        raise ConnectError(
            f"{where}: no tunnel: {error.message}", phase="proxy", timed_out=error.timed_out
        ) from error
    if not 200 <= reply.status < 300:
        advice = "check its user and password" if reply.status == 407 else "is it allowed there?"
        raise ConnectError(
            f"{where}: the proxy refused the tunnel with HTTP {reply.status}; {advice}",
            phase="proxy",
            retryable=reply.status >= 500,
        )


@contextlib.contextmanager
def _closing_on_error(stream: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _explain(route: Route, failure: Exception) -> ConnectError:
    """Return the error of an address to which no connection could be made."""
    where = f"cannot connect to {route.label}"
    if isinstance(failure, TimeoutError):
        text = f"{where} in time; is the service reachable?"
        return ConnectError(text, phase="connect", timed_out=True)
    text = getattr(failure, "strerror", None) or str(failure)
    return ConnectError(f"{where}: {text}; is the service running there?", phase="connect")


def _explain_tls(route: Route, failure: Exception) -> ConnectError:
    """Return the error of a connection that was made, and on which TLS could not be."""
    where = f"cannot connect to {route.label}"
    who, secure = ("the proxy", "https") if route.forwards else ("the server", route.schemes[1])
    ask = f"does {who} speak TLS on this port? If not, give {secure[:-1]}://"
    if isinstance(failure, TimeoutError):
        text = f"{where}: the TLS handshake was not answered in time; {ask}"
        return ConnectError(text, phase="tls", timed_out=True)
    if isinstance(failure, ssl.SSLCertVerificationError):
        text = f"{where}: its certificate was refused ({failure.verify_message})"
        return ConnectError(f"{text}; {_CHECK}", phase="tls", retryable=False)
    if isinstance(failure, ssl.SSLError):
        if is_plain(failure):
            return plain_port(where, secure, who)
        text = f"{where}: TLS failed ({failure.reason or failure}); {ask}"
        return ConnectError(text, phase="tls")
    if isinstance(failure, ValueError):
        return ConnectError(f"{where}: {failure}", phase="tls", retryable=False)
    text = getattr(failure, "strerror", None) or str(failure)
    return ConnectError(f"{where}: the TLS handshake broke: {text}", phase="tls")
