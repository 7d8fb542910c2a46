"""A reply that goes on: each read has its own time, whatever carries the bytes."""

from __future__ import annotations

import time

from ..errors import BadAudioError, TransportError
from ..messages import Incoming, Link, Reply
from .exchange_limits import MAX_REFUSAL, ExchangeLimits
from .inflate import inflated, shown_coding, too_large

__all__ = ["ReplyStream"]


class ReplyStream:
    """What `Sender.open` returns: used by one thread, and closed by it.

    `status`, `headers`, `connect` and `link` as in Reply; `received` counts the bytes so far.
    """

    def __init__(self, incoming: Incoming, limits: ExchangeLimits) -> None:
        self._incoming = incoming
        self._limits = limits
        self.status = incoming.status
        self.headers = incoming.headers
        self.connect = incoming.connect
        self.link: Link | None = getattr(incoming, "link", None)
        self.received = 0

    def read(self, seconds: float) -> bytes:
        """Return what has come, b"" at the end; wait for it at most `seconds`, and never
        longer than the time-outs allow.

        Raises ReplyTimeout, CutError, ClosedError, BadAudioError when it grows too large or is
        compressed.
        """
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise BadAudioError(
                f"the reply's Content-Encoding {shown_coding(encoding)} was not asked for, and "
                "would hold the sound up; turn compression off for this path, in the service or "
                "before it",
                reason="encoding",
                retryable=False,
            )
        return self._next(time.monotonic() + seconds)

    def whole(self, seconds: float) -> Reply:
        """Read the rest within `seconds` and return all of it, decompressed; see `read`.

        Of a refusal its beginning is enough: its status counts, whatever becomes of the rest.
        """
        until = time.monotonic() + seconds
        body = bytearray()
        refused = self.status >= 300
        try:
            while (data := self._next(until)) and not (refused and len(body) > MAX_REFUSAL):
                body += data
        except (BadAudioError, TransportError):
            if not refused:
                raise
        plain = inflated(body, self.headers, self.status, self._limits.max_bytes)
        return Reply(self.status, self.headers, plain, self.connect, 0.0, len(body))

    def close(self) -> None:
        """Keep the connection for others if the reply came to its end; else hang up."""
        self._incoming.close()

    def _next(self, until: float) -> bytes:
        self._limits.until = until
        data = self._incoming.read()
        self.received += len(data)
        if self.received > self._limits.max_bytes:
            raise too_large(self._limits.max_bytes)
        return data
