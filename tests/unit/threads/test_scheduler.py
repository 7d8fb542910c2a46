"""The scheduler: each job once, in the order of their times, on a thread that nothing ends but the
last schedule's end."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from lanes import eventually

from cosy_sync.threads import Schedule, leave_behind, open_schedule, scheduler


@pytest.fixture
def schedule() -> Iterator[Schedule]:
    made = open_schedule()
    yield made
    made.close(20)


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cosy-keeper"]


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_earliest_job_is_done_first_whatever_was_posted_first(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    at = [time.monotonic()]
    clock = SimpleNamespace(monotonic=lambda: at[0], sleep=time.sleep)
    monkeypatch.setattr("cosy_sync.threads.scheduler.time", clock)
    schedule.after(0.2, lambda: done.append("late"))
    schedule.after(0.1, lambda: done.append("early"))
    schedule.after(0.0, lambda: done.append("now"))
    eventually(lambda: done)
    at[0] += 1.0
    schedule.after(0.0, lambda: done.append("last"))
    eventually(lambda: len(done) == 4)
    assert done == ["now", "early", "late", "last"]


def test_jobs_of_one_instant_keep_their_order(schedule: Schedule) -> None:
    done: list[int] = []
    for number in range(50):
        schedule.after(-1.0, lambda number=number: done.append(number))
    eventually(lambda: len(done) == 50)
    assert done == list(range(50))


def test_a_closed_one_begins_nothing_any_more_and_leaves_no_thread() -> None:
    gc.collect()  # what other tests dropped
    eventually(lambda: not keepers())
    schedule, done = open_schedule(), threading.Event()
    schedule.after(0.1, done.set)
    schedule.close(20)
    eventually(lambda: not keepers())
    schedule.after(0.0, done.set)
    assert not done.wait(0.3)


def test_the_end_of_one_schedule_is_not_the_end_of_another(schedule: Schedule) -> None:
    other, done_by = open_schedule(), []
    other.after(60.0, lambda: None)
    eventually(keepers)
    (thread,) = keepers()
    schedule.after(0.05, lambda: done_by.append(threading.current_thread()))
    other.close(20)
    eventually(lambda: done_by == [thread])


def test_no_thread_runs_before_the_first_job(schedule: Schedule) -> None:
    assert keepers() == []


def test_when_the_machine_is_out_of_threads_the_next_job_tries_again(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [threading.Event(), threading.Event()]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    schedule.after(0.0, done[0].set)
    monkeypatch.undo()
    schedule.after(0.0, done[1].set)
    assert done[0].wait(60) and done[1].wait(60)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_job_that_breaks_is_not_the_last_though_its_log_breaks_too(
    schedule: Schedule, broken_log: None, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    done = threading.Event()
    schedule.after(0.0, fail)
    schedule.after(0.01, done.set)
    assert done.wait(60)


def test_an_exception_out_of_nowhere_does_not_end_the_thread(
    schedule: Schedule, broken_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.threads.scheduler._AGAIN", 0.01)
    done_by: list[threading.Thread] = []
    schedule.after(600.0, lambda: None)  # or it would end by itself
    eventually(lambda: schedule._scheduler._heap)  # it is at work, not still on its way there
    # It wakes up by itself: until it does, CPython 3.11 goes round in a circle under coverage.
    schedule.after(0.1, lambda: None)
    (thread,) = keepers()
    raise_there = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raise_there(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    schedule.after(0.0, lambda: None)
    schedule.after(0.01, lambda: done_by.append(threading.current_thread()))
    eventually(lambda: done_by == [thread])


def test_what_is_left_behind_may_wait_and_delays_no_job(schedule: Schedule) -> None:
    go, ended, done = threading.Event(), threading.Event(), threading.Event()
    names: list[str] = []

    def work() -> None:
        names.append(threading.current_thread().name)
        go.wait(20)
        ended.set()

    leave_behind(work)
    eventually(lambda: names)
    schedule.after(0.0, done.set)
    assert done.wait(60) and names == ["cosy-reaper"]
    go.set()
    assert ended.wait(60)


def test_work_that_finds_no_thread_is_tried_again(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.threads.scheduler._AGAIN", 0.01)
    tried, done = threading.Event(), threading.Event()
    start = threading.Thread.start

    def refuse_once(self: threading.Thread) -> None:
        if self.name == "cosy-reaper" and not tried.is_set():
            tried.set()
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    leave_behind(done.set)
    assert done.wait(60) and tried.is_set()


def test_what_a_finaliser_leaves_behind_is_done_without_any_schedule_and_the_thread_ends() -> None:
    done = threading.Event()

    class Dropped:
        def __del__(self) -> None:
            leave_behind(done.set)

    dropped = Dropped()
    dropped.myself = dropped  # type: ignore[attr-defined]
    del dropped
    gc.collect()
    assert done.wait(60)
    eventually(lambda: not keepers())


def test_a_finaliser_may_come_in_the_middle_of_a_post(schedule: Schedule) -> None:
    done: list[int] = []

    class Dropped:
        def __init__(self, number: int) -> None:
            self.number, self.myself = number, self

        def __del__(self) -> None:
            schedule.after(0.0, lambda number=self.number: done.append(number))

    thresholds = gc.get_threshold()
    gc.set_threshold(1)  # the collector comes wherever anything is made
    try:
        for number in range(300):
            Dropped(number)
            schedule.after(0.0, lambda: None)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    eventually(lambda: len(done) == 300)
    assert sorted(done) == list(range(300))


def test_a_forked_child_has_a_scheduler_of_its_own(schedule: Schedule) -> None:
    schedule.after(60.0, lambda: None)
    eventually(keepers)
    pid = os.fork()
    if pid == 0:
        done, own = threading.Event(), open_schedule()
        own.after(0.0, done.set)
        came = done.wait(10)
        own.close(20)
        os._exit(0 if came and keepers() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_thread_comes_back_however_often_it_ends() -> None:
    for _ in range(200):
        done, made = threading.Event(), open_schedule()
        made.after(0.0, done.set)
        assert done.wait(60)
        made.close()  # it may be about to end when the next one posts
    eventually(lambda: not keepers())


def test_without_jobs_the_thread_ends_after_a_while_and_comes_back_with_the_next(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.threads.scheduler._LINGER", 0.01)
    for _ in range(3):
        done = threading.Event()
        schedule.after(0.05, done.set)
        assert done.wait(60)
        eventually(lambda: not keepers())


def test_a_forked_child_does_not_touch_the_inbox_of_its_parent(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = schedule._scheduler
    schedule.after(60, lambda: None)
    eventually(held._inbox.empty)
    other = open_schedule()
    touched: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(held, "_inbox", SimpleNamespace(put=touched.append))
        patched.setattr(scheduler, "_scheduler", scheduler._Scheduler())  # as after a fork
        other.after(0, lambda: None)
        other.close()
    assert touched == []
