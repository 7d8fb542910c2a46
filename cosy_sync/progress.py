"""A progress bar for one call: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from .errors import ConfigError

__all__ = ["Progress", "ProgressCallback", "as_progress"]

ProgressCallback = Callable[[int, int], None]

_CELLS = 30
# Seconds between two drawings.
_EVERY = 0.1


class Progress:
    """Draws `done / total` on standard error while it is a terminal."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._drawn = 0.0
        self._visible = sys.stderr is not None and sys.stderr.isatty()

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
    return Progress() if wanted else None
