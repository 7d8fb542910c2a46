"""Callbacks of futures: always on workers of their own, in their order, each once."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from lanes import Lane, eventually

from cosy_sync import CosyClient
from cosy_sync.engine.text_future import TextFuture
from cosy_sync.testing import FakeService
from cosy_sync.threads.workers import Executor

URL = "http://tts.test/batch"


@pytest.fixture
def client() -> Iterator[CosyClient]:
    with CosyClient(URL, http_client=httpx.Client(transport=FakeService())) as made:
        yield made


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.close()


class Note:
    """Notes for each call whether it came on a worker of these."""

    def __init__(self, calls: Executor) -> None:
        self.calls = calls
        self.inside: list[bool] = []

    def __call__(self, _: Any) -> None:
        self.inside.append(self.calls.is_inside())


def test_a_callback_that_is_added_just_before_the_result_is_set_runs_on_a_worker_for_callbacks(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = Note(client._core.engine()._calls)
    ready = TextFuture.set_running_or_notify_cancel

    def add_one_now(future: TextFuture) -> bool:
        future.add_done_callback(called)
        return ready(future)

    monkeypatch.setattr(TextFuture, "set_running_or_notify_cancel", add_one_now)
    assert client.submit("你好").result(10).duration > 0
    eventually(lambda: called.inside)
    assert called.inside == [True]


def test_a_callback_that_is_added_to_a_future_that_is_done_runs_there_too(
    client: CosyClient,
) -> None:
    called, future = Note(client._core.engine()._calls), client.submit("你好")
    future.result(10)
    future.add_done_callback(called)
    eventually(lambda: called.inside)
    assert called.inside == [True]


def test_a_callback_of_a_future_that_is_cancelled_runs_there_too(lane: Lane) -> None:
    lane.service.open.clear()
    called, future = Note(lane.calls), lane.promise("a")
    future.add_done_callback(called)
    assert future.cancel()
    eventually(lambda: called.inside)
    assert called.inside == [True]


def test_a_callback_of_a_future_whose_time_is_up_runs_there_too(lane: Lane) -> None:
    lane.service.open.clear()
    called, future = Note(lane.calls), lane.promise("a", seconds=0.01)
    future.add_done_callback(called)
    eventually(lambda: called.inside)
    assert called.inside == [True]


def test_callbacks_of_one_future_run_one_after_the_other_in_their_order(lane: Lane) -> None:
    order: list[int] = []
    inside, go = threading.Event(), threading.Event()
    future = lane.promise("a")
    future.add_done_callback(lambda _: (inside.set(), go.wait(20), order.append(0)))
    assert inside.wait(60)
    for number in range(1, 20):
        future.add_done_callback(lambda _, number=number: order.append(number))
    go.set()
    eventually(lambda: len(order) == 20)
    assert order == list(range(20))


def test_a_callback_may_add_another_one(lane: Lane) -> None:
    called, future = Note(lane.calls), lane.promise("a")
    future.add_done_callback(lambda future: future.add_done_callback(called))
    eventually(lambda: called.inside)
    assert called.inside == [True]


def test_in_a_forked_child_a_callback_is_called_at_once(lane: Lane) -> None:
    called, future = Note(lane.calls), lane.promise("a")
    future.result(10)
    pid = os.fork()
    if pid == 0:
        with lane.calls._lock:  # as a thread that is gone may have it
            future.add_done_callback(called)
        os._exit(len(called.inside))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
