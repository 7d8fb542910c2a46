"""When a call is late enough to be sent a second time: a quantile of the latest calls' pace."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque

from ..config import HedgeConfig

__all__ = ["HedgePolicy"]

# Calls that are kept at most, however long the window.
_MOST = 1_000


class HedgePolicy:
    """Knows how long calls take for each character, and so when one of them is late.

    The pace of a call is its seconds by the characters of its longest text, because a call takes
    as long as that one. Late is what is slower than the quantile (nearest rank: the smallest
    value that at least this share of the calls does not exceed) of the calls in the window.
    """

    def __init__(self, config: HedgeConfig) -> None:
        self._quantile = config.quantile
        self._least = config.min_samples
        self._window = config.window
        # Guards: both lists below, which hold the same paces: by age, and by size.
        self._lock = threading.Lock()
        self._by_age: deque[tuple[float, float]] = deque()
        self._by_size: list[float] = []

    def note(self, seconds: float, chars: int, now: float) -> None:
        """Note a call that ended well after `seconds`.

        Args:
            seconds: From sending it until the reply was whole.
            chars: Of its longest text, above 0.
            now: Monotonic seconds.
        """
        pace = seconds / chars
        with self._lock:
            if len(self._by_age) >= max(_MOST, self._least):
                self._forget()
            self._by_age.append((now, pace))
            insort(self._by_size, pace)

    def delay(self, chars: int, now: float) -> float | None:
        """Return the seconds after which a call is late; None while too few calls are known."""
        with self._lock:
            self._forget_before(now - self._window)
            known = len(self._by_size)
            if known < self._least:
                return None
            return self._by_size[math.ceil(self._quantile * known) - 1] * chars

    def _forget_before(self, then: float) -> None:
        while self._by_age and self._by_age[0][0] <= then:
            self._forget()

    def _forget(self) -> None:
        _, pace = self._by_age.popleft()
        del self._by_size[bisect_left(self._by_size, pace)]
