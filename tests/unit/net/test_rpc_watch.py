"""The clocks of gRPC calls: what is silent for too long is cancelled, nothing else is."""

from __future__ import annotations

import threading

import pytest

from cosy_sync.net.rpc_watch import Watch


@pytest.fixture
def watch():  # type: ignore[no-untyped-def]
    made = Watch()
    yield made
    made.close()


def test_a_call_that_is_silent_for_too_long_is_cancelled(watch: Watch) -> None:
    cancelled = threading.Event()
    timer = watch.add(cancelled.set)
    timer.start(0.01)
    assert cancelled.wait(20) and timer.rang


def test_calls_ring_by_themselves_and_a_later_one_may_be_due_earlier(watch: Watch) -> None:
    rung: list[str] = []
    both = threading.Barrier(2)

    def ring(name: str) -> None:
        rung.append(name)
        if len(rung) == 2:
            both.wait(20)

    slow = watch.add(lambda: ring("slow"))
    slow.start(0.3)
    quick = watch.add(lambda: ring("quick"))
    quick.start(0.01)
    both.wait(20)
    assert rung == ["quick", "slow"]


def test_a_stopped_or_forgotten_clock_never_rings(watch: Watch) -> None:
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
    last = threading.Event()
    watch.add(last.set).start(0.2)
    assert last.wait(20)
    assert rung == [] and not stopped.rang and not wound_again.rang


def test_nothing_is_cancelled_after_the_end_and_no_thread_is_left(watch: Watch) -> None:
    rung = threading.Event()
    watch.add(rung.set).start(0.05)
    watch.close()
    assert not [t for t in threading.enumerate() if t.name == "cosy-keeper"]
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
    assert cancelled.wait(20) and later.wait(20)


def test_clocks_that_are_wound_again_and_again_leave_one_job(watch: Watch) -> None:
    timers = [watch.add(lambda: None) for _ in range(50)]
    for turn in range(20):
        for timer in timers:
            timer.start(60.0 - turn)
            timer.stop()
    cancelled = threading.Event()
    watch.add(cancelled.set).start(0.01)
    assert cancelled.wait(20)


def test_the_shorter_waits_that_follow_in_a_call_wake_no_thread(watch: Watch) -> None:
    posted: list[float] = []
    watch._schedule.after = lambda seconds, _: posted.append(seconds) or True  # type: ignore
    timer = watch.add(lambda: None, 15.0)
    timer.start(30.0)  # for the first byte
    timer.stop()
    for _ in range(3):
        timer.start(15.0)  # for the next one
        timer.stop()
    watch.add(lambda: None, 15.0).start(30.0)
    assert len(posted) == 1 and 14.0 < posted[0] <= 15.0
    timer.start(2.0)  # its deadline is near
    assert len(posted) == 2 and posted[1] <= 2.0


def test_a_call_that_was_looked_after_before_its_time_goes_on_until_then(watch: Watch) -> None:
    cancelled = threading.Event()
    timer = watch.add(cancelled.set, 0.01)
    timer.start(60)
    gone_by, early = threading.Event(), watch.add(lambda: gone_by.set())
    early.start(0.05)
    assert gone_by.wait(20) and not timer.rang and not cancelled.is_set()
    timer.start(0.01)
    assert cancelled.wait(20) and timer.rang


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
    assert cancelled.wait(20)
