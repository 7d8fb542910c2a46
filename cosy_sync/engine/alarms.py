"""What happens later: functions that are called at their time, on one thread of their own."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

__all__ = ["Alarms"]


class Alarms:
    """Calls functions after so many seconds. They must be quick, and must not raise."""

    def __init__(self) -> None:
        # Guards: everything below. The thread waits on it.
        self._lock = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._running = False
        self._closed = False

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the function in so many seconds; never, when closed before."""
        entry = time.monotonic() + seconds, next(self._numbers), action
        with self._lock:
            if self._closed:
                return
            heapq.heappush(self._heap, entry)
            starts, self._running = not self._running, True
            if self._heap[0] is entry:
                self._lock.notify()
        if starts:
            self._start()

    def close(self) -> None:
        """Call nothing any more, and let the thread end."""
        with self._lock:
            self._closed = True
            self._heap.clear()
            self._lock.notify()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="cosy-keeper", daemon=True).start()
        except RuntimeError:  # the machine is out of threads; the next alarm tries again
            self._running = False

    def _run(self) -> None:
        while True:
            action = self._next()
            if action is None:
                return
            action()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            while not self._closed:
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._heap)[2]
                self._lock.wait(left if left is None else min(left, threading.TIMEOUT_MAX))
            return None
