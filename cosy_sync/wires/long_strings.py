"""JSON with long strings in it, audio in base64: read without making a str of each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from .coding import load_json

__all__ = ["load_with_views"]

# Bytes of a body from which on this pays: below, a parser is as fast.
_LARGE = 1 << 18
# Bytes of a string from which on it stays where it is.
_LONG = 4096
# Bytes that are looked through at once: searching needs bytes, and these stay in the cache.
_WINDOW = 1 << 16

# What a long string is called while the rest is parsed: nobody else can know it.
_MARK = f"long-string-{secrets.token_hex(8)}-"


def load_with_views(body: bytes | bytearray | memoryview, keys: frozenset[str]) -> Any:
    """Read JSON; long strings in arrays and under these keys come as views of the body.

    A view holds the string's bytes as they stand in the body: only strings without escapes become
    views. Raises ValueError for what is no JSON.
    """
    if len(body) < _LARGE:
        return load_json(body)
    view = memoryview(body)
    pieces: list[bytes] = []
    long: list[memoryview] = []
    copied = 0
    for start, end in _long_strings(view):
        pieces.append(bytes(view[copied:start]))
        pieces.append(f"{_MARK}{len(long)}".encode())
        long.append(view[start:end])
        copied = end
    pieces.append(bytes(view[copied:]))
    return _restore(load_json(b"".join(pieces)), long, keys, True)


def _restore(value: Any, long: list[memoryview], keys: frozenset[str], as_view: bool) -> Any:
    if isinstance(value, str) and value.startswith(_MARK):
        string = long[int(value[len(_MARK) :])]
        return string if as_view else str(string, "utf-8")
    if isinstance(value, list):
        return [_restore(item, long, keys, True) for item in value]
    if isinstance(value, dict):
        named = [(_restore(key, long, keys, False), item) for key, item in value.items()]
        return {key: _restore(item, long, keys, key in keys) for key, item in named}
    return value


def _long_strings(body: memoryview) -> Iterator[tuple[int, int]]:
    """Yield start and end of each long string without escapes.

    Quotes stand in JSON only around strings, and behind a backslash within them.
    """
    window = _Window(body)
    end = -1
    while (start := window.find(b'"', end + 1) + 1) > 0:
        end = window.find(b'"', start)
        escaped = False
        while end > 0 and window.backslashes(start, end) % 2:
            escaped = True
            end = window.find(b'"', end + 1)
        if end < 0:
            return
        if end - start >= _LONG and not escaped and window.find(b"\\", start, end) < 0:
            yield start, end


class _Window:
    """Searches a body in pieces small enough for the cache."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._start = 0
        self._piece = bytes(body[:_WINDOW])

    def find(self, what: bytes, start: int, end: int | None = None) -> int:
        """Return where the byte stands first, -1 for nowhere."""
        most = len(self._body) if end is None else end
        while start < most:
            self._show(start)
            found = self._piece.find(what, start - self._start, most - self._start)
            if found >= 0:
                return self._start + found
            start = self._start + len(self._piece)
        return -1

    def backslashes(self, start: int, end: int) -> int:
        """Return how many backslashes stand right before `end`, not before `start`."""
        count = 0
        while end - count > start and self._body[end - count - 1] == 0x5C:
            count += 1
        return count

    def _show(self, position: int) -> None:
        if not self._start <= position < self._start + len(self._piece):
            self._start = position
            self._piece = bytes(self._body[position : position + _WINDOW])
