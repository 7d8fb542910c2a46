"""The share of failures among what was lately tried, where a success must cost nothing."""

from __future__ import annotations

from collections import deque

__all__ = ["FailureShare"]

# Seconds for which a failure is remembered, and how many are.
_MEMORY = 30.0
_MOST = 64


class FailureShare:
    """Failures of the latest seconds, each with the number of successes before it.

    Its owner counts the successes, and its lock guards `add`; `of` needs none.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float, int]] = deque(maxlen=_MOST)

    def add(self, key: float, successes: int, now: float) -> None:
        """Note a failure of what first failed at the instant `key`; it counts once."""
        if any(mark[1] == key for mark in self._marks):
            return
        self._marks.append((now, key, successes))
        while now - self._marks[0][0] >= _MEMORY and len(self._marks) > 1:
            self._marks.popleft()

    def of(self, successes: int, now: float, more: int = 0, fewest: int = 1) -> float:
        """Return the share of failures, with so many more of them; 0 where fewer than `fewest` are
        known, or fewer successes beside them than four times as many."""
        if len(self._marks) < fewest or now - self._marks[-1][0] >= _MEMORY:
            return 0.0
        failures, good = len(self._marks) + more, successes - self._marks[0][2]
        if fewest > 1 and good < 4 * fewest:
            return 0.0
        return failures / (failures + good)
