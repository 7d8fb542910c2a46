"""JSON with long strings in it, audio in base64: read without making a str of each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from .fastjson import load_json

__all__ = ["LARGE_BODY", "load_with_views"]

# Bytes of a body from which on this pays: below, a parser is as fast.
LARGE_BODY = 1 << 18
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
    if len(body) < LARGE_BODY:
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
    return _restore(load_json(b"".join(pieces)), long, keys)


def _restore(value: Any, long: list[memoryview], keys: frozenset[str]) -> Any:
    """Put the long strings back into what was parsed, in place."""
    if isinstance(value, str):
        return _find(value, long) if value.startswith(_MARK) else value
    todo: list[Any] = [value] if isinstance(value, (dict, list)) else []
    while todo:
        holder = todo.pop()
        is_list = isinstance(holder, list)
        names: dict[str, str] = {}
        for key, item in enumerate(holder) if is_list else holder.items():
            name = key
            if isinstance(key, str) and key.startswith(_MARK):
                name = names[key] = str(_find(key, long), "utf-8")
            if isinstance(item, (dict, list)):
                todo.append(item)
            elif isinstance(item, str) and item.startswith(_MARK):
                view = long[int(item[len(_MARK) :])]
                holder[key] = view if is_list or name in keys else str(view, "utf-8")
        if names:
            restored = {names.get(key, key): item for key, item in holder.items()}
            holder.clear()
            holder.update(restored)
    return value


def _find(mark: str, long: list[memoryview]) -> memoryview:
    return long[int(mark[len(_MARK) :])]


def _long_strings(body: memoryview) -> Iterator[tuple[int, int]]:
    """Yield start and end of each long string without escapes.

    Quotes stand in JSON only around strings, and behind a backslash within them.
    """
    window = _Window(body)
    at = 0
    # Whether each so far would fit in a piece.
    fit = True
    while True:
        # Most strings lie within the piece that is looked at, without escapes.
        piece, offset = window.piece, window.start
        start = piece.find(b'"', at - offset) + 1
        end = piece.find(b'"', start) if start else -1
        if end < 0 and fit and offset < at < len(body):  # then within the piece from here on
            window.show(at)
        elif end >= 0 and piece.find(b"\\", start, end) < 0:
            if end - start >= _LONG:
                yield start + offset, end + offset
            at = end + offset + 1
        else:
            start, end, escaped = _next_string(window, at)
            if end < 0:
                return
            fit = fit and end - start < _WINDOW
            if end - start >= _LONG and not escaped:
                yield start, end
            at = end + 1


def _next_string(window: _Window, at: int) -> tuple[int, int, bool]:
    """Return start and end of the first string from there on, and whether it holds a backslash; an
    end of -1 where there is none."""
    start = window.find(b'"', at) + 1
    end = window.find(b'"', start) if start else -1
    escaped = False
    while end > 0 and window.backslashes(start, end) % 2:
        escaped = True
        end = window.find(b'"', end + 1)
    if end < 0:
        return start, -1, False
    return start, end, escaped or window.find(b"\\", start, end) >= 0


class _Window:
    """Searches a body in pieces small enough for the cache."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self.start = 0
        self.piece = bytes(body[:_WINDOW])

    def find(self, what: bytes, start: int, end: int | None = None) -> int:
        """Return where the byte stands first, -1 for nowhere."""
        most = len(self._body) if end is None else end
        while start < most:
            if not self.start <= start < self.start + len(self.piece):
                self.show(start)
            found = self.piece.find(what, start - self.start, most - self.start)
            if found >= 0:
                return self.start + found
            start = self.start + len(self.piece)
        return -1

    def backslashes(self, start: int, end: int) -> int:
        """Return how many backslashes stand right before `end`, not before `start`."""
        count = 0
        while end - count > start and self._body[end - count - 1] == 0x5C:
            count += 1
        return count

    def show(self, position: int) -> None:
        """Have the piece begin there."""
        self.start = position
        self.piece = bytes(self._body[position : position + _WINDOW])
