"""A progress bar for one call: one line on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from .errors import ConfigError

__all__ = ["Progress", "ProgressCallback", "as_progress"]

ProgressCallback = Callable[[int, int], None]

_CELLS = 30
# Seconds between two drawings.
_EVERY = 0.1


class Progress:
    """Draws `done / total` on standard error while it is a terminal or a notebook's."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._drawn = 0.0
        self._visible = sys.stderr is not None and (sys.stderr.isatty() or in_notebook())

    def __call__(self, done: int, total: int) -> None:
        """Draw, unless it was drawn a moment ago."""
        now = time.monotonic()
        if not self._visible or (now - self._drawn < _EVERY and done < total):
            return
        self._drawn = now
        full = _CELLS * done // total if total else _CELLS
        rate = done / max(now - self._started, 1e-9)
        bar = "█" * full + "·" * (_CELLS - full)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{bar} {done}/{total} texts, {rate:.0f}/s {end}")
        sys.stderr.flush()


class TqdmProgress:
    """Draws with tqdm, which a notebook shows as a bar of its own."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._bar: Any = None
        self._started = time.time()

    def __call__(self, done: int, total: int) -> None:
        """Draw; the last one closes the bar."""
        if self._bar is None:
            self._bar = self._make(total=total, unit="text")
            self._bar.start_t = self._started
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()


def in_notebook() -> bool:
    """Return whether standard error leads into a notebook."""
    return type(sys.stderr).__module__.startswith("ipykernel")


def _choose() -> ProgressCallback:
    if in_notebook():
        try:
            importlib.import_module("ipywidgets")  # else tqdm warns, and draws as we do
            return TqdmProgress(importlib.import_module("tqdm.auto").tqdm)
        except ImportError:
            pass
    return Progress()


def as_progress(wanted: bool | ProgressCallback) -> ProgressCallback | None:
    """Return what is to be called with (done, total) after each text, if anything.

    Raises ConfigError.
    """
    if callable(wanted):
        return wanted
    if wanted not in (True, False, None):
        raise ConfigError(
            "progress: must be True, False or a function that takes (done, total), "
            f"got {type(wanted).__name__}"
        )
    return _choose() if wanted else None
