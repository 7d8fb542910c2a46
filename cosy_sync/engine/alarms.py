"""What happens later: functions that are called at their time, on one thread of their own."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from ..atomic import start_thread

__all__ = ["Alarms"]

_Entry = tuple[float, int, Callable[[], None]]


class Alarms:
    """Calls functions after so many seconds. They must be quick; what one raises is logged."""

    def __init__(self) -> None:
        # None ends the thread. Ctrl-C and finalisers cannot keep its lock.
        self._inbox: SimpleQueue[_Entry | None] = SimpleQueue()
        self._numbers = itertools.count()
        # Has an entry until the thread is started.
        self._places: list[tuple[()]] = [()]
        self._closed = False

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the function in so many seconds; never, when closed before."""
        if self._closed:
            return
        self._inbox.put((time.monotonic() + seconds, next(self._numbers), action))
        if self._places:
            # Without a thread (the machine has none left), the next alarm tries again.
            with contextlib.suppress(IndexError, RuntimeError):
                start_thread(self._places, self._start)

    def close(self) -> None:
        """Call nothing any more, and let the thread end."""
        self._closed = True
        self._inbox.put(None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="cosy-keeper", daemon=True).start()
        except RuntimeError:  # no more threads; but this one is there
            self._run()

    def _run(self) -> None:
        heap: list[_Entry] = []
        while not self._closed:
            left = heap[0][0] - time.monotonic() if heap else None
            if left is not None and left <= 0:
                _call(heapq.heappop(heap)[2])
                continue
            try:
                entry = self._inbox.get(timeout=left and min(left, threading.TIMEOUT_MAX))
            except Empty:
                continue
            if entry is not None:
                heapq.heappush(heap, entry)


def _call(action: Callable[[], None]) -> None:
    try:
        action()
    except BaseException:
        logging.getLogger("cosy_sync").exception("an alarm failed")
