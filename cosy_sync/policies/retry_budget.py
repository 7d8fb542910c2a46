"""The retry budget: how many texts of interactive calls may be sent once more."""

from __future__ import annotations

import threading
from collections import deque

from ..config import OverloadConfig
from .window import Window

__all__ = ["RetryBudget"]

# Deposits that wait to be counted together, and the share of the window that is one moment.
_MOST_FRESH, _MOMENT = 64, 0.01


class RetryBudget:
    """Allows repetitions in proportion to the texts sent lately, and a few in any case.

    Within the window, what is repeated is at most `retry_share` of what was sent for the first
    time, or `retry_floor` a second where that is more. With 10 %, repetitions never raise the
    traffic to more than 1.1 times what the callers ask for, whatever fails.
    """

    def __init__(self, config: OverloadConfig) -> None:
        self._share = config.retry_share
        self._least = config.retry_floor * config.retry_window
        # Deposits that are not counted yet: appended without the lock, taken out under it.
        self._fresh: deque[tuple[float, int]] = deque()
        # Guards the window: texts sent for the first time, and texts repeated.
        self._lock = threading.Lock()
        self._texts = Window(config.retry_window)
        self._moment = _MOMENT * config.retry_window

    def deposit(self, texts: int, now: float) -> None:
        """Note texts that were sent for the first time."""
        self._fresh.append((now, texts))
        if len(self._fresh) >= _MOST_FRESH:
            with self._lock:
                self._count_fresh()

    def withdraw(self, texts: int, now: float) -> bool:
        """Pay for sending texts once more, all or none; return whether the budget had as much."""
        with self._lock:
            self._count_fresh()
            self._texts.forget(now)
            if texts > self._left():
                return False
            self._texts.add(now, 0, texts)
            return True

    def refund(self, texts: int, now: float) -> None:
        """Give back what was paid."""
        with self._lock:
            self._count_fresh()
            self._texts.add(now, 0, -texts)

    def balance(self, now: float) -> float:
        """Return how many texts may be sent once more."""
        with self._lock:
            self._count_fresh()
            self._texts.forget(now)
            return max(0.0, self._left())

    def _count_fresh(self) -> None:
        fresh, at, texts = self._fresh, 0.0, 0
        while fresh:
            now, more = fresh.popleft()
            if now - at > self._moment:  # those of a moment are counted together
                if texts:
                    self._texts.add(at, texts, 0)
                at, texts = now, 0
            texts += more
        if texts:
            self._texts.add(at, texts, 0)

    def _left(self) -> float:
        return max(self._least, self._share * self._texts.all) - self._texts.some
