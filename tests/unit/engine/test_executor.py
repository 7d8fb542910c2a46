"""Both executors keep the same promises."""

import threading

import pytest

from cosy_sync.engine import SerialExecutor, ThreadExecutor
from cosy_sync.engine.executor import Executor
from cosy_sync.errors import ClosedError


@pytest.fixture(params=["threads", "serial"])
def executor(request: pytest.FixtureRequest):
    made: Executor = ThreadExecutor(4) if request.param == "threads" else SerialExecutor()
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
    with executor.busy():
        assert not executor.drain(0.02)
    assert executor.drain(0.02)


def test_draining_waits_for_running_tasks_but_not_for_ever() -> None:
    executor, go = ThreadExecutor(1), threading.Event()
    executor.submit(lambda: go.wait(30))
    assert not executor.drain(0.01)
    go.set()
    assert executor.drain(10)
    executor.close()


def test_a_task_may_close_its_own_executor() -> None:
    executor = ThreadExecutor(1)
    executor.submit(lambda: executor.drain(10) and executor.close())
    assert executor.drain(10)
    executor.close()


def test_closing_does_not_wait_for_a_task_that_hangs() -> None:
    executor, go = ThreadExecutor(1), threading.Event()
    executor.submit(lambda: go.wait(30))
    executor.close()
    go.set()
