"""Workers that stand parked and are woken one by one: the cheapest hand-over between threads."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from ..errors import ClosedError
from .executor import Executor, Task

__all__ = ["ParkedExecutor"]

_Work = tuple[Task, object]


class _Worker:
    """A thread's place. `gate` stands locked until there is work, or the end; `work` is what it
    does, None while it stands parked."""

    __slots__ = ("gate", "thread", "work")

    def __init__(self, work: _Work, serve: Callable[[_Worker], None]) -> None:
        self.work: _Work | None = work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread = threading.Thread(
            target=serve, args=(self,), name=f"cosy-worker-{id(self)}", daemon=True
        )


class ParkedExecutor(Executor):
    """At most `workers` threads, each started when it is first needed.

    A task goes straight to the thread that was parked last; a queue between them would cost as
    much as the rest of the hand-over. Nobody waits for these threads at the end of the program:
    what they did was cut off by then.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        # Guards everything below, and every worker's `work`.
        self._lock = threading.Lock()
        self._parked: list[_Worker] = []
        self._queue: deque[_Work] = deque()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, task: Task) -> None:
        """Give the task to a parked thread, a new one, or the next that is free.

        Raises ClosedError.
        """
        work = task, object()
        taken: list[_Worker] = []
        try:
            self._pending.add(work[1])
            self._submit(work, taken)
        except BaseException:  # Ctrl-C, at any line
            if not self._give_back(work, taken):
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

    def _submit(self, work: _Work, taken: list[_Worker]) -> None:
        """Hand the work over; `taken` holds the worker as soon as it belongs to nobody else."""
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            parked = bool(self._parked)
            if parked:
                # One step: Ctrl-C finds the worker here or there.
                taken.extend(map(list.pop, [self._parked]))
                taken[0].work = work
            elif len(self._threads) >= self._workers:
                self._queue.append(work)
                return
            else:
                taken.append(_Worker(work, self._serve))
                self._threads.append(taken[0].thread)
        if parked:
            taken[0].gate.release()
        else:
            self._start(taken[0].thread, work)

    def _start(self, thread: threading.Thread, work: _Work) -> None:
        try:
            thread.start()
        except RuntimeError:  # no thread could be started: this one does it
            with self._lock:
                self._threads.remove(thread)
            self._run(*work)

    def _give_back(self, work: _Work, taken: list[_Worker]) -> bool:
        """Leave no worker behind that nobody would wake; return whether the work is done anyway."""
        with self._lock:
            for worker in taken:
                if worker.thread.ident is None:
                    with contextlib.suppress(ValueError):
                        self._threads.remove(worker.thread)
                elif worker.work is work:
                    with contextlib.suppress(RuntimeError):  # it was rung already
                        worker.gate.release()
                    return True
                elif worker.work is None and worker not in self._parked:
                    self._parked.append(worker)
        return False

    def _serve(self, worker: _Worker) -> None:
        work = worker.work
        while work is not None:
            self._run(*work)
            work = None  # whoever stands parked holds nothing of what is done
            work = self._next(worker)

    def _next(self, worker: _Worker) -> _Work | None:
        with self._lock:
            worker.work = self._queue.popleft() if self._queue else None
            if worker.work is not None or self._closed:
                return worker.work
            self._parked.append(worker)
        while True:
            worker.gate.acquire()
            # It may have been rung once too often.
            if (work := worker.work) is not None or self._closed:
                return work
