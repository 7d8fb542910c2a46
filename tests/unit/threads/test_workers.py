"""All executors keep the same promises."""

import _thread
import threading
import time
import weakref

import pytest
from interrupts import interrupt_at
from lanes import eventually

from cosy_sync import atomic
from cosy_sync.engine import LifoThreadPool, SerialExecutor
from cosy_sync.errors import ClosedError
from cosy_sync.threads.workers import Executor

KINDS = {
    "parked": lambda: LifoThreadPool(4),
    "serial": SerialExecutor,
}


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest):
    made: Executor = KINDS[request.param]()
    yield made
    made.close()


def test_every_task_runs(executor: Executor) -> None:
    done: list[int] = []
    for number in range(20):
        executor.submit(lambda number=number: done.append(number))
    assert executor.drain(10)
    assert sorted(done) == list(range(20))


def test_a_closed_executor_refuses(executor: Executor) -> None:
    executor.close()
    with pytest.raises(ClosedError):
        executor.submit(lambda: None)


def test_draining_waits_for_busy_callers_too(executor: Executor) -> None:
    leave, entered = threading.Event(), threading.Event()

    def work() -> None:
        with executor.busy():
            entered.set()
            assert leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(60)
    assert not executor.drain(0.02)
    leave.set()
    assert executor.drain(10)
    thread.join()


def test_who_is_busy_does_not_wait_for_himself(executor: Executor) -> None:
    with executor.busy(), executor.busy():
        assert executor.drain(0.02)
        assert not executor.is_inside()


def test_a_task_that_ran_within_another_leaves_that_one_inside() -> None:
    executor, seen = SerialExecutor(), []

    def outer() -> None:
        executor.submit(lambda: seen.append(executor.drain(0.02)))
        seen.append(executor.drain(0.02) and executor.is_inside())

    executor.submit(outer)
    assert seen == [True, True]
    assert not executor.is_inside() and executor.drain(0.02)


def test_draining_waits_for_running_tasks_but_not_for_ever() -> None:
    executor, go = LifoThreadPool(1), threading.Event()
    executor.submit(lambda: go.wait(30))
    assert not executor.drain(0.01)
    go.set()
    assert executor.drain(10)
    executor.close()


def test_a_task_may_close_its_own_executor() -> None:
    executor = LifoThreadPool(1)
    executor.submit(lambda: executor.drain(10) and executor.close())
    assert executor.drain(10)
    executor.close()


def test_closing_does_not_wait_for_a_task_that_hangs() -> None:
    executor, go = LifoThreadPool(1), threading.Event()
    executor.submit(lambda: go.wait(30))
    executor.close()
    go.set()


def test_no_more_tasks_run_at_once_than_there_are_workers_and_none_is_lost() -> None:
    executor, lock, now, most, done = LifoThreadPool(3), threading.Lock(), [0], [0], [0]
    three = threading.Barrier(3, timeout=20)

    def task() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        three.wait()
        with lock:
            now[0] -= 1
            done[0] += 1

    for _ in range(30):
        executor.submit(task)
    assert executor.drain(20)
    executor.close()
    assert most[0] == 3 and done[0] == 30


def test_a_parked_thread_is_used_again() -> None:
    executor, idents = LifoThreadPool(4), set()
    for _ in range(20):
        done = threading.Event()
        executor.submit(lambda done=done: (idents.add(threading.get_ident()), done.set()))
        assert done.wait(60)
        limit = time.monotonic() + 10
        while not executor._parked:
            assert time.monotonic() < limit
    executor.close()
    assert len(idents) == 1


def test_of_many_tasks_at_once_one_thread_starts_the_workers(monkeypatch) -> None:
    bare, really_begin, really_start = [], _thread.start_new_thread, threading.Thread.start
    executor, submitted, go, begun = LifoThreadPool(20), threading.Event(), threading.Event(), []

    def begin(*args: object) -> int:
        bare.append(args)
        return really_begin(*args)

    def start(thread: threading.Thread) -> None:
        assert submitted.wait(60)
        really_start(thread)

    monkeypatch.setattr(atomic._thread, "start_new_thread", begin)
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(20):
        executor.submit(lambda: begun.append(go.wait(60)))
    assert len(bare) == 1
    submitted.set()
    eventually(lambda: len(executor._pending) == 20)  # a worker each, and none waits for another
    go.set()
    assert executor.drain(60) and begun == [True] * 20
    executor.close()


def test_a_task_that_comes_as_the_starting_thread_ends_gets_its_worker() -> None:
    executor, came = LifoThreadPool(2), threading.Event()
    late = [came.set]  # submitted when that thread has looked at the queue for the last time

    class Starters(list):
        def append(self, place: tuple[()]) -> None:
            executor._queue.extend(late)
            executor._wanted.extend([()] * len(late))
            late.clear()
            super().append(place)

    executor._starters = Starters([()])
    executor.submit(lambda: came.wait(60))
    assert came.wait(60) and executor.drain(60)
    executor.close()


def test_what_a_task_held_is_let_go_when_its_thread_parks() -> None:
    class Sound:
        def __call__(self) -> None: ...

    executor, sound = LifoThreadPool(1), Sound()
    alive = weakref.ref(sound)
    executor.submit(sound)
    del sound
    limit = time.monotonic() + 10
    while not executor._parked or alive() is not None:
        assert time.monotonic() < limit
    executor.close()


def test_a_task_knows_that_it_is_inside() -> None:
    executor, seen = LifoThreadPool(1), []
    executor.submit(lambda: seen.append(executor.is_inside()))
    assert executor.drain(10)
    executor.close()
    assert seen == [True] and not executor.is_inside()


@pytest.mark.parametrize("parked", [False, True])
def test_ctrl_c_at_any_line_of_a_hand_over_loses_no_worker(parked: bool) -> None:
    lines = 0
    while True:
        lines += 1
        executor = LifoThreadPool(1)
        if parked:
            executor.submit(lambda: None)
            eventually(lambda executor=executor: executor._parked)
        whole = not interrupt_at(lines, lambda: executor.submit(lambda: None))  # noqa: B023
        done = threading.Event()
        executor.submit(done.set)
        assert done.wait(60) and executor.drain(10), f"line {lines}"
        executor.close()
        if whole:
            break
    assert lines > 5


def test_without_threads_the_one_that_asks_does_the_work(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def refuse_bare(work: object, args: object) -> None:
        raise RuntimeError("can't start new thread")

    executor, idents = LifoThreadPool(2), []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(_thread, "start_new_thread", refuse_bare)
    executor.submit(lambda: idents.append(threading.get_ident()))
    monkeypatch.undo()
    assert idents == [threading.get_ident()]
    executor.submit(lambda: idents.append(threading.get_ident()))
    assert executor.drain(10)
    executor.close()
    assert len(idents) == 2


def test_a_task_that_breaks_costs_no_worker_though_its_log_breaks_too(broken_log: None) -> None:
    executor, done = LifoThreadPool(1), threading.Event()

    def fail() -> None:
        raise ValueError("a bug")

    executor.submit(fail)
    assert executor.drain(10)
    executor.submit(done.set)
    assert done.wait(60) and executor.drain(10)
    executor.close()
    assert len(executor._threads) == 1
