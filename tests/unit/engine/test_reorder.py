"""A backlog: who comes in, and who is not even woken."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from lanes import eventually

import cosy_sync.engine.reorder as backlog_module
from cosy_sync.engine.reorder import ReorderBuffer, Unbounded


class Crowd:
    """Replies that want to come in, each of ten bytes and on a thread of its own."""

    def __init__(self, backlog: ReorderBuffer, stack: ExitStack) -> None:
        self._reorder = backlog
        self._stack = stack
        self.came: list[int] = []

    def send(self, *firsts: int) -> None:
        for first in firsts:
            self._send_one(first)

    def _send_one(self, first: int) -> None:
        before = self.waiting
        thread = threading.Thread(target=self._enter, args=(first,))
        thread.start()
        self._stack.callback(thread.join)
        eventually(lambda: self.waiting > before or first in self.came)

    @property
    def waiting(self) -> int:
        return len(self._reorder._waiting)

    def _enter(self, first: int) -> None:
        self._reorder.enter(first, 10, 60.0)
        self.came.append(first)


@pytest.fixture
def backlog(monkeypatch: pytest.MonkeyPatch) -> ReorderBuffer:
    monkeypatch.setattr(backlog_module, "_PATIENCE", 30.0)  # nobody comes in for having waited
    return ReorderBuffer(20)


@pytest.fixture
def crowd(backlog: ReorderBuffer) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(backlog, stack)
        backlog.give_up()


def test_those_who_wait_come_in_by_the_order_of_their_texts(
    backlog: ReorderBuffer, crowd: Crowd
) -> None:
    crowd.send(1, 2)
    crowd.send(5, 3, 4)
    for taken, came in ((1, [1, 2, 3]), (2, [1, 2, 3, 4]), (3, [1, 2, 3, 4, 5])):
        backlog.hand_out(0, 10)
        eventually(lambda came=came: crowd.came == came)
        assert crowd.waiting == 3 - taken


def test_the_reply_that_is_next_comes_in_however_full_it_is(
    backlog: ReorderBuffer, crowd: Crowd
) -> None:
    crowd.send(1, 2, 4, 3)
    assert crowd.waiting == 2
    backlog.hand_out(3, 0)
    eventually(lambda: crowd.came == [1, 2, 3])
    assert crowd.waiting == 1


def test_a_caller_with_nothing_to_take_lets_in_the_foremost_alone(
    backlog: ReorderBuffer, crowd: Crowd
) -> None:
    backlog.expect(4)
    crowd.send(1, 2)
    backlog.expect(-2)  # they have come to their end
    crowd.send(3, 4)
    assert crowd.waiting == 2
    backlog.starve(True)
    eventually(lambda: crowd.came == [1, 2, 3])
    assert crowd.waiting == 1  # until the one that came in has ended as well
    backlog.expect(-1)
    eventually(lambda: crowd.came == [1, 2, 3, 4])


def test_patience_has_an_end(backlog: ReorderBuffer) -> None:
    backlog.enter(1, 20, 0.0)
    backlog.enter(2, 10, 0.0)
    assert not backlog._waiting
    backlog.change(-30)
    assert not backlog.is_full(0)
    assert backlog._held == 0


def test_an_interrupted_wait_leaves_nothing_behind(
    backlog: ReorderBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(backlog_module._Waiter):
        def __init__(self, first: int, size: int) -> None:
            super().__init__(first, size)
            self.wakeup = self  # type: ignore[assignment]

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    monkeypatch.setattr(backlog_module, "_Waiter", Interrupted)
    for first, granted in ((1, True), (2, False)):
        with pytest.raises(KeyboardInterrupt):
            backlog.enter(first, 10 if granted else 99, 1.0)
        backlog.change(10)
    assert backlog._held == 20 and not backlog._waiting


def test_once_a_reply_has_told_its_size_no_more_is_asked_for_than_there_is_room_for(
    backlog: ReorderBuffer,
) -> None:
    assert backlog.most_batches == math.inf
    backlog.starve(True)
    assert backlog.most_batches == math.inf
    backlog.enter(0, 5, 60.0)
    assert backlog.most_batches == 20 // 5
    backlog.enter(1, 1, 60.0)
    assert backlog.most_batches == 20 // 5


def test_a_caller_that_waits_may_ask_for_twice_as_much_each_time(backlog: ReorderBuffer) -> None:
    backlog.enter(0, 5, 60.0)
    for most in (8, 16, 32):
        assert backlog.is_full(most // 2)
        backlog.starve(False)
        backlog.starve(True)
        assert backlog.most_batches == most


def test_once_a_reply_has_waited_for_room_a_caller_that_waits_may_ask_for_one_more(
    backlog: ReorderBuffer, crowd: Crowd
) -> None:
    backlog.expect(5)  # not all of them are here
    crowd.send(1, 2, 3)
    assert backlog.most_batches == 20 // 10
    backlog.starve(True)  # what waits for room is not what the caller waits for
    assert backlog.most_batches == 20 // 10
    backlog.settle(30, 30)
    backlog.hand_out(3, 30)
    for most in (3, 4):
        assert backlog.is_full(most - 1)
        backlog.starve(True)
        assert backlog.most_batches == most


def test_what_waits_to_be_taken_and_what_was_sent_share_the_room(backlog: ReorderBuffer) -> None:
    backlog.enter(0, 5, 60.0)
    assert [backlog.is_full(batches) for batches in (3, 4)] == [False, True]  # it is one of them
    backlog.settle(5, 5)
    assert [backlog.is_full(batches) for batches in (2, 3)] == [False, True]
    backlog.hand_out(1, 5)
    assert [backlog.is_full(batches) for batches in (3, 4)] == [False, True]


def test_a_reply_that_did_not_tell_its_size_is_as_large_as_what_came(
    backlog: ReorderBuffer,
) -> None:
    backlog.enter(0, 0, 60.0)
    assert backlog.most_batches == math.inf
    backlog.settle(0, 5)
    assert backlog.most_batches == 20 // 5


def test_a_caller_that_waits_asks_for_no_more_where_something_else_bounds_it(
    backlog: ReorderBuffer,
) -> None:
    backlog.enter(0, 5, 60.0)
    assert not backlog.is_full(3)  # one more could be sent, but there is no connection for it
    backlog.starve(True)
    assert backlog.most_batches == 20 // 5


def test_of_a_caller_that_keeps_all_the_audio_nothing_is_held_back() -> None:
    kept = Unbounded()
    kept.enter(0, 10**9, 60.0)
    kept.starve(True)
    assert kept.most_batches == math.inf
