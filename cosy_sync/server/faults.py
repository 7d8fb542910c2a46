"""The names of the faults, and which batch meets which."""

from __future__ import annotations

import difflib
import random
from collections import deque
from collections.abc import Mapping

# Answers given in place of the audio.
REPLY_FAULTS = (
    "gzip-bomb",
    "json-object",
    "not-json",
    "status-500",
    "status-502",
    "status-503",
    "status-504",
    "throttle",
    "throttle-bare",
    "throttle-date",
    "throttle-ms",
)
# Well-formed replies with wrong contents.
CONTENT_FAULTS = (
    "bad-base64",
    "bad-wav",
    "double-index",
    "empty-audio",
    "missing-index",
    "odd-audio",
    "same-audio",
    "short-audio",
    "silent-audio",
    "swapped-audio",
    "swapped-type",
    "text-error",
    "too-few",
    "too-many",
)
# Right replies to other texts.
TEXT_FAULTS = ("foreign-audio",)
# Right replies that do not arrive as they should.
DELIVERY_FAULTS = (
    "cut",
    "cut-chunked",
    "drip",
    "error-mid",
    "extra-after",
    "late",
    "length-long",
    "length-short",
    "length-twice",
    "reset",
    "reset-mid",
    "stall",
    "stall-mid",
)

FAULTS = tuple(sorted(REPLY_FAULTS + CONTENT_FAULTS + TEXT_FAULTS + DELIVERY_FAULTS))

# Of an outage only: the server does not listen.
REFUSE = "refuse"


def check_fault(name: str) -> str:
    """Return the name. Raises ValueError, with the nearest known name, when it is unknown."""
    if name in FAULTS:
        return name
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown fault {name!r}: {hint}Known faults: {', '.join(FAULTS)}")


class FaultPlan:
    """Draws the fault of each batch, on one thread."""

    def __init__(self, probabilities: Mapping[str, float], seed: int | None) -> None:
        """Take over the odds.

        Args:
            probabilities: name -> probability; the rest up to 1 is no fault.
            seed: makes the draws repeatable.
        """
        self.random = random.Random(seed)
        self._probabilities = tuple(probabilities.items())
        # Adding and taking are atomic: any thread may add.
        self._next: deque[str] = deque()

    def add(self, name: str, times: int) -> None:
        """Let the next batches meet this fault, so many of them; safe from any thread."""
        self._next.extend([check_fault(name)] * times)

    def draw(self) -> str:
        """Give a fault's name, or nothing: an empty name."""
        if self._next:
            return self._next.popleft()
        if not self._probabilities:
            return ""
        point = self.random.random()
        for name, probability in self._probabilities:
            point -= probability
            if point < 0:
                return name
        return ""
