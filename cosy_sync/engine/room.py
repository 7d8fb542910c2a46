"""The memory that one reply takes, from its announcement until its audio is handed on."""

from __future__ import annotations

from ..clock import Clock
from .budget import Permits
from .job import Job

__all__ = ["Room"]


class Room:
    """Held by one attempt. `make` may wait; `leave` gives back all but what was kept."""

    def __init__(self, job: Job, memory: Permits, clock: Clock) -> None:
        self._job = job
        self._memory = memory
        self._clock = clock
        self._size: int | None = None
        self._kept = 0

    def make(self, size: int) -> None:
        """Wait until a reply of so many bytes may come in; an attempt may have several. Raises
        DeadlineError."""
        job = self._job
        if job.backlog is not None:
            job.backlog.enter(job.first, size, job.deadline.remaining(self._clock.now()))
        left = job.deadline.remaining(self._clock.now())
        if not self._memory.acquire(size, key=job.tenant, urgent=job.interactive, seconds=left):
            if job.backlog is not None:
                job.backlog.change(-size)
            raise job.deadline.error("waiting for room in LimitConfig(max_bytes_in_flight)")
        self._size = size + (self._size or 0)

    def keep(self, size: int) -> None:
        """Say how many bytes of audio go on to wait for their turn."""
        self._kept = size

    def leave(self) -> None:
        """Give the room back."""
        if self._size is not None:
            self._memory.release(self._size)
        if self._job.backlog is not None:
            self._job.backlog.change(self._kept - (self._size or 0))
