"""The memory that one reply takes, from its announcement until its audio is handed on."""

from __future__ import annotations

from ..clock import Clock
from ..errors import ClosedError
from ..threads.permits import Permits
from .batch import Batch

__all__ = ["ReplyMemory"]


class ReplyMemory:
    """Held by one attempt. `make` may wait; `leave` gives back all but what is kept."""

    __slots__ = ("_batch", "_clock", "_memory", "_size")

    def __init__(self, batch: Batch, memory: Permits, clock: Clock) -> None:
        self._batch = batch
        self._memory = memory
        self._clock = clock
        self._size: int | None = None

    def make(self, size: int) -> None:
        """Wait until a reply of so many bytes may come in; the room of an earlier reply of the same
        attempt is given back before. Raises DeadlineError."""
        if self._size is not None:
            self.leave()
        batch = self._batch
        if batch.reorder is not None:
            batch.reorder.enter(batch.first, size, batch.deadline.remaining(self._clock.now()))
        key, urgent = batch.tenant, batch.interactive
        if not self._memory.acquire(size, key=key, urgent=urgent) and not self._memory.acquire(
            size,
            key=key,
            urgent=urgent,
            seconds=batch.deadline.remaining(self._clock.now()),
            stop=batch.stop,
        ):
            if batch.reorder is not None:
                batch.reorder.settle(size, 0)
            if batch.stop.is_set():
                raise ClosedError("cancelled while its reply waited for room", sent=True)
            phase = "waiting for room in LimitConfig(max_bytes_in_flight)"
            raise batch.deadline.error(phase, in_flight=True)
        self._size = size

    def leave(self, kept: int = 0) -> None:
        """Give the room back, but for so many bytes of audio, which stay until they are handed
        out."""
        size, self._size = self._size, None
        if size is not None:
            self._memory.release(size)
        if self._batch.reorder is not None:
            self._batch.reorder.settle(size or 0, kept)
