"""The retry budget: how many texts of interactive calls may be sent once more."""

from __future__ import annotations

import threading
from collections import deque

from ..config import OverloadConfig
from .window import Window

__all__ = ["RetryBudget"]

# Deposits that wait to be counted together, and the share of the window that is one moment.
_MOST_FRESH, _MOMENT = 64, 0.01
# Up to this share is repeated while no larger one of the texts fails, looked at over so much of the
# window. From an outage on it takes 0.04 of a window until that has ended, and a tenth of one until
# the share that is always allowed is used up: so an outage costs no more requests.
_CALM, _RECENT = 0.2, 0.2


class RetryBudget:
    """Allows repetitions in proportion to the texts sent lately, and a few in any case.

    Within the window, what is repeated is at most `retry_share` of what was sent for the first
    time, or `retry_floor` a second where that is more. With 10 %, repetitions never raise the
    traffic to more than 1.1 times what the callers ask for where much fails. While little does, it
    may be twice the share, 20 % at most: to repeat all of that costs little.
    """

    def __init__(self, config: OverloadConfig) -> None:
        self._share = config.retry_share
        self._calm_share = max(self._share, min(2 * self._share, _CALM))
        self._least = config.retry_floor * config.retry_window
        # Deposits that are not counted yet: appended without the lock, taken out under it.
        self._fresh: deque[tuple[float, int]] = deque()
        # Guards the windows: texts sent for the first time, and texts repeated; and of the latest
        # of the former, how many failed.
        self._lock = threading.Lock()
        self._texts = Window(config.retry_window)
        self._recent = Window(_RECENT * config.retry_window)
        self._moment = _MOMENT * config.retry_window

    def deposit(self, texts: int, now: float) -> None:
        """Note texts that were sent for the first time."""
        self._fresh.append((now, texts))
        if len(self._fresh) >= _MOST_FRESH:
            with self._lock:
                self._count_fresh()

    def note_failure(self, now: float) -> None:
        """Note that a text failed which was sent for the first time."""
        with self._lock:
            self._recent.add(now, 0, 1)

    def withdraw(self, texts: int, now: float, *, hedge: bool = False) -> bool:
        """Pay for sending texts once more, all or none; return whether the budget had as much.

        A hedge, of what has not failed, gets no more than the share that is always allowed.
        """
        with self._lock:
            self._count_fresh()
            self._forget(now)
            if texts > self._left(calm=not hedge):
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
            self._forget(now)
            return max(0.0, self._left())

    def _count_fresh(self) -> None:
        fresh, at, texts = self._fresh, 0.0, 0
        while fresh:
            now, more = fresh.popleft()
            if now - at > self._moment:  # those of a moment are counted together
                self._add(at, texts)
                at, texts = now, 0
            texts += more
        self._add(at, texts)

    def _add(self, at: float, texts: int) -> None:
        if texts:
            self._texts.add(at, texts, 0)
            self._recent.add(at, texts, 0)

    def _forget(self, now: float) -> None:
        self._texts.forget(now)
        self._recent.forget(now)

    def _left(self, calm: bool = True) -> float:
        calm = calm and self._recent.some <= _CALM * self._recent.all
        share = self._calm_share if calm else self._share
        return max(self._least, share * self._texts.all) - self._texts.some
