"""What is known of a service that has stopped answering, for the bar."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from cosy_sync import BreakerOpenError, CosyError, Event, RefusedError, ServerError
from cosy_sync.cli.wording import in_options
from cosy_sync.events import AttemptFinished, CallRefused

__all__ = ["Silence"]

# Seconds without a reply that are nothing unusual.
_USUAL = 5.0
_WHERE = re.compile(r"^cannot connect to \S+: ")


class Silence:
    """An observer that knows since when no text was answered, why, and when it is tried again.

    Each field is set by one assignment, on any thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest = clock()
        self._error: CosyError | None = None
        self._probe = 0.0

    def on_event(self, event: Event) -> None:
        """Take notice of how a call ended, or why it was not made."""
        if isinstance(event, AttemptFinished):
            if event.error is None:
                self._latest, self._error, self._probe = self._clock(), None, 0.0
            elif not isinstance(event.error, RefusedError):
                self._error = event.error
        elif isinstance(event, CallRefused) and isinstance(event.error, BreakerOpenError):
            self._probe = self._clock() + (event.error.retry_after or 0.0)

    def words(self) -> str:
        """Say for how long there was no reply, why, and when the service is asked again."""
        now, error = self._clock(), self._error
        seconds = now - self._latest
        if seconds < _USUAL:
            return ""
        what = "no sound" if isinstance(error, ServerError) else "no reply"
        words = f"{what} for {seconds:.0f} s"
        if error is not None:
            words += f": {_reason(error)}"
        left = self._probe - now
        return f"{words}; next probe in {left:.0f} s" if left >= 0.5 else words


def _reason(error: CosyError) -> str:
    """Return what happened, without the address and the advice: a line is short."""
    what = _WHERE.sub("", in_options(error.message).partition("; ")[0])
    return what[:1].lower() + what[1:]
