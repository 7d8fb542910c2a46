"""A tenant's door: so many of its jobs inside, the others in line, none of them on a worker."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

from ..errors import ClosedError
from .budget import Permits

__all__ = ["Gate"]


class Gate:
    """Lets `limit` jobs in at a time. Callers that wait themselves go before the line."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._permits = Permits(limit)
        self._urgent: deque[Callable[[], None]] = deque()
        self._normal: deque[Callable[[], None]] = deque()

    def acquire(self, *, urgent: bool = False, seconds: float = 0.0) -> bool:
        """Enter, waiting at most so many seconds; return whether that worked.

        Raises ClosedError when closed, also while waiting.
        """
        return self._permits.acquire(urgent=urgent, seconds=seconds)

    def enter_later(self, task: Callable[[], None], *, urgent: bool = False) -> None:
        """Call the task as soon as it may be inside: now, or on the thread of one who leaves.

        Urgent ones go before the others. Once closed, all are called at once, to end their jobs.
        """
        (self._urgent if urgent else self._normal).append(task)
        self._advance()

    def release(self) -> None:
        """Leave, and let the next one in."""
        self._permits.release()
        self._advance()

    def close(self) -> list[Callable[[], None]]:
        """Wake those who wait; return those in line, who will not come in."""
        self._permits.close()
        left = [*self._urgent, *self._normal]
        self._urgent.clear()
        self._normal.clear()
        return left

    def _advance(self) -> None:
        # Whoever joins the line tries the door afterwards, and whoever leaves looks at the line
        # afterwards: of two who do so at the same time one sees the other.
        while self._urgent or self._normal:
            # Closed: nobody leaves who could let them in, and those who wait would never be told.
            with contextlib.suppress(ClosedError):
                if not self._permits.acquire():
                    return
            task = _first(self._urgent) or _first(self._normal)
            if task is None:
                self._permits.release()
                continue
            task()


def _first(line: deque[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        return line.popleft()
    except IndexError:
        return None
