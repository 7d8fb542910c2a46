"""A reply as far as it has come and is understood."""

from __future__ import annotations

import httptools

from ..errors import TransportError
from .exchange_limits import ExchangeLimits
from .inflate import shown_coding, too_large
from .matching import check_answer
from .reply_head import read_plain_head

__all__ = ["ReplyParser"]


class ReplyParser:
    """What is known of a reply; httptools calls its `on_` methods where the head is not plain."""

    # What it answers, and what it may take: set when it is made, with _headers and _body.
    _request: bytes
    _bodyless: bool
    _limits: ExchangeLimits
    _headers: list[tuple[bytes, bytes]]
    _body: bytearray
    # The headers by name, where the head is plain: then they are not in _headers.
    _names: dict[str, str] | None = None
    # A body of known length, as far as it has come.
    _sized: memoryview | None = None

    # Only where the head is not plain.
    _parser: httptools.HttpResponseParser | None = None
    # What has come of a head that is not complete; bytes since the last of the body.
    _head = b""
    _dry = 0
    _phase = "first byte"
    _status = 0
    _length: int | None = None
    _chunked = False
    _keep = False
    _final = False
    # It says no, and only the beginning of its body is wanted.
    _refused = False
    _complete = False
    # Bytes of the body so far.
    _size = 0

    @property
    def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return the status and the headers."""
        return self._status, self._headers

    @property
    def framed(self) -> bool:
        """Return whether the reply says where it ends; if not, the connection's end does."""
        return self._chunked or self._length is not None

    def _take_plain(self, data: bytes) -> bool:
        """Take in the beginning of a reply whose head is plain, as nearly all are; return whether
        it is one. Nothing that httptools would refuse, or read in another way, is taken."""
        plain = None if self._bodyless else read_plain_head(data)
        if plain is None:
            return False
        names, length, start = plain
        size = len(data) - start
        if size > length or length > self._limits.max_bytes:
            return False
        answered = names.get("x-request-id")
        if answered is not None:
            check_answer(self._request, answered.encode("ascii"))
        self._status, self._names, self._length = 200, names, length
        self._sized = memoryview(data)[start:]
        self._size = size
        self._final = self._keep = True
        self._complete = size == length
        self._phase = "idle"
        return True

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Chunks count more than a Content-Length beside them.
        parser.set_dangerous_leniencies(lenient_chunked_length=True)
        return parser

    # -- called by httptools --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False  # it said more than it was asked
        self._phase = "idle"

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows the body (trailers, rubbish) has no say in what the reply is.
        if not self._final:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._final:
            return
        parser = self._parser
        assert parser is not None
        self._status = parser.get_status_code()
        if self._status < 200:
            self._check_informational()
            return
        self._final = True
        self._refused = self._status >= 300 and self._limits.max_refusal is not None
        # The parser forgets it with the end of the message, so this is the time to ask.
        self._keep = bool(parser.should_keep_alive())
        self._find_length()
        if self._bodyless:
            self._complete, self._keep = True, False
        elif (self._length or 0) > self._limits.max_bytes and not self._refused:
            raise too_large(self._limits.max_bytes)

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._dry = 0
        self._phase = "idle"
        limits = self._limits
        most = limits.max_bytes
        if self._refused and limits.max_refusal is not None:
            most = limits.max_refusal
        room = most - self._size
        if len(data) > room:
            if not self._refused:
                raise too_large(most)
            data = data[:room]
            self._complete, self._keep = True, False
        self._size += len(data)
        self._body += data

    def on_message_complete(self) -> None:
        if self._final:
            self._complete = True
        else:
            # An interim reply: the real one is still to come.
            self._headers.clear()
            self._phase = "first byte"

    def _check_informational(self) -> None:
        if self._status == 101:
            raise TransportError("the server wants to switch protocols")
        if self._status < 100:
            raise TransportError(f"the reply is not HTTP: status {self._status}")

    def _find_length(self) -> None:
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                self._length = int(value)
            elif lower == b"transfer-encoding":
                if self._chunked or value.strip().lower() != b"chunked":
                    coding = shown_coding(value.decode("latin-1"))
                    raise TransportError(f"the reply's Transfer-Encoding {coding} is unknown")
                self._chunked = True
            elif lower == b"x-request-id":
                check_answer(self._request, value)
        if self._chunked and self._length is not None:
            # Somebody on the way may have counted otherwise (RFC 9112 6.3).
            self._length, self._keep = None, False
