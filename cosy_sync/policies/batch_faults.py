"""When a failed batch counts against its endpoint: one of its texts may have broken it."""

from __future__ import annotations

from collections.abc import Callable

from .window import Window

__all__ = ["BatchFaults"]


class BatchFaults:
    """Counts the failures of batches that one of their texts may have caused.

    They do not count before so many calls in a row have failed as make the endpoint seem dead: then
    all of them do. The text that is found to have done it counts where the breaker would open if
    as many calls failed.

    Args:
        window: Seconds for which texts are remembered.
        ratio: Share of failures at which the breaker opens.
        enough: Calls in a row that make the endpoint seem dead.
    """

    def __init__(self, window: float, ratio: float, enough: int) -> None:
        # Calls of several texts that failed since the latest success, and do not count yet.
        self.held_back = 0
        # Texts of batches that were spoken or failed alone; those that failed.
        self._texts = Window(window)
        self._ratio = ratio
        self._enough = enough

    def succeed(self, texts: int, apart: bool, now: float) -> None:
        """Note a call that was answered; `apart`: its text had failed with others before."""
        self.held_back = 0
        if texts > 1 or apart:
            self._texts.add(now, texts, 0)

    def fail(
        self, texts: int, apart: bool, probe: bool, now: float, dead: Callable[[int], bool]
    ) -> int:
        """Note a call that failed; return how many failures count now.

        `dead` tells whether so many failures in a row make the endpoint seem dead.
        """
        if apart:
            self._texts.add(now, 1, 1)
            return int(self._texts.some >= self._ratio * self._texts.all)
        counts = int(texts == 1)
        self.held_back += 1 - counts
        if probe:
            return 1
        held = self.held_back
        if held and (held >= self._enough or dead(held + counts)):
            self.held_back = 0
            return held + counts
        return counts
