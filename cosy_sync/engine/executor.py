"""Where batches run: on a pool of threads, or, for tests and debugging, at once on the caller's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..errors import ClosedError

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor"]

Task = Callable[[], None]

# Seconds between two looks at what is still pending while an executor is drained.
_LOOK = 0.01


class Executor:
    """Runs tasks that catch their own exceptions. Whoever submits bounds how many there are."""

    def __init__(self) -> None:
        # What is queued, running or busy. Adding to a set and discarding from it are atomic; a
        # lock here would be the one that all workers of a process meet at.
        self._pending: set[object] = set()
        self._local = threading.local()

    @property
    def contended(self) -> bool:
        """Return whether a task waits for a worker."""
        return False

    def submit(self, task: Task) -> None:
        """Run the task, now or soon. Raises ClosedError."""
        raise NotImplementedError

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        raise NotImplementedError

    def busy(self) -> Busy:
        """Count the work that is done in this `with` on the caller's own thread like a task."""
        return Busy(self._pending, self._local)

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is queued or running; return whether that came in time.

        A task that asks does not wait for itself, nor for those that it runs within.
        """
        mine = self._mine("inside") + self._mine("busy")
        until = time.monotonic() + seconds
        while len(self._pending) > mine:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True

    def is_inside(self) -> bool:
        """Return whether this very thread runs one of its tasks."""
        return self._mine("inside") > 0

    def _run(self, task: Task, token: object) -> None:
        # Tasks lie within each other where one runs on the thread that submits it.
        self._local.inside = self._mine("inside") + 1
        try:
            task()
        finally:
            self._local.inside -= 1
            self._pending.discard(token)

    def _mine(self, what: str) -> int:
        """Return how many tasks, or stretches of being busy, this very thread is inside of."""
        count: int = getattr(self._local, what, 0)
        return count


class Busy:
    """A stretch of work on the caller's own thread, counted with an executor's tasks.

    No contextlib.contextmanager: each call of a single text makes one of these.
    """

    __slots__ = ("_before", "_local", "_pending")

    def __init__(self, pending: set[object], local: threading.local) -> None:
        self._pending = pending
        self._local = local
        self._before: int = getattr(local, "busy", 0)

    def __enter__(self) -> None:
        self._pending.add(self)
        self._local.busy = self._before + 1

    def __exit__(self, *_: object) -> None:
        self._pending.discard(self)
        self._local.busy = self._before


class ThreadExecutor(Executor):
    """At most `workers` threads, each started when it is first needed."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cosy-worker")
        # Submitted and not begun; atomic like _pending.
        self._queued: set[object] = set()

    @property
    def contended(self) -> bool:
        """Return whether a task waits for a worker."""
        return bool(self._queued)

    def submit(self, task: Task) -> None:
        """Queue the task for the next free worker. Raises ClosedError."""
        first = threading.Lock()

        def once() -> None:
            if first.acquire(blocking=False):
                self._queued.discard(first)
                self._run(task, first)

        try:
            self._pending.add(first)
            self._queued.add(first)
            self._pool.submit(once)
        except RuntimeError as error:
            if "shutdown" in str(error):
                self._queued.discard(first)
                self._pending.discard(first)
                raise ClosedError("the client is closed; make a new one") from None
            # No thread could be started, but the task was queued all the same: whoever comes
            # first runs it, this thread or a worker that lives.
            once()
        except BaseException:  # Ctrl-C: whoever drains must not wait for a task that never came
            if first.acquire(blocking=False):
                self._queued.discard(first)
                self._pending.discard(first)
            raise

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        self._pool.shutdown(wait=self.drain(0) and not self.is_inside())


class SerialExecutor(Executor):
    """Runs each task before `submit` returns: the same work, one by one, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def submit(self, task: Task) -> None:
        """Run the task now. Raises ClosedError."""
        if self._closed:
            raise ClosedError("the client is closed; make a new one")
        self._pending.add(task)
        self._run(task, task)

    def close(self) -> None:
        """Take no more tasks."""
        self._closed = True
