"""The workers of a slow service: so many calls at a time, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections import deque

__all__ = ["Workers"]


class Workers:
    """At most `count` calls are worked on at once; the others wait.

    Timers wake up about a millisecond late. A call that was waiting meanwhile begins at the
    instant when the worker was due, so that n workers do n times the work of one.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        # When those that are free became so, or were due to.
        self._due = deque([float("-inf")] * count)

    async def take(self, arrived: float) -> float:
        """Wait for a worker; return when it begins with a call that came at that instant."""
        await self._free.acquire()
        return max(arrived, self._due.popleft())

    def give_back(self, due: float) -> None:
        """Note that a call is done, and when it was meant to be; in the future means now."""
        self._due.append(min(due, time.monotonic()))
        self._free.release()
