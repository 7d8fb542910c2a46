"""Where batches run: on a pool of threads, or, for tests and debugging, at once on the caller's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import ClosedError

__all__ = ["Executor", "SerialExecutor", "Task"]

Task = Callable[[], None]

# Seconds between two looks at what is still pending while an executor is drained.
_LOOK = 0.01


class Executor:
    """Runs tasks that catch their own exceptions. Whoever submits bounds how many there are."""

    def __init__(self) -> None:
        # What runs or is busy, with its thread. Each change of it is one atomic step; for a lock
        # all workers of the process would compete.
        self._pending: dict[object, int] = {}
        self._local = threading.local()
        # Counts work of a thread (its number) like a task, until `vacate(work, None)`. Each is one
        # call of C code: no Ctrl-C comes in between.
        self.occupy: Callable[[object, int], object] = self._pending.__setitem__
        self.vacate: Callable[[object, None], object] = self._pending.pop

    @property
    def contended(self) -> bool:
        """Return whether a task waits for a worker."""
        return False

    def submit(self, task: Task) -> None:
        """Run the task, now or soon. Raises ClosedError.

        Where Ctrl-C ends this, the task runs all the same, or never.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        raise NotImplementedError

    def busy(self) -> Busy:
        """Count the work that is done in this `with` on the caller's own thread like a task."""
        return Busy(self._pending)

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is queued or running; return whether that came in time.

        A task that asks does not wait for itself, nor for those that it runs within.
        """
        until = time.monotonic() + seconds
        while not self._is_idle():
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True

    def is_inside(self) -> bool:
        """Return whether this very thread runs one of its tasks."""
        return getattr(self._local, "inside", 0) > 0

    def _is_idle(self) -> bool:
        """Return whether no other thread has anything to do."""
        mine = threading.get_ident()
        return all(thread == mine for thread in list(self._pending.values()))

    def _run_here(self, task: Task) -> None:
        # Tasks lie within each other where one runs on the thread that submits it.
        local, token = self._local, object()
        inside = getattr(local, "inside", 0)
        try:
            local.inside = inside + 1
            self.occupy(token, threading.get_ident())
            task()
        finally:
            local.inside = inside
            self.vacate(token, None)


class Busy:
    """A stretch of work on the caller's own thread, counted with an executor's tasks.

    No contextlib.contextmanager: each call of a single text makes one of these.
    """

    __slots__ = ("_pending",)

    def __init__(self, pending: dict[object, int]) -> None:
        self._pending = pending

    def __enter__(self) -> None:
        self._pending[self] = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._pending.pop(self, None)


class SerialExecutor(Executor):
    """Runs each task before `submit` returns: the same work, one by one, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def submit(self, task: Task) -> None:
        """Run the task now. Raises ClosedError."""
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        self._run_here(task)

    def close(self) -> None:
        """Take no more tasks."""
        self._closed = True
