"""What a command says: results on standard output, messages and a bar on standard error."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cosy_sync.cli.exits import Exit, Stop, because

__all__ = ["Screen", "drop_output", "emit", "emit_bytes", "say"]

_CELLS = 30
# Seconds between two drawings of the bar.
_EVERY = 0.1
_TICK = 1.0
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

    In a `with` block, a thread draws the bar again each second: time passes also while nothing
    comes.

    Args:
        bar: draw it at all.
        total: how many texts there will be; None when nobody knows.
        trouble: says what keeps the service from answering; nothing while it answers.
        lines: seconds between two lines that say the same where there is no terminal; None for no
            lines.
    """

    def __init__(
        self,
        *,
        bar: bool,
        total: int | None = None,
        trouble: Callable[[], str] = str,
        lines: float | None = None,
    ) -> None:
        self._bar = bar and sys.stderr is not None and sys.stderr.isatty()
        self._lines = lines if bar and not self._bar else None
        self.total = total
        # Says how it goes, in place of the texts a second.
        self.pace: Callable[[], str] | None = None
        self._trouble = trouble
        self._started = time.monotonic()
        # Guards: _drawn, _done, and what is written to the terminal.
        self._lock = threading.RLock()
        self._drawn = 0.0
        self._done = 0
        self._left = threading.Event()
        self._clock: threading.Thread | None = None

    def __enter__(self) -> Screen:
        if self._bar or self._lines is not None:
            self._clock = threading.Thread(target=self._tick, name="cosy-bar", daemon=True)
            self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        if self._clock is not None:
            self._clock.join()
        self.close()

    def say(self, message: str) -> None:
        """Write a line above the bar."""
        with self._lock:
            self.clear()
            say(message)

    def emit(self, line: str) -> None:
        """Write a line to standard output, where no bar is meanwhile. Raises Stop."""
        with self._lock:
            self.clear()
            emit(line)

    def draw(self, done: int) -> None:
        """Draw the bar, unless it was drawn a moment ago."""
        now = time.monotonic()
        with self._lock:
            self._done = done
            if self._bar and (now - self._drawn >= _EVERY or done == self.total):
                self._drawn = now
                self._write(_CLEAR + self._line(now))

    def clear(self) -> None:
        """Take the bar away."""
        with self._lock:
            if self._bar and self._drawn:
                self._write(_CLEAR)
                self._drawn = 0.0

    def close(self) -> None:
        """Take the bar away for good."""
        with self._lock:
            self.clear()
            self._bar = False

    def _tick(self) -> None:
        while not self._left.wait(self._lines or _TICK):
            if self._lines is not None:
                say(f"cosy-sync: {self._words(time.monotonic(), self._trouble())}")
            self.draw(self._done)

    def _words(self, now: float, trouble: str) -> str:
        done, total = self._done, self.total
        line = f"{done} texts" if total is None else f"{done}/{total} texts"
        if trouble:
            return f"{line}; {trouble}"
        if self.pace is not None:
            return f"{line}, {self.pace()}"
        return f"{line}, {done / max(now - self._started, 1e-9):.0f}/s"

    def _line(self, now: float) -> str:
        trouble, total = self._trouble(), self.total
        line = self._words(now, trouble)
        if total is not None and not trouble:
            full = _CELLS * self._done // max(total, 1)
            line = f"{'█' * full}{'·' * (_CELLS - full)} {line}"
        # A longer one would go on in the next line, and could not be taken away.
        most = shutil.get_terminal_size().columns - 1
        return line if len(line) <= most else line[: most - 1] + "…"

    def _write(self, piece: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(piece)
            sys.stderr.flush()
