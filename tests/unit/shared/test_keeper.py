"""The thread beside the calls: started by a ring, ended by close or with its owner."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from collections.abc import Callable

import locks
import pytest
from interrupts import interrupt_at, interrupt_entry

from cosy_sync.shared.keeper import Keeper


class Owner:
    def __init__(self, step: Callable[[], float], name: str = "cosy-test") -> None:
        self.work = step
        self.keeper = Keeper(self.step, name)

    def step(self) -> float:
        return self.work()


class Steps:
    """Counts steps; each lasts until the next is waited for at most."""

    def __init__(self, wait: float = 60.0) -> None:
        self.count, self.wait = 0, wait
        self.done = threading.Semaphore(0)
        self.threads: set[threading.Thread] = set()

    def __call__(self) -> float:
        self.count += 1
        self.threads.add(threading.current_thread())
        self.done.release()
        return self.wait

    def expect(self, count: int) -> None:
        for _ in range(count):
            assert self.done.acquire(timeout=20)


def test_nothing_runs_before_the_first_ring_and_one_thread_after_it() -> None:
    steps = Steps()
    owner = Owner(steps)
    assert steps.count == 0
    for _ in range(3):
        owner.keeper.ring()
        steps.expect(1)
    owner.keeper.close(20)
    # A daemon: it must not hold up the end of the program.
    assert [(thread.name, thread.daemon) for thread in steps.threads] == [("cosy-test", True)]
    assert not any(thread.is_alive() for thread in steps.threads)


def test_a_step_says_when_the_next_one_is_due() -> None:
    steps = Steps(wait=0.001)
    owner = Owner(steps)
    owner.keeper.ring()
    steps.expect(5)
    owner.keeper.close(20)


def test_a_ring_during_a_step_brings_another() -> None:
    steps, entered, leave = Steps(), threading.Event(), threading.Event()

    def step() -> float:
        if steps.count == 0:
            entered.set()
            assert leave.wait(60)
        return steps()

    owner = Owner(step)
    owner.keeper.ring()
    assert entered.wait(60)
    owner.keeper.ring()
    leave.set()
    steps.expect(2)
    owner.keeper.close(20)


def test_nothing_starts_after_the_end() -> None:
    steps = Steps()
    owner = Owner(steps, "cosy-late")
    owner.keeper.close(20)
    owner.keeper.ring()
    assert owner.keeper._thread is None and steps.count == 0


def test_closing_does_not_wait_for_ever_for_a_step_that_hangs() -> None:
    entered, leave = threading.Event(), threading.Event()

    def step() -> float:
        entered.set()
        assert leave.wait(60)
        return 0.0

    owner = Owner(step)
    owner.keeper.ring()
    assert entered.wait(60)
    owner.keeper.close(0.01)
    assert owner.keeper._thread is not None and owner.keeper._thread.is_alive()
    leave.set()
    owner.keeper.close(20)


def test_a_step_may_close_its_keeper() -> None:
    steps = Steps(wait=0.0)

    def step() -> float:
        owner.keeper.close(20)
        return steps()

    owner = Owner(step)
    owner.keeper.ring()
    steps.expect(1)
    (thread,) = steps.threads
    thread.join(20)
    assert not thread.is_alive()


def test_the_thread_ends_with_its_owner() -> None:
    steps = Steps(wait=0.01)
    owner = Owner(steps)
    owner.keeper.ring()
    steps.expect(1)
    (thread,) = steps.threads
    del owner
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_a_step_that_breaks_is_logged_and_not_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.shared.keeper._AFTER_A_BUG", 0.001)
    steps = Steps()

    def step() -> float:
        if steps() and steps.count == 1:
            raise ValueError("a bug")
        return 60.0

    owner = Owner(step)
    with caplog.at_level(logging.ERROR, logger="cosy_sync"):
        owner.keeper.ring()
        steps.expect(2)
    owner.keeper.close(20)
    (record,) = caplog.records
    assert record.name == "cosy_sync" and "a bug" in caplog.text
    assert record.getMessage().startswith("a step of <bound method Owner.step")


def test_the_thread_starts_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with locks.watched(monkeypatch) as found:
        steps = Steps()
        owner = Owner(steps)
        owner.keeper.ring()
        steps.expect(1)
        owner.keeper.close(20)
    assert found == []


def test_a_step_that_breaks_is_not_the_last_though_its_log_breaks_too(
    broken_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.shared.keeper._AFTER_A_BUG", 0.001)
    steps = Steps()

    def step() -> float:
        if steps() and steps.count == 1:
            raise ValueError("a bug")
        return 60.0

    owner = Owner(step)
    owner.keeper.ring()
    steps.expect(2)
    owner.keeper.close(20)


def test_without_a_thread_the_next_ring_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    steps = Steps()
    owner = Owner(steps)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        owner.keeper.ring()
    owner.keeper.ring()
    steps.expect(1)
    owner.keeper.close(20)


@pytest.mark.parametrize("interrupt", [interrupt_at, interrupt_entry])
def test_a_ring_that_ctrl_c_ends_hinders_no_other(interrupt: Callable[..., bool]) -> None:
    for number in itertools.count(1):
        steps = Steps()
        owner = Owner(steps)
        came = interrupt(number, owner.keeper.ring)
        again = threading.Thread(target=owner.keeper.ring, daemon=True)
        again.start()
        again.join(20)
        assert not again.is_alive()
        steps.expect(1)
        owner.keeper.close(20)
        assert len(steps.threads) == 1
        if not came:
            return


def test_who_closes_at_once_has_told_all_the_same() -> None:
    for _ in range(20):
        steps = Steps()
        owner = Owner(steps)
        owner.keeper.ring()
        owner.keeper.close(20)
        assert steps.count == 1
