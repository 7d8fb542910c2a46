"""Where batches run: on a pool of threads, or, for tests and debugging, at once on the caller's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from ..errors import ClosedError

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor", "on_worker"]

T = TypeVar("T")

_PREFIX = "cosy-worker"


def on_worker() -> bool:
    """Return whether this is one of our worker threads."""
    return threading.current_thread().name.startswith(_PREFIX)


class Executor(Protocol):
    """Runs tasks that catch their own exceptions. Whoever submits bounds how many there are."""

    def submit(self, task: Callable[[], None]) -> None:
        """Run the task, now or soon. Raises ClosedError."""
        ...

    def run_here(self, task: Callable[[], T]) -> T:
        """Run the task on the caller's own thread, counted like the others."""
        ...

    def drain(self, seconds: float) -> bool:
        """Wait until no task is queued or running; return whether that came in time."""
        ...

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        ...


class ThreadExecutor:
    """At most `workers` threads, each started when it is first needed."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=_PREFIX)
        # Guards: _pending. It is also what drain() waits on.
        self._lock = threading.Condition(threading.Lock())
        self._pending = 0

    def submit(self, task: Callable[[], None]) -> None:
        """Queue the task for the next free worker. Raises ClosedError."""
        self._count(1)
        try:
            self._pool.submit(self._run, task)
        except RuntimeError as error:
            self._count(-1)
            raise ClosedError(f"the client is closed ({error})") from None

    def run_here(self, task: Callable[[], T]) -> T:
        """Run the task on the caller's own thread, counted like the others."""
        self._count(1)
        try:
            return task()
        finally:
            self._count(-1)

    def drain(self, seconds: float) -> bool:
        """Wait until no task is queued or running; return whether that came in time."""
        mine = 1 if on_worker() else 0
        with self._lock:
            return self._lock.wait_for(lambda: self._pending <= mine, seconds)

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        self._pool.shutdown(wait=self.drain(0) and not on_worker())

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._pending += change
            if change < 0:
                self._lock.notify_all()


class SerialExecutor:
    """Runs each task before `submit` returns: the same work, one by one, in order."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, task: Callable[[], None]) -> None:
        """Run the task now. Raises ClosedError."""
        if self._closed:
            raise ClosedError("the client is closed")
        task()

    def run_here(self, task: Callable[[], T]) -> T:
        """Run the task."""
        return task()

    def drain(self, seconds: float) -> bool:
        """Return True: nothing is ever left."""
        return True

    def close(self) -> None:
        """Take no more tasks."""
        self._closed = True
