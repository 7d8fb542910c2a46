"""multipart/mixed (RFC 2046) taken apart: headers parsed, bodies as views of the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BadAudioError

__all__ = ["Part", "split_parts"]

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)+)"|([^\s;"]+))', re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")
_MAX_BOUNDARY = 70
_HEADERS_WINDOW = 1 << 10
_MAX_HEADERS = 16 << 10
_SEARCH_STEP = 1 << 16

# In place of the next part's place: behind the last part, or at what is no delimiter at all.
_END = -1
_NONE = -2

_Body = bytes | bytearray | memoryview


@dataclass(slots=True)
class Part:
    """One part: header names in lower case, and its body where it lies."""

    headers: dict[str, str]
    body: memoryview


def split_parts(content_type: str, body: _Body, limit: int) -> list[Part]:
    """Take a multipart body apart; what stands before the first and after the last part is dropped.

    Raises BadAudioError: `header` for a boundary, part header or Content-Length that is none,
    `cut` when the end is missing, `not_audio` when there are no parts, `count` for more than
    `limit` of them.
    """
    walk = _Walk(body, _boundary(content_type))
    at = walk.first()
    parts: list[Part] = []
    while at != _END:
        if len(parts) == limit:
            raise _bad("count", f"more than {limit} parts")
        part, at = walk.part(at)
        parts.append(part)
    return parts


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type)
    text = "" if found is None else _ESCAPED.sub(r"\1", found[1]) if found[1] else found[2]
    if not text or not text.isascii() or len(text) > _MAX_BOUNDARY:
        raise _bad("header", "a Content-Type without a boundary")
    return b"--" + text.encode("ascii")


class _Walk:
    """One pass over a body. Places are offsets into it."""

    def __init__(self, body: _Body, dashes: bytes) -> None:
        self._body = body
        self._view = memoryview(body)
        self._dashes = dashes
        self._delimiter = b"\r\n" + dashes
        self._next = self._delimiter + b"\r\n"

    def first(self) -> int:
        """Return where the first part starts, or _END if there is none but an end."""
        if self._bytes(0, len(self._dashes)) == self._dashes:
            start = self._behind(len(self._dashes))
            if start != _NONE:
                return start
        end, start = self._next_delimiter(0)
        if end == _NONE:
            raise _bad("not_audio", "no part at all")
        return start

    def part(self, start: int) -> tuple[Part, int]:
        """Return the part whose headers start here, and where the next one starts, or _END."""
        headers, start = self._headers(start)
        length = headers.get("content-length")
        end, following = self._searched(start) if length is None else self._sliced(start, length)
        return Part(headers, self._view[start:end]), following

    def _headers(self, start: int) -> tuple[dict[str, str], int]:
        # From the line break before on: it ends the headers at once when there are none.
        end = self._find(b"\r\n\r\n", start - 2, start + _MAX_HEADERS)
        if end < 0:
            if len(self._view) - start > _MAX_HEADERS:
                raise _bad("header", f"part headers of more than {_MAX_HEADERS} bytes")
            raise _bad("cut", "an end inside a part's headers")
        return _parse_headers(self._bytes(start, end)), end + 4

    def _sliced(self, start: int, length: str) -> tuple[int, int]:
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise _bad("header", "a Content-Length that is no number")
        end = start + int(length)
        behind = end + len(self._delimiter)
        there = self._view[end : behind + 2].tobytes()
        if there == self._next:
            return end, behind + 2
        if behind > len(self._view):
            raise _bad("cut", f"{len(self._view) - start} of a part's {int(length)} bytes")
        following = self._behind(behind) if there.startswith(self._delimiter) else _NONE
        if following == _NONE:
            raise _bad("header", "a Content-Length that does not end at a boundary")
        return end, following

    def _searched(self, start: int) -> tuple[int, int]:
        # An empty body may share its line break with the end of the headers.
        end, following = self._next_delimiter(start - 2)
        if end == _NONE:
            raise _bad("cut", "a part without an end")
        return max(start, end), following

    def _next_delimiter(self, at: int) -> tuple[int, int]:
        """Return where a delimiter stands and what comes behind it; _NONE twice if none is left."""
        while (at := self._find(self._delimiter, at, len(self._view))) >= 0:
            following = self._behind(at + len(self._delimiter))
            if following != _NONE:
                return at, following
            at += 2
        return _NONE, _NONE

    def _behind(self, at: int) -> int:
        """Return where the part behind a delimiter starts, or _END.

        _NONE if this is no delimiter but only begins like one.
        """
        tail = self._bytes(at, at + 2)
        if tail == b"--":
            return _END
        if tail == b"\r\n":
            return at + 2
        padded = self._bytes(at, at + _HEADERS_WINDOW)
        blank = len(padded) - len(padded.lstrip(b" \t"))
        if padded[blank : blank + 2] == b"\r\n":
            return at + blank + 2
        if len(tail) < 2:
            raise _bad("cut", "an end inside a boundary")
        return _NONE

    def _bytes(self, start: int, end: int) -> bytes:
        return self._view[start:end].tobytes()

    def _find(self, needle: bytes, start: int, stop: int) -> int:
        if not isinstance(self._body, memoryview):
            return self._body.find(needle, start, stop)
        # A memoryview cannot search: look at one window after the other, the first one small
        # because headers are short.
        size = _HEADERS_WINDOW
        while start < stop:
            found = self._bytes(start, min(stop, start + size + len(needle))).find(needle)
            if found >= 0:
                return start + found
            start += size
            size = _SEARCH_STEP
        return -1


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.decode("latin-1").split("\r\n") if block else ():
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or " " in name:
            raise _bad("header", "a part header that is none")
        value = value.strip()
        if headers.setdefault(name, value) != value:
            raise _bad("header", "a part header that contradicts itself")
    return headers


def _bad(reason: str, what: str) -> BadAudioError:
    return BadAudioError(
        f"expected multipart/mixed with one part per text, got {what}; "
        "try again, and look at the service if it stays",
        reason=reason,
    )
