"""Bytes to requests: httptools' parser, with caps on what it may gather."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

from .errors import RequestError

_MAX_HEADER_BYTES = 32_768


@dataclass(slots=True)
class Request:
    """One request, or why it could not be read."""

    method: str = ""
    path: str = ""
    # Names in lower case; the last of several equal ones.
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    # Seconds, monotonic: when the last byte was here.
    arrived: float = 0.0
    # Set when the rest of the connection's bytes cannot be trusted.
    refusal: RequestError | None = None
    # Set when it asks for another protocol: the bytes that came behind it.
    upgrade: bytearray | None = None
    # Then, set when its address holds too many connections.
    is_crowded: bool = False


class RequestReader:
    """Feeds one connection's bytes to the parser and passes on what comes out."""

    def __init__(
        self,
        max_body_bytes: int,
        on_head: Callable[[Request], None],
        on_request: Callable[[Request], None],
    ) -> None:
        """Make a parser.

        Args:
            max_body_bytes: beyond it the request is refused with 413.
            on_head: told when headers are complete and a body is to follow.
            on_request: told when a request is complete, or refused.
        """
        self._max_body_bytes = max_body_bytes
        self._tell_head = on_head
        self._tell_request = on_request
        self._parser = httptools.HttpRequestParser(self)
        self._is_dead = False
        self.on_message_begin()

    def feed(self, data: bytes) -> None:
        """Take bytes in; after a refusal they are dropped, after an upgrade kept."""
        if self._request.upgrade is not None:
            self._request.upgrade += data
            return
        if self._is_dead:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if not self._is_dead:
                self._request.upgrade = bytearray(data[end.args[0] :])
                self._request.keep_alive = False
                self._tell_request(self._request)
        except httptools.HttpParserError:
            self._refuse(400, "bad_request", "this is not HTTP")

    # What follows is called by httptools, under names that it fixes.

    def on_message_begin(self) -> None:
        """Start an empty request."""
        self._request = Request()
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Gather the target, which may come in several pieces."""
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header."""
        self._count_header(len(name) + len(value))
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse at once what announces too much."""
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.path = _path_of(self._url)
        request.keep_alive = self._parser.should_keep_alive()
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            self._refuse_body()
        elif not self._is_dead:
            self._tell_head(request)

    def on_body(self, data: bytes) -> None:
        """Gather the body, up to the cap."""
        self._body_bytes += len(data)
        if self._body_bytes > self._max_body_bytes:
            self._refuse_body()
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Pass the request on."""
        if not self._is_dead and not self._parser.should_upgrade():
            self._request.body = b"".join(self._body)
            self._tell_request(self._request)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refuse(431, "headers_too_large", f"more than {_MAX_HEADER_BYTES} header bytes")

    def _refuse_body(self) -> None:
        self._refuse(413, "too_large", f"the body has more than {self._max_body_bytes} bytes")

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        self._request.refusal = RequestError(status, code, message)
        self._request.keep_alive = False
        self._tell_request(self._request)


def _path_of(url: bytes) -> str:
    """Cut a target down to its path."""
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return ""
    return url.partition(b"?")[0].decode("latin-1")
