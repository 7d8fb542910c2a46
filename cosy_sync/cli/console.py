"""What a command says: results on standard output, messages and a bar on standard error."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from cosy_sync.cli.exits import Exit, Stop, because

__all__ = ["Screen", "drop_output", "emit", "emit_bytes", "say"]

_CELLS = 30
# Seconds between two drawings of the bar.
_EVERY = 0.1
_CLEAR = "\r\x1b[K"
# Seconds until a full pipe is tried again.
_FULL = 0.01


def say(message: str) -> None:
    """Write a line to standard error, if there is one and somebody listens."""
    # print(file=None) would write to standard output, in the middle of what belongs there.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)


def emit(line: str) -> None:
    """Write a line to standard output at once. Raises Stop when it cannot take it."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # not every stream is a file: a notebook's, or a test's
        print(line, flush=True)
        return
    text = f"{line}\n".replace("\n", os.linesep)
    emit_bytes(text.encode(sys.stdout.encoding or "utf-8", sys.stdout.errors or "strict"))


def emit_bytes(data: bytes) -> None:
    """Write bytes to standard output at once, all of them. Raises Stop when it cannot take them."""
    if sys.stdout is None:
        raise Stop("standard output is closed")
    rest = memoryview(data)
    try:
        sys.stdout.flush()
        while rest:
            rest = rest[_write(rest) :]
        while not _flush():
            time.sleep(_FULL)
    except OSError as error:
        raise _refused(error) from error


def _write(data: memoryview) -> int:
    """Write some of it to standard output; return how many bytes.

    Unbuffered, as PYTHONUNBUFFERED makes it, the stream takes what fits and says how much that was.
    A pipe that somebody made non-blocking takes nothing while it is full.
    """
    try:
        written: int | None = sys.stdout.buffer.write(data)
    except BlockingIOError as error:
        written = error.characters_written
    if not written:
        time.sleep(_FULL)
    return written or 0


def _flush() -> bool:
    """Write what the stream still holds; return whether that is all."""
    try:
        sys.stdout.buffer.flush()
    except BlockingIOError:
        return False
    return True


def _refused(error: OSError) -> BaseException:
    drop_output()
    if isinstance(error, BrokenPipeError):
        return error
    return Stop(f"cannot write to standard output: {because(error)}", Exit.FAILED)


def drop_output() -> None:
    """Let standard output lead nowhere: what it still buffers would fail again at the exit."""
    # Not every stream is a file: a notebook's or a test's is left as it is.
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Screen:
    """Messages, and below them a progress bar while standard error is a terminal.

    Args:
        bar: draw it at all.
        total: how many texts there will be; None when nobody knows.
    """

    def __init__(self, *, bar: bool, total: int | None = None) -> None:
        self._bar = bar and sys.stderr is not None and sys.stderr.isatty()
        self.total = total
        self._started = time.monotonic()
        self._drawn = 0.0

    def say(self, message: str) -> None:
        """Write a line above the bar."""
        self.clear()
        say(message)

    def draw(self, done: int) -> None:
        """Draw the bar, unless it was drawn a moment ago."""
        now = time.monotonic()
        if not self._bar or (now - self._drawn < _EVERY and done != self.total):
            return
        self._drawn = now
        rate = f"{done / max(now - self._started, 1e-9):.0f}/s"
        if self.total is None:
            line = f"{done} texts, {rate}"
        else:
            full = _CELLS * done // max(self.total, 1)
            line = f"{'█' * full}{'·' * (_CELLS - full)} {done}/{self.total} texts, {rate}"
        self._write(_CLEAR + line)

    def clear(self) -> None:
        """Take the bar away."""
        if self._bar and self._drawn:
            self._write(_CLEAR)
            self._drawn = 0.0

    def _write(self, piece: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(piece)
            sys.stderr.flush()
