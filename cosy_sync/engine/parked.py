"""Workers that stand parked and are woken one by one: the cheapest hand-over between threads."""

from __future__ import annotations

import threading
from collections import deque

from ..errors import ClosedError
from .executor import Executor, Task

__all__ = ["ParkedExecutor"]

_Work = tuple[Task, object]


class _Worker:
    """A thread's place. `gate` stands locked until there is work, or None for the end."""

    __slots__ = ("gate", "work")

    def __init__(self, work: _Work | None) -> None:
        self.work = work
        self.gate = threading.Lock()
        self.gate.acquire()


class ParkedExecutor(Executor):
    """At most `workers` threads, each started when it is first needed.

    A task goes straight to the thread that was parked last; a queue between them would cost as
    much as the rest of the hand-over. Nobody waits for these threads at the end of the program:
    what they did was cut off by then.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        # Guards everything below.
        self._lock = threading.Lock()
        self._parked: list[_Worker] = []
        self._queue: deque[_Work] = deque()
        self._threads: list[threading.Thread] = []
        self._places = 0
        self._closed = False

    def submit(self, task: Task) -> None:
        """Give the task to a parked thread, a new one, or the next that is free.

        Raises ClosedError.
        """
        work = task, object()
        try:
            self._pending.add(work[1])
            self._submit(work)
        except BaseException:
            self._pending.discard(work[1])
            raise

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        with self._lock:
            self._closed = True
            parked, self._parked = self._parked, []
            threads = self._threads
        for worker in parked:
            worker.gate.release()
        if self.drain(0) and not self.is_inside():
            for thread in threads:
                thread.join()

    def _submit(self, work: _Work) -> None:
        worker: _Worker | None = None
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            if self._parked:
                worker = self._parked.pop()
            elif self._places >= self._workers:
                self._queue.append(work)
                return
            else:
                self._places += 1
        if worker is not None:
            worker.work = work
            worker.gate.release()
        else:
            self._start(work)

    def _start(self, work: _Work) -> None:
        worker = _Worker(work)
        thread = threading.Thread(
            target=self._serve, args=(worker,), name=f"cosy-worker-{id(worker)}", daemon=True
        )
        with self._lock:
            self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # no thread could be started: this one does it
            with self._lock:
                self._threads.remove(thread)
                self._places -= 1
            self._run(*work)

    def _serve(self, worker: _Worker) -> None:
        work = worker.work
        while work is not None:
            self._run(*work)
            work = self._next(worker)

    def _next(self, worker: _Worker) -> _Work | None:
        worker.work = None
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                return None
            self._parked.append(worker)
        worker.gate.acquire()
        return worker.work
