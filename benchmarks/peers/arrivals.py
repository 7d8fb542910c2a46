"""An open loop: texts arrive at their own pace, whatever became of those before."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.task import Task

__all__ = ["Arrivals"]

_TICK = 0.002
# Seconds that texts under way get after the last one arrived.
_DRAIN = 10.0


class Arrivals:
    """Offers texts and notes what becomes of each. `offer` must not wait for the result."""

    def __init__(self, task: Task) -> None:
        self._task = task
        # Each finished text: when it arrived, when it ended, whether it is audio.
        self._ended: list[tuple[float, float, bool]] = []
        self._errors: Counter[str] = Counter()
        self._threads = 0

    def end(self, arrived: float, error: BaseException | None) -> None:
        """Note that a text became audio, or failed; on any thread."""
        self._ended.append((arrived, time.monotonic(), error is None))
        if error is not None:
            self._errors[type(error).__name__] += 1

    def run(self, offer: Callable[[str, float], None]) -> dict[str, Any]:
        """Offer `rate` texts per second for `seconds`; wait for the last; return the numbers."""
        rate, count = self._task.rate, int(self._task.rate * self._task.seconds)
        began, offered = time.monotonic(), 0
        while offered < count:
            due = min(count, int((time.monotonic() - began) * rate))
            for number in range(offered, due):
                offer(f"请第{number:08d}号车辆注意前方路口", began + number / rate)
            offered = due
            self._threads = max(self._threads, threading.active_count())
            time.sleep(_TICK)
        until = time.monotonic() + _DRAIN
        while len(self._ended) < count and time.monotonic() < until:
            time.sleep(0.05)
        return self._numbers(began, count, list(self._ended))

    def _numbers(
        self, began: float, count: int, ended: list[tuple[float, float, bool]]
    ) -> dict[str, Any]:
        stopped = time.monotonic()
        unfinished = count - len(ended)
        # A text that nobody finished has waited at least from its arrival until now; they are the
        # last ones, so the mean and the quantile come out too low, if at all.
        waits = [(end - arrived) * 1000 for arrived, end, _ in ended]
        last = [number / self._task.rate for number in range(count - unfinished, count)]
        waits = sorted(waits + [(stopped - began - at) * 1000 for at in last])
        good = Counter(int(end - began) for _, end, ok in ended if ok)
        spoken = sum(good.values())
        return {
            "goodput": spoken / (self._task.seconds + _DRAIN if unfinished else stopped - began),
            "peak_goodput": max(good.values(), default=0),
            "mean_ms": statistics.fmean(waits),
            "p99_ms": waits[int(0.99 * (len(waits) - 1))],
            "error_share": 1 - spoken / count,
            "errors": {**self._errors, "unfinished": unfinished},
            "threads": self._threads,
        }
