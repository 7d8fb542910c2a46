"""Send a wire's request through an httpx.Client, ours or the caller's, and read the reply."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx

from ..config import ClientConfig
from ..errors import BadAudioError, ClosedError, ConfigError, ConnectError, CosyError, ReplyTimeout
from ..messages import Incoming, Reply, Request, WireRequest
from .exchange_limits import MAX_REFUSAL, ExchangeLimits, MakeRoom, no_room_needed
from .httpx_errors import is_of_httpx, translate
from .inflate import Body, inflated, too_large
from .matching import check_echo
from .reply_stream import ReplyStream
from .reply_streams import HttpxReplyStream, named_foreign
from .request_encoder import RequestEncoder
from .request_encoding import USER_AGENT, head_start
from .resolver import is_name, look_up_all, look_up_public
from .route import Route
from .task_transport import TaskTransport, create_transport, kind_of, kind_of_url
from .transport import PoolTransport

__all__ = ["Sender"]

# How httpx chooses a transport, by its `_mounts`; None where a mock stands there already.
_choice: Any = httpx.Client._transport_for_url
_CHOICE = _choice if getattr(_choice, "__module__", "") == "httpx._client" else None
# How the caller's client sends what goes to others: without its login.
_FOREIGN: Mapping[str, Any] = MappingProxyType({"auth": None, "follow_redirects": False})


@dataclass(slots=True)
class _Address:
    """What requests to one URL have in common."""

    url: httpx.URL
    route: Route
    encoder: RequestEncoder


class Sender:
    """Moves requests. With our own client the short way is taken; with the caller's, theirs.

    The caller's client brings its own pool, time-outs within a reply and proxies; its hooks, auth
    and transport work as always. Its deadline is checked between two reads, so a server that
    dribbles a reply's head can outlive it.
    """

    def __init__(
        self, config: ClientConfig, client: httpx.Client | None = None, *, owned: bool = True
    ) -> None:
        self._config, self._timeouts = config, config.timeouts
        # Guards: changes of _task_transports (by kind), _was_cut.
        self._lock = threading.Lock()
        self._task_transports: dict[str, TaskTransport] = {}
        self._was_cut = False
        self._transport: PoolTransport | None = None
        if client is None:
            limit = config.limits.max_reply_bytes
            self._transport = PoolTransport(config.pool, config.timeouts, limit)
            client = httpx.Client(
                transport=self._transport, trust_env=False, headers={"User-Agent": USER_AGENT}
            )
        elif client.is_closed:
            raise ConfigError("http_client: this httpx.Client is closed")
        self._client, self._owned = client, owned
        self._addresses: dict[tuple[str, str | None, str], _Address] = {}

    def post(
        self,
        request: WireRequest,
        seconds: float,
        max_bytes: int,
        make_room: MakeRoom = no_room_needed,
    ) -> Reply:
        """Send the request and return the whole reply, decompressed.

        Waits at most `seconds`. Calls `make_room` with the size of the reply's body, 0 if
        the server does not say it, before it reads that. Raises TransportError and its subclasses,
        BadAudioError for a reply larger than `max_bytes`, ClosedError.
        """
        now = time.monotonic()
        if not isinstance(request, Request) or seconds <= 0:
            limits = self._limits(request, seconds, now, max_bytes, make_room)
            return self._task_transport(kind_of(request)).post(request, limits)
        # As in `_limits`, which every request would call.
        times, again, stop = self._timeouts, request.again, request.stop
        first = times.first_byte + request.chars * times.first_byte_per_char
        bounds = first, times.idle, now + seconds, max_bytes, make_room
        limits = ExchangeLimits(*bounds, again, MAX_REFUSAL, stop)
        if request.public:
            self._aim_at_public(request)
            now = time.monotonic()
        transport = self._transport
        if transport is not None:
            key = (request.url, request.address, request.method)
            address = self._addresses.get(key) or self._find_address(transport, request)
            # httpx's own choice of a transport, where anybody has changed that: mocks such as
            # respx put theirs in its place.
            choose = self._client._transport_for_url
            usual = getattr(choose, "__func__", None) is _CHOICE and not self._client._mounts
            if (self._client._transport if usual else choose(address.url)) is transport:
                data = address.encoder.encode(request.headers, request.body)
                raw = transport.send(transport.exchange, address.route, data, limits, now)
                return raw.decompress(limits.max_bytes)
        return self._post_httpx(request, limits)

    def open(self, request: WireRequest, seconds: float, max_bytes: int) -> ReplyStream:
        """Send the request and return its reply as soon as that begins; close it afterwards.

        Waits at most `seconds`. Raises TransportError and its subclasses, ClosedError; while it is
        read, also BadAudioError for a reply larger than `max_bytes`.
        """
        now = time.monotonic()
        limits = self._limits(request, seconds, now, max_bytes)
        return ReplyStream(self._opened(request, limits, now), limits)

    def prepare(self, url: str) -> None:
        """Import now what requests to this URL need: the first one has its turn in the rate limit
        when it is sent, not some time later. Raises ConfigError when its extra is not installed.
        """
        kind = kind_of_url(url)
        if kind is not None:
            self._task_transport(kind)

    def close(self) -> None:
        """Close the connections that are ours."""
        if self._owned:
            self._client.close()
        for transport in self._task_transports.values():
            transport.close()

    def cut(self) -> None:
        """Wake every thread that waits for a reply; nothing can be sent afterwards."""
        if self._transport is not None:
            self._transport.connections.cut()
        with self._lock:
            self._was_cut = True
        for transport in self._task_transports.values():
            transport.cut()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets."""
        if self._transport is not None:
            self._transport.connections.abandon()
        for transport in self._task_transports.values():
            transport.abandon()

    def connections(self) -> tuple[int, int]:
        """Return how many of our connections are open, and how many of them idle."""
        counts = [transport.connections() for transport in list(self._task_transports.values())]
        if self._transport is not None:
            counts.append(self._transport.connections.count())
        return sum(count[0] for count in counts), sum(count[1] for count in counts)

    def _task_transport(self, kind: str) -> TaskTransport:
        transport = self._task_transports.get(kind)
        if transport is None:
            made = create_transport(kind, self._config)  # outside the lock: it imports modules
            with self._lock:
                transport = None if self._was_cut else self._task_transports.setdefault(kind, made)
            if transport is not made:
                made.close()
        if transport is None or self._was_cut:
            raise ClosedError("the client is closed; make a new one")
        return transport

    def _limits(
        self,
        request: WireRequest,
        seconds: float,
        now: float,
        max_bytes: int,
        make_room: MakeRoom = no_room_needed,
    ) -> ExchangeLimits:
        if seconds <= 0:
            raise ReplyTimeout("no time was left to send the request", phase="send", sent=False)
        times = self._timeouts
        again, stop = getattr(request, "again", None), getattr(request, "stop", None)
        bounds = times.first_byte, times.idle, now + seconds, max_bytes, make_room
        return ExchangeLimits(*bounds, again, MAX_REFUSAL, stop)

    # -- names and addresses ------------------------------------------------------------------

    def resolves(self, url: str) -> bool:
        """Return whether its host's addresses are ours to look up.

        They are not for an address or this machine, nor where a proxy or a client that the caller
        brought does it.
        """
        if self._transport is None:
            return False
        route = self._transport.route(httpx.URL(url))
        return route.proxy is None and is_name(route.host)

    def addresses(self, url: str) -> list[str]:
        """Look up all addresses of a URL's host. Raises ConnectError.

        Waits for the system's look-up, which nothing can bound or end.
        """
        assert self._transport is not None
        route = self._transport.route(httpx.URL(url))
        return look_up_all(route.host, route.port)

    def forget(self, url: str, address: str) -> None:
        """Close what is open to an address of a URL's host; it is not used any more.

        A wire may ask at other paths of that host than the endpoint's own.
        """
        if self._transport is None:
            return
        route = dataclasses.replace(self._transport.route(httpx.URL(url)), address=address)
        for key, known in list(self._addresses.items()):
            if known.route == route:
                self._addresses.pop(key, None)
        self._transport.connections.forget(route)

    def close_idle(self, url: str) -> None:
        """Close the idle connections to a URL's host: others need their places there."""
        if self._transport is not None:
            self._transport.connections.close_idle(self._transport.route(httpx.URL(url)))

    def _aim_at_public(self, request: Request) -> None:
        """Send a request to a public address of its host. Raises BadAudioError where there is none.

        The address that was looked at is the one that is connected to. A proxy looks the name up
        in its own network; the caller's own client looks it up once more, maybe to another address.
        """
        url = httpx.URL(request.url)
        transport = self._transport
        if transport is not None and self._client._transport_for_url(url) is transport:
            route = transport.route(url)
            if route.proxy is None:
                request.address = look_up_public(route.host, route.port)
            return
        port = url.port or (443 if url.scheme == "https" else 80)
        with contextlib.suppress(ConnectError):  # a name that only a proxy of it can look up
            look_up_public(url.host, port)

    def _find_address(self, transport: PoolTransport, request: Request) -> _Address:
        url, at, method = request.url, request.address, request.method
        parsed = httpx.URL(url)
        route = transport.route(parsed)
        start = head_start(method, parsed.raw_path.decode("ascii"), route.netloc, route)
        if at is not None:
            route = dataclasses.replace(route, address=at)
        found = _Address(parsed, route, RequestEncoder(start))
        if not request.foreign:  # links are used once, and there is no end of them
            self._addresses[url, at, method] = found
        return found

    # -- through httpx --------------------------------------------------------------------------

    def _post_httpx(self, request: Request, limits: ExchangeLimits) -> Reply:
        started = time.monotonic()
        built = self._built(request, limits, started)
        with self._translating():
            response = self._client.send(built, stream=True, **_FOREIGN if request.foreign else {})
            first_byte = time.monotonic() - started
            with contextlib.closing(response):
                _check_echo(request, response)
                _announce(response, limits)
                body, received = _read(response, limits)
        connect, link = map(response.extensions.get, ("cosy_connect", "cosy_link"))
        times = (connect or 0.0, first_byte, received, 0.0)
        return Reply(response.status_code, named_foreign(response), body, *times, link)

    def _built(self, request: Request, limits: ExchangeLimits, now: float) -> httpx.Request:
        left = max(limits.until - now, 0.001)
        wait = min(limits.first_byte, left)
        # A tuple of connect, read, write and pool: httpx2 takes no Timeout of httpx.
        times = (min(self._timeouts.connect, left), wait, wait, wait)
        built = self._client.build_request(
            request.method,
            request.url,
            headers=list(request.headers),
            content=request.body,
            timeout=times,
            extensions={
                "cosy_deadline": limits.until,
                "cosy_limits": dataclasses.replace(limits, make_room=no_room_needed),
            },
        )
        if request.foreign:
            built = _stripped(built, request)
        # A client that was given a name keeps it.
        if built.headers.get("user-agent", "python-httpx/").startswith("python-httpx/"):
            built.headers["user-agent"] = USER_AGENT
        return built

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_of_httpx(error):
                raise translate(error) from error
            if isinstance(error, RuntimeError) and self._client.is_closed:
                raise ClosedError("http_client: this httpx.Client was closed") from error
            raise

    # -- replies that go on -----------------------------------------------------------------------

    def _opened(self, request: WireRequest, limits: ExchangeLimits, now: float) -> Incoming:
        if not isinstance(request, Request):
            return self._task_transport(kind_of(request)).open(request, limits)
        transport = self._transport
        if transport is not None:
            key = (request.url, request.address, request.method)
            address = self._addresses.get(key) or self._find_address(transport, request)
            if self._client._transport_for_url(address.url) is transport:
                data = address.encoder.encode(request.headers, request.body)
                return transport.send(transport.begin, address.route, data, limits, now)
        built = self._built(request, limits, time.monotonic())
        # The client's own default would let the sound be compressed, and so held up.
        if "accept-encoding" not in (name.lower() for name, _ in request.headers):
            built.headers["accept-encoding"] = "identity"
        with self._translating():
            response = self._client.send(built, stream=True)
            try:
                _check_echo(request, response)
            except BadAudioError:
                response.close()
                raise
        # httpcore looks at this when the body is first read, for all of it.
        built.extensions["timeout"]["read"] = limits.idle
        return HttpxReplyStream(response, limits)


