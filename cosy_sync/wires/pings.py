"""Take the comments out of a stream of sound that its server sends as if it were events."""

from __future__ import annotations

import re

__all__ = ["PingFilter"]

# As sse_starlette writes them, whatever the stream is. No sound has these bytes by chance.
_MARK = b": ping - "
_PING = re.compile(_MARK + rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[\d.+:Z-]{0,20}\r\n\r\n")
_LONGEST = 64


class PingFilter:
    """Takes bytes in, split anywhere; gives them out without pings."""

    def __init__(self) -> None:
        # What may become one.
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is surely sound."""
        if self._held:
            data = self._held + data
        if _MARK in data:
            data = _PING.sub(b"", data)
        keep = _possible_start(data)
        self._held = data[keep:]
        return data[:keep] if self._held else data

    def end(self) -> bytes:
        """Return what is still held: no ping came of it."""
        held, self._held = self._held, b""
        return held


def _possible_start(data: bytes) -> int:
    """Return where a ping begins that the end of the data cuts, the data's length for none."""
    at = data.find(_MARK[:1], max(0, len(data) - _LONGEST))
    while at >= 0:
        if data[at : at + len(_MARK)] == _MARK[: len(data) - at]:
            return at
        at = data.find(_MARK[:1], at + 1)
    return len(data)
