"""Send a wire's request through an httpx.Client, ours or the caller's, and read the reply."""

from __future__ import annotations

import contextlib
import time
from urllib.parse import urlsplit

import httpx

from ..config import ClientConfig
from ..errors import ConfigError, ConnectError, CutError, ReplyTimeout, TransportError
from ..messages import Reply, Request
from .exchange import Budget
from .inflate import inflate, too_large
from .transport import PoolTransport, head_bytes, with_body

__all__ = ["Sender"]


class Sender:
    """Moves requests. With our own client the short way is taken; with the caller's, theirs.

    The caller's client brings its own pool, time-outs within a reply and proxies; its hooks, auth
    and transport work as always. Its deadline is checked between two reads, so a server that
    dribbles a reply's head can outlive it.
    """

    def __init__(
        self, config: ClientConfig, client: httpx.Client | None = None, *, owned: bool = True
    ) -> None:
        self._timeouts = config.timeouts
        self._transport: PoolTransport | None = None
        self._owned = owned
        if client is None:
            limit = config.limits.max_reply_bytes
            self._transport = PoolTransport(config.pool, config.timeouts, limit)
            client = httpx.Client(transport=self._transport, trust_env=False)
        elif client.is_closed:
            raise ConfigError("http_client: this httpx.Client is closed")
        self._client = client
        self._urls: dict[str, httpx.URL] = {}

    def post(self, request: Request, seconds: float, max_bytes: int) -> Reply:
        """Send the request and return the whole reply, decompressed.

        Waits at most so many seconds. Raises TransportError and its kin, BadAudioError for a reply
        larger than `max_bytes`.
        """
        until = time.monotonic() + seconds
        transport = self._transport
        if transport is not None:
            url = self._url(request.url)
            # httpx's own choice of a transport: mocks such as respx put theirs in its place.
            if self._client._transport_for_url(url) is transport:
                return self._post_direct(transport, request, until, max_bytes)
        return self._post_httpx(request, until, max_bytes)

    def close(self) -> None:
        """Close the connections that are ours."""
        if self._owned:
            self._client.close()

    def cut(self) -> None:
        """Wake every thread that waits for a reply."""
        if self._transport is not None:
            self._transport.connections.cut()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets."""
        if self._transport is not None:
            self._transport.connections.abandon()

    def connections(self) -> tuple[int, int]:
        """Return how many of our connections are open, and how many of them idle."""
        return self._transport.connections.count() if self._transport is not None else (0, 0)

    # -- the short way ------------------------------------------------------------------------

    def _post_direct(
        self, transport: PoolTransport, request: Request, until: float, max_bytes: int
    ) -> Reply:
        parts = urlsplit(request.url)
        route = transport.route(f"{parts.scheme}://{parts.netloc}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if route.forwards:
            target = f"{parts.scheme}://{parts.netloc}{target}"
        headers = [(name.encode(), value.encode()) for name, value in request.headers]
        head = head_bytes(b"POST", target.encode("ascii"), route, headers)
        times = self._timeouts
        budget = Budget(times.first_byte, times.idle, until, max_bytes)
        sent = transport.send(route, with_body(head, request.body), budget)
        raw = sent.raw
        named = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in raw.headers}
        body = inflate(raw.body, named.get("content-encoding", ""), max_bytes)
        return Reply(raw.status, named, body, sent.connect, raw.first_byte, len(raw.body))

    # -- through httpx --------------------------------------------------------------------------

    def _post_httpx(self, request: Request, until: float, max_bytes: int) -> Reply:
        started = time.monotonic()
        left = until - started
        if left <= 0:
            raise ReplyTimeout("no time was left to send the request", phase="send")
        times = self._timeouts
        built = self._client.build_request(
            "POST",
            self._url(request.url),
            headers=list(request.headers),
            content=request.body,
            timeout=httpx.Timeout(min(times.first_byte, left), connect=min(times.connect, left)),
            extensions={"cosy_deadline": until},
        )
        try:
            response = self._client.send(built, stream=True)
            first_byte = time.monotonic() - started
            with contextlib.closing(response):
                body, received = _read(response, until, max_bytes)
        except httpx.HTTPError as error:
            raise _translate(error) from error
        connect = response.extensions.get("cosy_connect", 0.0)
        named = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, named, body, connect, first_byte, received)

    def _url(self, url: str) -> httpx.URL:
        found = self._urls.get(url)
        if found is None:
            found = self._urls[url] = httpx.URL(url)
        return found


def _read(response: httpx.Response, until: float, max_bytes: int) -> tuple[bytes, int]:
    if response.is_stream_consumed:  # a mocked reply arrives whole, already decompressed
        return response.content, len(response.content)
    chunks, size = [], 0
    for chunk in response.iter_raw():
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        if time.monotonic() > until:
            raise ReplyTimeout("the reply began and did not end in time", phase="idle")
    body = b"".join(chunks)
    return bytes(inflate(body, response.headers.get("content-encoding", ""), max_bytes)), size


# Most specific first.
_TRANSLATIONS: tuple[tuple[type[httpx.HTTPError], type[TransportError], str], ...] = (
    (httpx.ConnectTimeout, ConnectError, "cannot connect in time; is the service reachable?"),
    (
        httpx.PoolTimeout,
        ConnectError,
        "the given httpx.Client has no free connection: raise its limits",
    ),
    (httpx.ConnectError, ConnectError, "cannot connect; is the service running there?"),
    (httpx.TimeoutException, ReplyTimeout, "the reply did not come in time"),
    (httpx.ProxyError, ConnectError, "the proxy refused"),
    (httpx.RemoteProtocolError, CutError, "the reply was cut or is not HTTP"),
    (httpx.NetworkError, CutError, "the connection broke"),
)


def _translate(error: httpx.HTTPError) -> TransportError:
    for foreign, own, text in _TRANSLATIONS:
        if isinstance(error, foreign):
            return own(f"{text} ({type(error).__name__})")
    return TransportError(f"httpx failed: {type(error).__name__}")
