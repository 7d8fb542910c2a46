"""The clocks of gRPC calls: what is silent for too long is cancelled, nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from lanes import eventually

from cosy_sync.net.rpc_watch import Watch


@pytest.fixture
def watch():  # type: ignore[no-untyped-def]
    made = Watch()
    yield made
    made.close()


class ByHand:
    """A schedule whose time goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.posted: list[float] = []
        self._jobs: list[tuple[float, Callable[[], object]]] = []

    def after(self, seconds: float, job: Callable[[], object]) -> bool:
        self.posted.append(seconds)
        self._jobs.append((self.now + seconds, job))
        return True

    def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [each for each in self._jobs if each[0] <= until]:
            first = min(due, key=lambda each: each[0])
            self._jobs.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until

    def close(self, seconds: float = 0.0) -> None:
        self._jobs.clear()


@pytest.fixture
def time_of(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> ByHand:
    hand = ByHand()
    watch._schedule.close()
    monkeypatch.setattr(watch, "_schedule", hand)
    clock = SimpleNamespace(monotonic=lambda: hand.now)
    monkeypatch.setattr("cosy_sync.net.rpc_watch.time", clock)
    return hand


def test_a_call_that_is_silent_for_too_long_is_cancelled(watch: Watch) -> None:
    cancelled = threading.Event()
    timer = watch.add(cancelled.set)
    timer.start(0.01)
    assert cancelled.wait(60) and timer.rang


def test_calls_ring_by_themselves_and_a_later_one_may_be_due_earlier(
    watch: Watch, time_of: ByHand
) -> None:
    rung: list[str] = []
    watch.add(lambda: rung.append("slow")).start(0.3)
    watch.add(lambda: rung.append("quick")).start(0.01)
    time_of.pass_by(0.02)
    assert rung == ["quick"]
    time_of.pass_by(0.3)
    assert rung == ["quick", "slow"]


def test_a_stopped_or_forgotten_clock_never_rings(watch: Watch, time_of: ByHand) -> None:
    rung: list[str] = []
    stopped = watch.add(lambda: rung.append("stopped"))
    stopped.start(0.05)
    stopped.stop()
    gone = watch.add(lambda: rung.append("gone"))
    gone.start(0.05)
    watch.remove(gone)
    wound_again = watch.add(lambda: rung.append("wound again"))
    wound_again.start(0.05)
    wound_again.start(60)
    watch.add(lambda: rung.append("last")).start(0.2)
    time_of.pass_by(1.0)
    assert rung == ["last"] and not stopped.rang and not wound_again.rang


def test_nothing_is_cancelled_after_the_end_and_no_thread_is_left(watch: Watch) -> None:
    rung = threading.Event()
    watch.add(rung.set).start(60)
    watch.close()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "cosy-keeper"])
    watch.add(rung.set).start(0.0)
    assert not rung.wait(0.2)
    assert not [t for t in threading.enumerate() if t.name == "cosy-keeper"]


def test_a_call_that_cannot_be_cancelled_keeps_no_other_from_it(
    watch: Watch, broken_log: None
) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    cancelled, later = threading.Event(), threading.Event()
    watch.add(fail).start(0.01)
    watch.add(cancelled.set).start(0.01)
    watch.add(fail).start(0.02)
    watch.add(later.set).start(0.05)
    assert cancelled.wait(60) and later.wait(60)


def test_clocks_that_are_wound_again_and_again_leave_one_job(watch: Watch) -> None:
    timers = [watch.add(lambda: None) for _ in range(50)]
    for turn in range(20):
        for timer in timers:
            timer.start(60.0 - turn)
            timer.stop()
    cancelled = threading.Event()
    watch.add(cancelled.set).start(0.01)
    assert cancelled.wait(60)


def test_the_shorter_waits_that_follow_in_a_call_wake_no_thread(
    watch: Watch, time_of: ByHand
) -> None:
    timer = watch.add(lambda: None, 15.0)
    timer.start(30.0)  # for the first byte
    timer.stop()
    for _ in range(3):
        timer.start(15.0)  # for the next one
        timer.stop()
    watch.add(lambda: None, 15.0).start(30.0)
    assert time_of.posted == [15.0]
    timer.start(2.0)  # its deadline is near
    assert time_of.posted == [15.0, 2.0]


def test_a_call_that_was_looked_after_before_its_time_goes_on_until_then(
    watch: Watch, time_of: ByHand
) -> None:
    cancelled: list[bool] = []
    timer = watch.add(lambda: cancelled.append(True), 0.01)
    timer.start(60)
    time_of.pass_by(1.0)
    assert not timer.rang and not cancelled
    timer.start(0.01)
    time_of.pass_by(0.02)
    assert cancelled and timer.rang


def test_without_a_thread_calls_go_on_unwatched(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cancelled = threading.Event()
    timer = watch.add(cancelled.set)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        timer.start(0.01)
    assert not cancelled.is_set()
    timer.start(0.01)  # the next wait has more luck
    assert cancelled.wait(60)
