"""Tasks over WebSockets that are kept for the next one."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..bounded import BoundedCache
from ..config import ClientConfig
from ..errors import ClosedError, ConfigError, ConnectError, CutError
from ..messages import Reply, WebSocketExchange
from .connect import connect, default_ssl_context
from .connection import Stream
from .exchange_limits import ExchangeLimits, StaleConnection
from .pool import ConnectionPool
from .route import Route, find_route
from .websocket_task import Socket, WebSocketTask

__all__ = ["SocketRoute", "TaskReply", "WebSocketTransport"]

# Routes that are kept. A program that makes more (headers of its own for each request, say) must
# not grow for ever.
_MOST_ROUTES = 256


@dataclass(frozen=True, slots=True)
class SocketRoute(Route):
    """The way to one service for one set of handshake headers: only equal ones share sockets."""

    schemes: ClassVar[tuple[str, str]] = ("ws", "wss")

    # The key may be in either.
    url: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class TaskReply:
    """A task's audio as it comes: an Incoming."""

    status = 200

    def __init__(self, transport: WebSocketTransport, task: WebSocketTask, connect: float) -> None:
        self.headers: Mapping[str, str] = {}
        self.connect = connect
        self.task = task
        self._transport = transport
        self._is_closed = False

    def read(self) -> bytes:
        """Wait for audio and return it, b"" at the task's end. Raises TransportError."""
        with self._transport.telling(self.task.limits):
            return self.task.read()

    def close(self) -> None:
        """Keep the socket if the task came to its end; else cancel it, without waiting."""
        if not self._is_closed:
            self._is_closed = True
            self._transport.part(self.task)


class WebSocketTransport:
    """Takes an idle socket for each task, or connects; any number of threads may share it."""

    def __init__(self, config: ClientConfig) -> None:
        self._pool = config.pool
        self._connect = config.timeouts.connect
        self._routes: BoundedCache[object, SocketRoute] = BoundedCache(_MOST_ROUTES)
        self.sockets = ConnectionPool(
            self._connect_to,
            max_connections=config.pool.max_connections,
            idle_expiry=config.pool.idle_expiry,
            max_age=config.pool.max_age,
            make=Socket,
        )

    def post(self, request: WebSocketExchange, limits: ExchangeLimits) -> Reply:
        """Hold a conversation to its end and return its audio.

        Raises TransportError and its subclasses, BadAudioError, ConfigError for a proxy that cannot
        carry it, ClosedError, and what the conversation says.
        """
        reply = self.open(request, limits)
        pieces: list[bytes] = []
        try:
            while True:
                piece = reply.read()
                if not piece:
                    break
                pieces.append(piece)
        except CutError as error:
            error.partial = b"".join(pieces)
            raise
        finally:
            reply.close()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Reply(200, {}, body, reply.connect, reply.task.first_byte, len(body))

    def open(self, request: WebSocketExchange, limits: ExchangeLimits) -> TaskReply:
        """Begin a conversation and return it when the service has answered; see `post`.

        A reused socket that proves dead is replaced, once: before anything is said, or, as the
        limits allows it, at once afterwards: the service closed it while idle, so it cannot have
        taken the task up.
        """
        socket_route = self._route(request)
        opening = request.open()
        socket = self.sockets.take(socket_route)
        if isinstance(socket, Socket):
            try:
                task = WebSocketTask(socket, request, limits, reused=True)
                return self._begun(task, opening, 0.0)
            except StaleConnection as error:
                stale = error
            limits.ask_again(stale)
        started = time.monotonic()
        socket = self._fresh(socket_route, request, min(limits.until, started + self._connect))
        connect = time.monotonic() - started
        task = WebSocketTask(socket, request, limits, reused=False)
        return self._begun(task, opening, connect)

    def part(self, task: WebSocketTask) -> None:
        """Keep the socket for another task, or close it."""
        if not task.limits.let_go(task.socket.cut):
            self.sockets.drop(task.socket)
            return
        if task.reusable:
            task.socket.stack.alive_at = time.monotonic()
        if task.reusable or task.leave():
            self.sockets.give_back(task.socket)
        else:
            self.sockets.drop(task.socket)

    @contextlib.contextmanager
    def telling(self, limits: ExchangeLimits | None = None) -> Iterator[None]:
        """Tell a cut of our own from one on the way. Raises ClosedError in its place."""
        try:
            yield
        except (ConnectError, CutError, StaleConnection) as error:
            if self.sockets.was_cut and not isinstance(error, StaleConnection):
                text = "the client was closed while it waited for the reply"
                raise ClosedError(text, sent=True) from error
            if limits is not None:
                limits.check(error)
            raise

    def connections(self) -> tuple[int, int]:
        """Return how many sockets are open, and how many of them idle."""
        return self.sockets.count()

    def cut(self) -> None:
        """Wake every thread that waits; nothing can be sent afterwards."""
        self.sockets.cut()

    def close(self) -> None:
        """Close the sockets."""
        self.sockets.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets without a word on them."""
        self.sockets.abandon()

    def _begun(
        self, task: WebSocketTask, opening: Sequence[str | bytes], connect: float
    ) -> TaskReply:
        limits, cut = task.limits, task.socket.cut
        try:
            limits.hold(cut)
            with self.telling(limits):
                task.begin(opening)
        except BaseException:
            limits.let_go(cut)
            self.sockets.drop(task.socket)
            raise
        return TaskReply(self, task, connect)

    def _fresh(self, socket_route: SocketRoute, request: WebSocketExchange, until: float) -> Socket:
        socket = self.sockets.open(socket_route, until)
        assert isinstance(socket, Socket)
        try:
            with self.telling():
                socket.shake_hands(request, until)
        except BaseException:
            self.sockets.drop(socket)
            raise
        return socket

    def _route(self, request: WebSocketExchange) -> SocketRoute:
        key = (request.url, request.address, request.headers)
        found = self._routes.get(key)
        if found is None:
            route = find_route(request.url, trust_env=self._pool.trust_env)
            if route.proxy is not None and not route.tls:
                raise ConfigError(
                    "proxy: ws:// cannot go through the proxy of the environment; use wss://, "
                    "name the host in NO_PROXY, or give pool=PoolConfig(trust_env=False)"
                )
            socket_route = SocketRoute(
                route.host,
                route.port,
                route.tls,
                route.proxy,
                request.address,
                request.url,
                request.headers,
            )
            found = self._routes.keep(key, socket_route)
        return found

    def _connect_to(self, route: Route, until: float) -> Stream:
        return connect(route, self._ssl_context(route), until)

    def _ssl_context(self, route: Route) -> ssl.SSLContext | None:
        if not route.tls or self._pool.ssl_context is not None:
            return self._pool.ssl_context if route.tls else None
        return default_ssl_context(self._pool.verify_tls)
