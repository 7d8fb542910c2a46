"""Carry conversations over WebSockets that are kept for the next one."""

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
from .connect import default_ssl_context, dial
from .connection import Stream
from .exchange_limits import Budget, StaleConnection
from .pool import ConnectionPool
from .route import Route, find_route
from .websocket_task import Socket, WebSocketTask

__all__ = ["PendingTexts", "Talk", "WebSocketTransport"]

# Lines that are kept. A program that makes more (headers of its own for each request, say) must not
# grow for ever.
_MOST_LINES = 256


@dataclass(frozen=True, slots=True)
class PendingTexts(Route):
    """The way to one service for one set of handshake headers: only equal ones share sockets."""

    schemes: ClassVar[tuple[str, str]] = ("ws", "wss")

    # The key may be in either.
    url: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class Talk:
    """A task's audio as it comes: an Incoming."""

    status = 200

    def __init__(
        self, carrier: WebSocketTransport, dialogue: WebSocketTask, connect: float
    ) -> None:
        self.headers: Mapping[str, str] = {}
        self.connect = connect
        self.dialogue = dialogue
        self._carrier = carrier
        self._is_closed = False

    def read(self) -> bytes:
        """Wait for audio and return it, b"" at the task's end. Raises TransportError and kin."""
        with self._carrier.telling(self.dialogue.budget):
            return self.dialogue.read()

    def close(self) -> None:
        """Keep the socket if the task came to its end; else cancel it, without waiting."""
        if not self._is_closed:
            self._is_closed = True
            self._carrier.part(self.dialogue)


class WebSocketTransport:
    """Takes an idle socket for each task, or connects; any number of threads may share it."""

    def __init__(self, config: ClientConfig) -> None:
        self._pool = config.pool
        self._connect = config.timeouts.connect
        self._lines: BoundedCache[object, PendingTexts] = BoundedCache(_MOST_LINES)
        self.sockets = ConnectionPool(
            self._dial,
            max_connections=config.pool.max_connections,
            idle_expiry=config.pool.idle_expiry,
            max_age=config.pool.max_age,
            make=Socket,
        )

    def post(self, parcel: WebSocketExchange, budget: Budget) -> Reply:
        """Hold a conversation to its end and return its audio.

        Raises TransportError and its kin, BadAudioError, ConfigError for a proxy that cannot
        carry it, ClosedError, and what the conversation says.
        """
        talk = self.open(parcel, budget)
        pieces: list[bytes] = []
        try:
            while piece := talk.read():
                pieces.append(piece)
        except CutError as error:
            error.partial = b"".join(pieces)
            raise
        finally:
            talk.close()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Reply(200, {}, body, talk.connect, talk.dialogue.first_byte, len(body))

    def open(self, parcel: WebSocketExchange, budget: Budget) -> Talk:
        """Begin a conversation and return it when the service has answered; see `post`.

        A reused socket that proves dead is replaced, once: before anything is said, or, as the
        budget allows it, at once afterwards: the service closed it while idle, so it cannot have
        taken the task up.
        """
        line = self._line(parcel)
        opening = parcel.open()
        socket = self.sockets.take(line)
        if isinstance(socket, Socket):
            try:
                dialogue = WebSocketTask(socket, parcel, budget, reused=True)
                return self._begun(dialogue, opening, 0.0)
            except StaleConnection as error:
                stale = error
            budget.ask_again(stale)
        started = time.monotonic()
        socket = self._fresh(line, parcel, min(budget.until, started + self._connect))
        connect = time.monotonic() - started
        dialogue = WebSocketTask(socket, parcel, budget, reused=False)
        return self._begun(dialogue, opening, connect)

    def part(self, dialogue: WebSocketTask) -> None:
        """Keep the socket for another task, or close it."""
        if not dialogue.budget.let_go(dialogue.socket.cut):
            self.sockets.drop(dialogue.socket)
            return
        if dialogue.reusable:
            dialogue.socket.stack.alive_at = time.monotonic()
        if dialogue.reusable or dialogue.leave():
            self.sockets.give_back(dialogue.socket)
        else:
            self.sockets.drop(dialogue.socket)

    @contextlib.contextmanager
    def telling(self, budget: Budget | None = None) -> Iterator[None]:
        """Tell a cut of our own from one on the way. Raises ClosedError in its place."""
        try:
            yield
        except (ConnectError, CutError, StaleConnection) as error:
            if self.sockets.was_cut and not isinstance(error, StaleConnection):
                text = "the client was closed while it waited for the reply"
                raise ClosedError(text, sent=True) from error
            if budget is not None:
                budget.check(error)
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
        self, dialogue: WebSocketTask, opening: Sequence[str | bytes], connect: float
    ) -> Talk:
        budget, cut = dialogue.budget, dialogue.socket.cut
        try:
            budget.hold(cut)
            with self.telling(budget):
                dialogue.begin(opening)
        except BaseException:
            budget.let_go(cut)
            self.sockets.drop(dialogue.socket)
            raise
        return Talk(self, dialogue, connect)

    def _fresh(self, line: PendingTexts, parcel: WebSocketExchange, until: float) -> Socket:
        socket = self.sockets.open(line, until)
        assert isinstance(socket, Socket)
        try:
            with self.telling():
                socket.greet(parcel, until)
        except BaseException:
            self.sockets.drop(socket)
            raise
        return socket

    def _line(self, parcel: WebSocketExchange) -> PendingTexts:
        key = (parcel.url, parcel.address, parcel.headers)
        found = self._lines.get(key)
        if found is None:
            route = find_route(parcel.url, trust_env=self._pool.trust_env)
            if route.proxy is not None and not route.tls:
                raise ConfigError(
                    "proxy: ws:// cannot go through the proxy of the environment; use wss://, "
                    "name the host in NO_PROXY, or give pool=PoolConfig(trust_env=False)"
                )
            line = PendingTexts(
                route.host,
                route.port,
                route.tls,
                route.proxy,
                parcel.address,
                parcel.url,
                parcel.headers,
            )
            found = self._lines.keep(key, line)
        return found

    def _dial(self, route: Route, until: float) -> Stream:
        return dial(route, self._ssl_context(route), until)

    def _ssl_context(self, route: Route) -> ssl.SSLContext | None:
        if not route.tls or self._pool.ssl_context is not None:
            return self._pool.ssl_context if route.tls else None
        return default_ssl_context(self._pool.verify_tls)