def _stripped(built: httpx.Request, request: Request) -> httpx.Request:
    """Build a request again, past the client's own headers, cookies and query."""
    same = type(built)  # httpx2 takes requests of its own only
    return same(
        request.method,
        request.url,
        headers=list(request.headers),
        content=request.body,
        extensions=built.extensions,
    )


def _check_echo(request: Request, response: httpx.Response) -> None:
    got = response.headers.get("x-request-id")
    if got is not None:
        sent = [value for name, value in request.headers if name.lower() == "x-request-id"]
        check_echo("".join(sent).encode(), got.encode())


def _announce(response: httpx.Response, limits: ExchangeLimits) -> None:
    length = response.headers.get("content-length", "")
    size = int(length) if length.isdecimal() and response.is_success else 0
    if size > limits.max_bytes:
        raise too_large(limits.max_bytes)
    limits.make_room(size)


def _read(response: httpx.Response, limits: ExchangeLimits) -> tuple[Body, int]:
    most = limits.max_bytes
    if not response.is_success:
        return _read_refusal(response, limits)
    if response.is_stream_consumed:  # by a mock or a hook: whole, and decompressed
        if len(response.content) > most:
            raise too_large(most)
        return response.content, len(response.content)
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > most:
            raise too_large(most)
        if time.monotonic() > limits.until:
            raise ReplyTimeout("the reply began and did not end in time", phase="idle")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return inflated(body, headers, response.status_code, most), len(body)


def _read_refusal(response: httpx.Response, limits: ExchangeLimits) -> tuple[Body, int]:
    """Read the beginning of a refusal's body: its status counts, whatever becomes of the rest."""
    if response.is_stream_consumed:
        return response.content[:MAX_REFUSAL], len(response.content)
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) >= MAX_REFUSAL or time.monotonic() > limits.until:
                break
    except Exception as error:
        if not isinstance(error, CosyError) and not is_of_httpx(error):
            raise
    headers = {name.lower(): value for name, value in response.headers.items()}
    return inflated(body, headers, response.status_code, limits.max_bytes), len(body)
