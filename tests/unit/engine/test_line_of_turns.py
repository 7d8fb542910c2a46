"""The line for a rate limit: who goes first, who is woken, and that who leaves kept nothing."""

from __future__ import annotations

import math
import threading
from itertools import pairwise

import pytest

from cosy_sync.endpoints.limiter import EndpointLimiter, SlotWaiter
from cosy_sync.errors import ClosedError
from cosy_sync.policies import RateLimiter
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop

START = 1_000.0
GAP = 1.008 / 10  # seconds between two of 10 requests per second


class Line:
    """A line of 10 requests/s whose first turn has just gone, on a clock of the test."""

    def __init__(self, rate: float = 10.0) -> None:
        self.clock = FakeClock(START)
        self.limiter = EndpointLimiter(RateLimiter(rate), self.clock)
        assert self.limiter.go(START, False)

    def join(self, key: str = "", *, urgent: bool = False, latest: float = math.inf) -> SlotWaiter:
        waiter = SlotWaiter(key, urgent, latest, Stop(), threading.Event())
        waiter.stop.attach(waiter.event)
        self.limiter.join(waiter, self.clock.now())
        return waiter

    def comes(self, waiter: SlotWaiter) -> bool:
        """Let a waiter sleep until its turn and come for it; return whether it got that."""
        waiter.sleep(self.clock)
        return self.limiter.take(waiter, self.clock.now()) <= 0.0

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def line() -> Line:
    return Line()


def test_each_in_line_sleeps_once_until_its_turn(line) -> None:
    waiters = [line.join() for _ in range(20)]
    dues = [waiter.due - START for waiter in waiters]
    assert dues == pytest.approx([(n + 1) * GAP for n in range(20)], abs=1e-4)
    for waiter in waiters:
        assert line.comes(waiter)
    assert len(line.clock.waits) == 20
    assert not any(waiter.event.is_set() for waiter in waiters)


def test_an_urgent_text_goes_before_all_that_is_not(line) -> None:
    bulk = [line.join() for _ in range(100)]
    urgent = line.join(urgent=True)
    assert urgent.due == pytest.approx(START + GAP, abs=1e-4)
    line.later(GAP + 0.001)
    bulk[0].away = True
    assert line.limiter.take(bulk[0], line.clock.now()) > 0.0
    assert line.comes(urgent)


def test_who_goes_first_goes_before_others_of_its_tenant_behind_those_that_do_so_too(line) -> None:
    others = [line.join() for _ in range(100)]
    early = [SlotWaiter("", False, math.inf, Stop(), threading.Event()) for _ in range(2)]
    for waiter in early:
        waiter.first = True
        line.limiter.join(waiter, line.clock.now())
    dues = [waiter.due - START for waiter in early]
    assert dues == pytest.approx([GAP, 2 * GAP], abs=1e-4)
    assert early[0].twin().first
    for waiter in early:
        assert line.comes(waiter)
    assert line.limiter.take(others[-1], line.clock.now()) > 0.0


def test_an_urgent_text_that_fetches_its_connection_still_goes_first(line) -> None:
    bulk, urgent = line.join(), line.join(urgent=True)
    urgent.sleep(line.clock)
    assert line.limiter.take(bulk, line.clock.now()) > 0.0
    assert line.limiter.take(urgent, line.clock.now()) == 0.0


def test_who_fetches_its_connection_for_long_holds_up_nobody(line) -> None:
    urgent, bulk = line.join(urgent=True), line.join()
    urgent.sleep(line.clock)
    line.later(0.2)
    assert line.limiter.take(bulk, line.clock.now()) == 0.0


def test_a_newcomer_does_not_pass_those_in_line_unless_it_is_more_urgent(line) -> None:
    line.join()
    line.later(10.0)
    assert not line.limiter.go(line.clock.now(), False)
    assert line.limiter.go(line.clock.now(), True)


