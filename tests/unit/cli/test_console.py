"""What is written to standard output is written whole, or it is told."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from cosy_sync.cli import console
from cosy_sync.cli.console import emit, emit_bytes
from cosy_sync.cli.exits import Exit, Stop


class Raw(io.RawIOBase):
    """Takes a few bytes at a time, as a disk, or a pipe that is nearly full."""

    def __init__(self, room: int = 1 << 20, *, blocks: bool = False) -> None:
        self.taken = bytearray()
        self._room = room
        self._blocks = blocks
        self._is_full = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        self._is_full = not self._is_full
        if self._blocks and self._is_full:
            return None
        piece = bytes(data)[: min(3, self._room - len(self.taken))]
        if not piece:
            raise OSError(28, "No space left on device")
        self.taken += piece
        return len(piece)


def unbuffered(monkeypatch: pytest.MonkeyPatch, raw: Raw) -> None:
    stream = io.TextIOWrapper(raw, "utf-8", write_through=True)  # type: ignore[type-var]
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(console, "_FULL", 0.0)


@pytest.mark.parametrize("blocks", [False, True])
def test_all_bytes_and_lines_are_written_where_a_stream_takes_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, blocks: bool
) -> None:
    raw = Raw(blocks=blocks)
    unbuffered(monkeypatch, raw)
    emit_bytes(b"0123456789")
    emit("你好")
    assert raw.taken.decode().replace("\r\n", "\n") == "0123456789你好\n"


def test_a_buffered_stream_that_blocks_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(blocks=True)
    monkeypatch.setattr(console, "_FULL", 0.0)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw, 4), "utf-8"))
    emit_bytes(b"0123456789")
    assert raw.taken == b"0123456789"


@pytest.mark.parametrize("write", [lambda: emit_bytes(b"0123456789"), lambda: emit("0123456789")])
def test_a_disk_that_fills_up_on_the_way_is_told(
    monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    raw = Raw(room=7)
    unbuffered(monkeypatch, raw)
    with pytest.raises(Stop, match="No space left") as caught:
        write()
    assert (caught.value.code, raw.taken) == (Exit.FAILED, b"0123456")
