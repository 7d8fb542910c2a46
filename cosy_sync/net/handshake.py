"""The server's answer to a WebSocket handshake, or its refusal, as the bytes come."""

from __future__ import annotations

import re

import httptools

from ..messages import Reply
from .plain_ports import ask_for_tls
from .reply_head import named
from .route import Route

__all__ = ["Handshake"]

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r]")
_HEAD_END = b"\r\n\r\n"
# Bytes of all heads together, and those of a refusal in which its reason is looked for.
_MAX_HEADS = 65_536
_MAX_REASON = 65_536


class Handshake:
    """Takes in what the server says, split anywhere; used by one thread.

    A refusal is one from the end of its head on, also where its body is cut, slow or too large.
    `heard`: something has come. `over`: nothing more is needed. `switch`: the answer of a server
    that switches protocols, and what it sent behind it.
    """

    def __init__(self) -> None:
        self.heard = False
        self.over = False
        self.switch = b""
        self._heads = b""
        # Bytes of interim answers, which are dropped.
        self._dropped = 0
        self._refusal: _Refusal | None = None

    @property
    def refusal(self) -> Reply | None:
        """Return the refusal with as much of its body as came; None where there is none."""
        refusal = self._refusal
        if refusal is None:
            return None
        return Reply(refusal.status, named(refusal.headers), bytes(refusal.body))

    def fault(self, broken: OSError | None, route: Route) -> str:
        """Return what went wrong, where it is neither a switch nor a refusal."""
        if self.heard and self.over:
            return "got no such answer; check the URL"
        why = "was not answered: the server hung up" if self.over else "took too long"
        why = why if broken is None else f"broke: {broken}"
        return why if self.heard or why == "took too long" else why + ask_for_tls(route)

    def feed(self, data: bytes) -> None:
        """Take in what has come, b"" at the end of the connection."""
        self.heard = self.heard or bool(data)
        if not data:
            self.over = True
        elif self._refusal is not None:
            self._read_on(data)
        else:
            self._heads += data
            while not self.over and self._refusal is None and _HEAD_END in self._heads:
                self._read_head()
            if self._dropped + len(self._heads) > _MAX_HEADS:
                self.over = True

    def _read_head(self) -> None:
        found = _STATUS_LINE.match(self._heads)
        status = int(found[1]) if found else 0
        if status == 101:
            self.switch, self.over = self._heads, True
        elif status >= 200:
            self._refusal = _Refusal(status)
            self._parser = httptools.HttpResponseParser(self._refusal)
            self._read_on(self._heads)
        elif status:  # an interim answer: the real one is still to come
            size = self._heads.index(_HEAD_END) + len(_HEAD_END)
            self._heads = self._heads[size:]
            self._dropped += size
        else:
            self.over = True

    def _read_on(self, data: bytes) -> None:
        refusal = self._refusal
        assert refusal is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.over = True
        self.over = self.over or refusal.complete or len(refusal.body) >= _MAX_REASON


class _Refusal:
    """A reply that says no; httptools calls its `on_` methods while it is fed."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.body:  # trailers have no say
            self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data[: _MAX_REASON - len(self.body)]

    def on_message_complete(self) -> None:
        self.complete = True
