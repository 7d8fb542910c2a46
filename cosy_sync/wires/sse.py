"""Server-sent events out of bytes that come in any pieces (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BadAudioError

__all__ = ["SseEvent", "SseParser"]

# Bytes of one event. A second of 48 kHz sound is 128 kB of base64; whole sentences stay below.
_MAX_EVENT = 16 << 20
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its type (empty: message), its data lines joined, the last id that was given."""

    event: str
    data: str
    id: str


class SseParser:
    """Takes bytes in and gives events out; comments and unknown fields are passed over."""

    def __init__(self) -> None:
        # The line under way, in pieces: a long one must not be searched again with each.
        self._line: list[bytes] = []
        self._size = 0
        self._event = ""
        self._data: list[str] = []
        self._id = ""
        self._first = True
        # The last byte was a CR: an LF right behind it belongs to the same line's end.
        self._after_cr = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take in bytes; return the events that they complete. Raises BadAudioError."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events: list[SseEvent] = []
        for line in lines:
            self._add(line)
            whole = b"".join(self._line)
            self._line.clear()
            self._take(whole, events)
        self._add(rest)
        return events

    def end(self) -> list[SseEvent]:
        """Return the event that lacks only the blank line at its end, if there is one."""
        events: list[SseEvent] = []
        whole = b"".join(self._line)
        self._line.clear()
        if whole:
            self._take(whole, events)
        self._take(b"", events)
        return events

    def _add(self, piece: bytes) -> None:
        if piece:
            self._size += len(piece)
            if self._size > _MAX_EVENT:
                raise BadAudioError(
                    f"an event of more than {_MAX_EVENT >> 20} MB: is this a stream of speech?",
                    reason="too_large",
                )
            self._line.append(piece)

    def _take(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first:
            line = line.removeprefix(_BOM)
            self._first = False
        if not line:
            if self._data:
                events.append(SseEvent(self._event, "\n".join(self._data), self._id))
            self._event, self._data, self._size = "", [], 0
            return
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif not name:
            # Endless pings between two events are no event that grows.
            self._size -= len(line)
