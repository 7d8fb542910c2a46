"""A thread pool whose idle workers wait on a lock each, and are woken one by one."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque

from ..atomic import on_main_thread, release_last, start_thread
from ..errors import ClosedError
from ..user_code import log_failure
from .workers import Executor, Task

__all__ = ["LifoThreadPool"]


class LifoThreadPool(Executor):
    """At most `workers` threads, each started when it is first needed.

    A task is queued, and the thread that was parked last is woken for it, or a new one started.
    The end of the program does not wait for these threads: what they did was cut off by then.

    A worker is starting, running or parked. It parks under the lock, and only when nothing is
    queued; `submit` queues and wakes under the lock. Ctrl-C between the two leaves a task queued
    for which no worker was woken: the next submit, drain or close wakes one.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        # Guards: _closed, _threads, and that nobody parks while something is queued.
        self._lock = threading.Lock()
        self._queue: deque[Task] = deque()
        # A locked lock for each worker that stands parked.
        self._parked: deque[threading.Lock] = deque()
        # An entry for each thread that may still be started.
        self._places: list[tuple[()]] = [()] * workers
        # An entry for each thread that the main thread wants started, and one unless a thread is
        # at that already.
        self._wanted: list[tuple[()]] = []
        self._starters: list[tuple[()]] = [()]
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def contended(self) -> bool:
        """Return whether a task waits for a worker."""
        return bool(self._queue)

    def submit(self, task: Task) -> None:
        """Give the task to a parked thread, a new one, or the next that is free.

        Raises ClosedError.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed; make a new one")
            self._queue.append(task)
            if self._parked:
                release_last(self._parked)
                return
        # All workers run: each looks at the queue, under the lock, before it parks, so that the
        # task is seen even where no thread can be started for it.
        if self._places:
            self._grow()

    def close(self) -> None:
        """Take no more tasks and end the threads; a task that still runs is left to itself."""
        with self._lock:
            self._closed = True
            for _ in range(len(self._parked)):
                release_last(self._parked)
            threads = list(self._threads)
        if self.drain(0) and not self.is_inside():
            for thread in threads:
                thread.join()

    def _is_idle(self) -> bool:
        # In this order: a worker is pending before it takes anything out of the queue.
        if not self._queue:
            return super()._is_idle()
        with self._lock:
            parked = bool(self._parked)
            if parked:
                release_last(self._parked)
        if not parked and self._places:
            self._grow()
        return False

    def _grow(self) -> None:
        """Start a thread; where the machine has no more of them, this one does the work."""
        try:
            if on_main_thread():
                # Thread.start waits for an Event, in which Ctrl-C could keep a lock for ever.
                self._wanted.append(())
                start_thread(self._starters, self._start_threads)
            else:
                self._launch()
        except IndexError:  # somebody else took the last place, or starts threads already
            return
        except RuntimeError:
            self._run_queue()

    def _start_threads(self) -> None:
        """Start the threads that are wanted, one after the other: hundreds that start at once only
        wait for the GIL, and each wakes up every 5 ms to ask for it."""
        try:
            while True:
                try:
                    self._start_wanted()
                finally:
                    self._starters.append(())
                if not self._wanted:
                    return
                self._starters.pop()  # wanted since the last look, when this one was still at it
        except IndexError:  # no place is left, or another one starts threads
            return
        except RuntimeError:
            self._run_queue()

    def _start_wanted(self) -> None:
        while self._wanted:
            self._wanted.pop()
            if self._queue:  # else others were quicker
                self._launch()

    def _launch(self) -> None:
        """Take a place and start its thread. Raises IndexError, RuntimeError."""
        self._places.pop()
        name = f"cosy-worker-{next(self._numbers)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._places.append(())
            raise
        with self._lock:
            self._threads.append(thread)

    def _run_queue(self) -> None:
        with self.busy(), contextlib.suppress(IndexError):
            while True:
                self._run_here(self._queue.popleft())

    # -- on a worker ----------------------------------------------------------------------------

    def _serve(self) -> None:
        wakeup = threading.Lock()
        wakeup.acquire()
        self._local.inside = 1
        while True:
            try:
                if not self._serve_once(wakeup):
                    return
            except BaseException:  # somebody's asynchronous exception: the worker lives
                with self._lock, contextlib.suppress(ValueError):
                    self._parked.remove(wakeup)
                wakeup.acquire(blocking=False)  # it may have been woken just before
                log_failure("a worker failed, and goes on")

    def _serve_once(self, wakeup: threading.Lock) -> bool:
        """Run what is queued, park, and wait to be woken; return False when there is no more."""
        self.occupy(wakeup, threading.get_ident())
        self._work()
        with self._lock:
            if self._queue:  # queued since the last look, when this worker was not parked yet
                return True
            self.vacate(wakeup, None)
            if self._closed:
                return False
            self._parked.append(wakeup)
        wakeup.acquire()
        return True

    def _work(self) -> None:
        """Run what is queued; a parked worker keeps no reference to a finished task."""
        while True:
            try:
                task = self._queue.popleft()
            except IndexError:
                return
            try:
                task()
            except BaseException:  # a bug, as tasks catch their own: the worker lives
                log_failure("a worker's task failed")
            del task
