"""The one background thread of a process: what is done later, and what finalisers leave behind.

It starts with a job, and ends when there was none for a while, or once every schedule is closed. A
forked child has one of its own, from its first job on.

Everything comes in through a SimpleQueue, whose `put` is one call of C code: a finaliser, which the
collector runs at any line of any thread, waits for no lock there.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from ..atomic import Flag, start_thread
from ..forks import renew_after_fork
from ..user_code import log_failure

__all__ = ["Schedule", "leave_behind", "open_schedule"]

# Seconds after which what found no thread is tried again, and what broke goes on.
_AGAIN = 1.0
# Seconds without any job after which the thread ends, though somebody may have one again.
_LINGER = 5.0

Job = Callable[[], object]


class Schedule:
    """One owner's jobs. They are short, and wait for nothing; what one raises is logged."""

    def __init__(self, scheduler: _Scheduler) -> None:
        self._scheduler = scheduler
        self.closed = False

    def after(self, seconds: float, job: Job) -> bool:
        """Do the job in `seconds`; never, when closed before. Safe within finalisers.

        Return False where the machine is out of threads: then the next one who posts tries again.
        """
        return self.closed or self._scheduler.post(seconds, job, self)

    def close(self, seconds: float = 0.0) -> None:
        """Begin no job any more. Where nobody else has a schedule the thread ends: wait for that at
        most `seconds`. Safe within finalisers, without any."""
        self.closed = True
        self._scheduler.discard(self, seconds)


def open_schedule() -> Schedule:
    """Return a schedule; it must be closed."""
    return _scheduler.open()


def leave_behind(work: Job) -> None:
    """Do work that a finaliser cannot do, soon, on a thread of its own.

    It may take locks, and wait. Where the machine is out of threads, it is tried again and again.
    """
    _scheduler.post(0.0, functools.partial(_start, work), None)


class _Entry:
    """A job at its instant, in time.monotonic's seconds. `owner`: None where it has no end."""

    __slots__ = ("at", "job", "number", "owner")

    def __init__(self, at: float, number: int, job: Job, owner: Schedule | None) -> None:
        self.at = at
        self.number = number
        self.job = job
        self.owner = owner

    def __lt__(self, other: _Entry) -> bool:
        return (self.at, self.number) < (other.at, other.number)

    @property
    def over(self) -> bool:
        """Return whether nobody wants it any more."""
        return self.owner is not None and self.owner.closed


class _Scheduler:
    """The thread and its inbox. There is no lock: every use of a field is one atomic step.

    The thread is away (`_places` has an entry), or it runs. Whoever posts looks for the entry
    afterwards, takes it and starts the thread; the thread puts it back before it ends and looks at
    the inbox afterwards. Of the two, one sees the other.
    """

    def __init__(self) -> None:
        # None: look whether somebody is gone.
        self._inbox: SimpleQueue[_Entry | None] = SimpleQueue()
        self._numbers = itertools.count()
        self._places: list[tuple[()]] = [()]
        # Those that are not closed.
        self._schedules: set[Schedule] = set()
        self._thread: threading.Thread | None = None
        # Which thread it is, also where it is a bare one; set when that is done.
        self._ident = 0
        self._ended = Flag()
        # The thread's own: what is to be done, and whether nothing was for a while.
        self._heap: list[_Entry] = []
        self._idle = False

    def open(self) -> Schedule:
        """Return a new schedule."""
        schedule = Schedule(self)
        self._schedules.add(schedule)
        return schedule

    def post(self, seconds: float, job: Job, owner: Schedule | None) -> bool:
        """Have a job done in `seconds`; return whether there is a thread for it."""
        if self is not _scheduler:
            return True  # in a forked child: a job of the parent's; see `discard`
        seconds = seconds if seconds > 0.0 else 0.0  # nor what is no number
        self._inbox.put(_Entry(time.monotonic() + seconds, next(self._numbers), job, owner))
        if self._places:
            try:
                start_thread(self._places, self._launch)
            except IndexError:  # somebody else was quicker
                return True
            except RuntimeError:
                return False
        return True

    def discard(self, schedule: Schedule, seconds: float) -> None:
        """Forget a schedule; see its `close`."""
        self._schedules.discard(schedule)
        if self is not _scheduler:
            # In a forked child it is the parent's: from Python 3.13 on, `put` would wake the thread
            # that waits there by its stack, which does not exist here, and crash.
            return
        if not self._places:
            self._inbox.put(None)
        # Within a finaliser there are no seconds.
        if seconds <= 0.0 or self._ident in (0, threading.get_ident()):
            return
        until = time.monotonic() + seconds
        thread, ended = self._thread, self._ended
        while not self._schedules and not ended.is_set():
            left = until - time.monotonic()
            if left <= 0.0:
                return
            ended.wait(min(left, 0.05))  # somebody else may open one meanwhile
        if ended.is_set() and thread is not None:
            with contextlib.suppress(RuntimeError):  # the next one, which has not started yet
                thread.join(max(0.0, until - time.monotonic()))

    def _launch(self) -> None:
        try:
            self._thread = threading.Thread(target=self._run, name="cosy-keeper", daemon=True)
            self._thread.start()
        except RuntimeError:  # no more threads; but this one, a bare one, is there
            self._thread = None
            self._run()

    # -- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        ended, self._ident = Flag(), threading.get_ident()
        self._ended = ended
        while True:
            try:
                self._idle = False
                while True:
                    if self._may_end():
                        break
                    self._do_next()
                ended.set()
                return
            except BaseException:  # a bug, or somebody's asynchronous exception: it goes on
                log_failure("the scheduler failed, and goes on")
                time.sleep(_AGAIN)

    def _do_next(self) -> None:
        """Do the job that is due, or wait for the next one, or for news."""
        heap = self._heap
        left = heap[0].at - time.monotonic() if heap else _LINGER
        if left <= 0.0:
            entry = heapq.heappop(heap)
            if not entry.over:
                _do(entry.job)
            return
        try:
            news = self._inbox.get(timeout=min(left, threading.TIMEOUT_MAX))
        except Empty:
            self._idle = not heap
            return
        self._idle = False
        if news is not None:
            if not news.over:
                heapq.heappush(heap, news)
            return
        heap[:] = [entry for entry in heap if not entry.over]
        heapq.heapify(heap)

    def _may_end(self) -> bool:
        if self._heap or not self._inbox.empty() or (self._schedules and not self._idle):
            return False
        self._places.append(())
        if self._inbox.empty():
            return True
        try:
            self._places.pop()
        except IndexError:  # whoever posted has started another one
            return True
        return False


def _do(job: Job) -> None:
    try:
        job()
    except BaseException:
        log_failure("a job of the scheduler failed")


def _start(work: Job) -> None:
    """Start a thread for the work; where there is none, try again later."""
    try:
        threading.Thread(target=_do, args=(work,), name="cosy-reaper", daemon=True).start()
    except RuntimeError:
        _scheduler.post(_AGAIN, functools.partial(_start, work), None)


_scheduler = _Scheduler()


def _renew() -> None:
    """In a forked child: the thread is gone, and its jobs were the parent's."""
    global _scheduler
    _scheduler = _Scheduler()


renew_after_fork(_renew)
