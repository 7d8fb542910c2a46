"""What became of the texts: counted, and told as lines for people or as JSON."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cosy_sync import Audio, CosyError
from cosy_sync.cli.console import Screen, emit
from cosy_sync.cli.exits import was_tried, words_of
from cosy_sync.cli.report.figures import count, duration, number, speech
from cosy_sync.cli.source import Item

__all__ = ["Reporter"]

_SHOWN_FAILURES = 10


class Reporter:
    """Counts outcomes and tells of each.

    Args:
        as_json: one JSON object for each text, on standard output.
        quiet_output: standard output carries sound: the last line goes beside it.
    """

    def __init__(self, screen: Screen, *, as_json: bool, quiet_output: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._quiet_output = quiet_output
        self._started = time.monotonic()
        self._speech = 0.0
        self._listed = 0
        self.ok = 0
        self.failed = 0
        # Texts that were given up before anything was sent for them.
        self.unsent = 0

    @property
    def done(self) -> int:
        """Return how many texts have an outcome."""
        return self.ok + self.failed + self.unsent

    def saved(self, item: Item, audio: Audio, file: str | None) -> None:
        """Count a text that was spoken and kept."""
        self.ok += 1
        self._speech += audio.duration
        if self._as_json:
            # The file's contents; hashed only where somebody gets to see it.
            data = audio.data if file is None else Path(file).read_bytes()
            self._screen.emit(
                _line(
                    item,
                    file=file,
                    seconds=round(audio.duration, 3),
                    latency=None if audio.timing is None else round(audio.timing.total, 4),
                    sha256=hashlib.sha256(data).hexdigest(),
                )
            )
        self._screen.draw(self.done)

    def lost(self, item: Item, error: CosyError, *, listed: bool = True) -> None:
        """Count a text that failed, or was not sent; list the first few.

        Args:
            listed: False for an error that will be told anyway, as the end of all.
        """
        tried = was_tried(error)
        self.failed += tried
        self.unsent += not tried
        # Texts that were not sent share one reason.
        listed = listed and (tried or self.unsent == 1)
        self._listed += listed and tried
        if listed and (self._listed <= _SHOWN_FAILURES or not tried):
            line = "" if item.line == item.index else f" (line {item.line})"
            what = "failed" if tried else "was not sent"
            self._screen.say(
                f"cosy-sync: text {item.index}{line} #{item.hash} {what}: {_named(error)}"
            )
        if self._as_json:
            self._screen.emit(
                _line(item, error=_named(error), **({} if tried else {"sent": False}))
            )
        self._screen.draw(self.done)

    def close(self, where: str, stopped: str | None = None) -> None:
        """Tell the sum.

        Args:
            where: the name of what took the sound.
            stopped: why the work ended early.
        """
        more = self._listed - _SHOWN_FAILURES
        if more > 0:
            self._screen.say(f"cosy-sync: and {count(more)} more failed")
        self._screen.close()
        if self._as_json:
            emit(json.dumps(self._sums(stopped)))
        elif stopped is None:
            tell = self._screen.say if self._quiet_output else emit
            tell(self._sentence(where))

    def half_way(self, where: str) -> str:
        """Say what there is of a work that ended early."""
        kept = f"{_texts(self.ok)} spoken and kept in {where}" if self.ok else ""
        rest = "" if self.done == self._screen.total else "the rest was not spoken"
        return ", ".join(words for words in (kept, self._lost(), rest) if words)

    def _lost(self) -> str:
        """Say how many texts failed and how many were not sent; nothing where there are none."""
        counts = [(self.failed, "failed")]
        counts += [(self.unsent, f"{'was' if self.unsent == 1 else 'were'} not sent")]
        return ", ".join(f"{_texts(value)} {what}" for value, what in counts if value)

    def _sums(self, stopped: str | None) -> dict[str, Any]:
        wall = time.monotonic() - self._started
        return {
            "texts": self.done,
            "ok": self.ok,
            "failed": self.failed,
            "unsent": self.unsent,
            "speech_seconds": round(self._speech, 3),
            "wall_seconds": round(wall, 3),
            "texts_per_second": round(self.ok / max(wall, 1e-9), 2),
            "stopped": stopped,
        }

    def _sentence(self, where: str) -> str:
        if not self.done:
            return "there was nothing to speak"
        wall = time.monotonic() - self._started
        words = f"{_texts(self.ok)} spoken to {where}: {speech(self._speech)} of speech "
        words += f"in {duration(wall)} ({number(self.ok / max(wall, 1e-9))} texts/s)"
        lost = self._lost()
        return f"{words}; {lost}" if lost else words


def _texts(value: int) -> str:
    return f"{count(value)} text{'' if value == 1 else 's'}"


def _named(error: CosyError) -> str:
    return f"{type(error).__name__}: {words_of(error)}"


def _line(item: Item, **facts: Any) -> str:
    shape = {"file": None, "seconds": None, "latency": None, "sha256": None, "error": None}
    told = {"index": item.index, "line": item.line, "ok": "error" not in facts, **shape, **facts}
    return json.dumps(told)
