"""Requests to one URL as they travel, of which mostly only the last header's value is new."""

from __future__ import annotations

from .request_encoding import OURS, encode_request

__all__ = ["RequestEncoder"]


class RequestEncoder:
    """Writes the requests to one URL, of which mostly only the last header's value is new: their
    own id. What stands around it is kept. Any number of threads may share it.

    Args:
        start: What `head_start` wrote.
    """

    __slots__ = ("_known", "_start")

    def __init__(self, start: str) -> None:
        self._start = start
        # Of the latest request: its headers but the last, that one's name, and what stands before
        # and behind its value. Written as a whole.
        self._known: tuple[tuple[tuple[str, str], ...], str, str, str] | None = None

    def encode(self, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
        """Do as `encode_request`."""
        known = self._known
        if known is not None and headers and headers[:-1] == known[0]:
            name, value = headers[-1]
            plain = value.isascii() and "\n" not in value and "\r" not in value
            if name == known[1] and plain:
                _, _, before, behind = known
                return f"{before}{value}{behind}{len(body)}\r\n\r\n".encode("latin-1") + body
        data = encode_request(self._start, headers, body)
        if headers:
            self._learn(headers)
        return data

    def _learn(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Keep what is around the last header's value; `encode_request` has taken these headers."""
        name, _ = headers[-1]
        if name.lower() in OURS or name.lower() == "user-agent":
            return
        mark = "\0"
        whole = encode_request(self._start, ((*headers[:-1], (name, mark))), b"").decode("latin-1")
        if whole.count(mark) == 1:
            before, _, behind = whole.partition(mark)
            self._known = headers[:-1], name, before, behind.removesuffix("0\r\n\r\n")
