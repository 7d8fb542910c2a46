"""Batches of one call that are ready for a worker, each with its place at the tenant's gate."""

from __future__ import annotations

from collections import deque

from .gate import Gate
from .job import Job

__all__ = ["Ready"]


class Ready:
    """First come, first served. Every use of its fields is one atomic step.

    A batch keeps its place at the gate until `leave`, also while a worker runs it.
    """

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate
        self._jobs: deque[Job] = deque()
        self._inside: set[Job] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def enter(self, job: Job, jobs: set[Job], seconds: float) -> bool:
        """Make a batch ready, and note it among the jobs, once it has its place at the gate; return
        whether it got one within `seconds`."""
        try:
            if self._gate is not None:
                if not self._gate.acquire(seconds=seconds):
                    return False
                self._inside.add(job)
            jobs.add(job)
            self._jobs.append(job)
        except BaseException:  # Ctrl-C; a worker that took the job meanwhile finds its place gone
            self.leave(job)
            raise
        return True

    def take(self) -> Job | None:
        """Take the next one out; None when there is none."""
        try:
            return self._jobs.popleft()
        except IndexError:
            return None

    def clear(self) -> list[Job]:
        """Take all of them out and give their places back."""
        left: list[Job] = []
        while (job := self.take()) is not None:
            self.leave(job)
            left.append(job)
        return left

    def leave(self, job: Job) -> None:
        """Give a batch's place back; a second time does nothing."""
        if self._gate is None:
            return
        try:
            self._inside.remove(job)
        except KeyError:
            return
        self._gate.release()
