"""Batches of one call that are ready for a worker, each with its place in the tenant's limit."""

from __future__ import annotations

from collections import deque

from .batch import Batch
from .tenants import TenantLimit

__all__ = ["ReadyBatches"]


class ReadyBatches:
    """First come, first served. Every use of its fields is one atomic step.

    A batch keeps its place until `leave`, also while a worker runs it.
    """

    def __init__(self, tenant_limit: TenantLimit | None) -> None:
        self._tenant_limit = tenant_limit
        self._batches: deque[Batch] = deque()
        self._inside: set[Batch] = set()

    def __len__(self) -> int:
        return len(self._batches)

    def enter(self, batch: Batch, batches: set[Batch], seconds: float) -> bool:
        """Make a batch ready, noted among the others, once it has its place; return
        whether it got one within `seconds`."""
        try:
            if self._tenant_limit is not None:
                if not self._tenant_limit.acquire(seconds=seconds):
                    return False
                self._inside.add(batch)
            batches.add(batch)
            self._batches.append(batch)
        except BaseException:  # Ctrl-C; a worker that took the batch meanwhile finds its place gone
            self.leave(batch)
            raise
        return True

    def take(self) -> Batch | None:
        """Take the next one out; None when there is none."""
        try:
            return self._batches.popleft()
        except IndexError:
            return None

    def clear(self) -> list[Batch]:
        """Take all of them out and give their places back."""
        left: list[Batch] = []
        while (batch := self.take()) is not None:
            self.leave(batch)
            left.append(batch)
        return left

    def leave(self, batch: Batch) -> None:
        """Give a batch's place back; a second time does nothing."""
        if self._tenant_limit is None:
            return
        try:
            self._inside.remove(batch)
        except KeyError:
            return
        self._tenant_limit.release()