def test_who_leaves_gives_its_turn_to_the_next_and_wakes_nobody_else(line) -> None:
    waiters = [line.join() for _ in range(20)]
    for waiter in waiters[:17]:
        line.limiter.leave(waiter, START)
    assert [waiter.event.is_set() for waiter in waiters] == [False, *[True] * 17, False, False]
    assert line.comes(waiters[17])
    assert line.clock.now() == pytest.approx(START + GAP, abs=1e-4)


def test_a_cancelled_call_frees_all_of_its_turns_at_once(line) -> None:
    call = Stop()
    waiters = [SlotWaiter("", False, math.inf, call, threading.Event()) for _ in range(97)]
    for waiter in waiters:
        call.attach(waiter.event)
        line.limiter.join(waiter, START)
    call.set()
    assert all(waiter.event.is_set() for waiter in waiters)
    # Even before the first of their threads has run.
    late = SlotWaiter("", False, START + 0.5, Stop(), threading.Event())
    assert line.limiter.join(late, START) < 0.2
    for waiter in waiters:
        with pytest.raises(ClosedError):
            waiter.sleep(line.clock)
        line.limiter.leave(waiter, START)
    assert line.clock.waits == []
    assert line.comes(late)


def test_tenants_take_turns_however_many_each_has_in_line(line) -> None:
    many = [line.join("many") for _ in range(50)]
    one = line.join("one")
    assert one.due == pytest.approx(START + 2 * GAP, abs=1e-4)
    assert line.comes(many[0])
    line.later(GAP)
    assert line.limiter.take(many[1], line.clock.now()) > 0.0
    assert line.comes(one)


def test_of_one_tenant_whoever_has_come_takes_the_turn(line) -> None:
    first, second = line.join(), line.join()
    line.later(GAP + 0.001)
    assert line.limiter.take(second, line.clock.now()) == 0.0
    assert line.limiter.take(first, line.clock.now()) > 0.0


def test_who_comes_too_late_after_all_is_woken_when_it_is_next(line) -> None:
    first, second = line.join(urgent=True), line.join()
    third = line.join(urgent=True)
    line.later(2 * GAP)
    second.away = True
    assert line.limiter.take(second, line.clock.now()) > 0.0  # it was passed, and expects worse now
    assert line.limiter.take(first, line.clock.now()) == 0.0
    assert not second.event.is_set()
    line.later(GAP)
    assert line.limiter.take(third, line.clock.now()) == 0.0
    assert second.event.is_set()
    second.event.clear()
    assert line.comes(second)
    assert line.clock.now() - START == pytest.approx(3 * GAP, abs=0.001)


def test_a_pause_holds_those_in_line_and_then_they_leave_one_by_one(line) -> None:
    waiters = [line.join() for _ in range(3)]
    line.limiter.pause(START + 5.0)
    left = []
    for waiter in waiters:
        while not line.comes(waiter):
            pass
        left.append(line.clock.now())
    assert left[0] >= START + 5.0
    assert all(b - a > 0.09 for a, b in pairwise(left))


def test_who_waits_is_told_how_long_by_its_place_in_line(line) -> None:
    for _ in range(30):
        line.join()
    assert line.limiter.next_free(START) - START == pytest.approx(31 * GAP, abs=1e-3)
    assert line.limiter.next_free(START, urgent=True) - START == pytest.approx(GAP, abs=1e-3)


def test_a_waiter_sleeps_no_longer_than_until_its_deadline(line) -> None:
    for _ in range(30):
        line.join()
    late = line.join(latest=START + 0.5)
    late.sleep(line.clock)
    assert line.clock.now() == START + 0.5


def test_threads_never_share_a_turn() -> None:
    limiter = EndpointLimiter(RateLimiter(100.0), FakeClock(START))
    barrier, went = threading.Barrier(8), []

    def work() -> None:
        barrier.wait(10)
        went.extend(limiter.go(START, False) for _ in range(100))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(went) == 5


def test_a_stop_sets_what_is_attached_whichever_comes_first() -> None:
    stop, before, after, gone = Stop(), *[threading.Event() for _ in range(3)]
    stop.attach(before)
    stop.attach(gone)
    stop.detach(gone)
    stop.set()
    stop.attach(after)
    assert before.is_set() and after.is_set() and not gone.is_set()
