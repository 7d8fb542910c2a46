"""Server-sent events taken apart as their bytes come (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadAudioError

__all__ = ["SseEvent", "SseParser"]

# One event holds at most a whole text's sound in base64.
_MAX_EVENT = 64 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its name ("message" where none was sent), its data lines joined by line feeds,
    and the last id that was sent."""

    event: str
    data: str
    id: str


class SseParser:
    """Turns bytes, split anywhere, into events. One instance reads one reply."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._begun = False
        # The last byte was a carriage return: a line feed that follows belongs to it.
        self._returned = False
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take in the next bytes; return the events that they complete.

        Raises BadAudioError for an event of more than 64 MiB.
        """
        events: list[SseEvent] = []
        if self._returned and data:
            self._returned = False
            if data[:1] == b"\n":
                data = data[1:]
        self._returned = data[-1:] == b"\r"
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for number, line in enumerate(lines):
            self._line += line
            self._size += len(line)
            if self._size > _MAX_EVENT:
                raise BadAudioError(
                    f"an event of more than {_MAX_EVENT >> 20} MiB in the reply; is it sound?",
                    reason="too_large",
                )
            if number < len(lines) - 1:
                self._take_line(events)
        return events

    def end(self) -> list[SseEvent]:
        """Note the end of the reply; return the event that no blank line ended, if it has data."""
        events: list[SseEvent] = []
        self._take_line(events)
        self._dispatch(events)
        return events

    def _take_line(self, events: list[SseEvent]) -> None:
        raw = bytes(self._line)
        self._line.clear()
        if not self._begun:
            self._begun = True
            raw = raw.removeprefix(_BOM)
        if not raw:
            self._dispatch(events)
            return
        line = raw.decode("utf-8", "replace")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        # A comment begins with the colon: its name is empty, and so unknown like "retry".
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self, events: list[SseEvent]) -> None:
        data = "\n".join(self._data)
        if data:
            events.append(SseEvent(self._event or "message", data, self._id))
        self._event, self._size = "", 0
        self._data.clear()
