"""Slow start: fed by services in virtual time, it finds the number of requests that pays."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from cosy_sync.policies import SlowStart

PATIENCE = 30.0


def says_something(policy: SlowStart, seconds: float) -> bool:
    """Return whether its owner tells it of a good reply that took so long."""
    return policy.limit < policy.ceiling or seconds > policy.late


class Run:
    """A client that always has work, at a service of some workers, first come first served.

    `seconds` says what a request takes that begins at an instant.
    """

    def __init__(
        self,
        workers: int,
        seconds: Callable[[float], float],
        *,
        ceiling: int = 50,
        start: int = 4,
    ) -> None:
        self.policy = SlowStart(ceiling, PATIENCE, start)
        self.workers = [0.0] * workers
        self.seconds = seconds
        self.now = 0.0
        self.in_flight: list[tuple[float, float]] = []  # when it ends, when it was sent
        self.latencies: list[float] = []
        self.limits = [self.policy.limit]

    def work(self, requests: int, chars: int = 1_000) -> Run:
        left = requests
        while left or self.in_flight:
            while left and len(self.in_flight) < self.policy.limit:
                begins = max(heapq.heappop(self.workers), self.now)
                ends = begins + self.seconds(begins)
                heapq.heappush(self.workers, ends)
                heapq.heappush(self.in_flight, (ends, self.now))
                left -= 1
            used = len(self.in_flight)
            ends, sent = heapq.heappop(self.in_flight)
            self.now = ends
            self.latencies.append(ends - sent)
            self.answer(used, sent, chars)
        return self

    def answer(self, used: int, sent: float, chars: int) -> None:
        if says_something(self.policy, self.now - sent):
            changed = self.policy.succeed(used, sent, self.now, chars)
            assert changed == (self.policy.limit != self.limits[-1])
            if changed:
                self.limits.append(self.policy.limit)


def ideal(requests: int, workers: int, seconds: float) -> float:
    return requests * seconds / workers


@pytest.mark.parametrize("text_seconds", [0.04, 0.06, 0.133, 0.3])
def test_a_slow_service_is_kept_busy_and_no_reply_comes_too_late(text_seconds: float) -> None:
    seconds = 0.05 + 64 * text_seconds
    run = Run(4, lambda _: seconds).work(80)
    assert run.now <= 1.05 * ideal(80, 4, seconds)
    assert max(run.latencies) < 60.0


@pytest.mark.parametrize("text_seconds", [0.05, 0.1, 0.2])
def test_a_service_that_does_one_thing_at_a_time(text_seconds: float) -> None:
    seconds = 64 * text_seconds
    run = Run(1, lambda _: seconds).work(40)
    assert run.now == pytest.approx(ideal(40, 1, seconds))
    assert max(run.latencies) < 60.0


@pytest.mark.parametrize("ceiling", [50, 200, 800])
def test_a_fast_service_has_all_of_them_after_two_round_trips(ceiling: int) -> None:
    run = Run(10_000, lambda _: 0.2, ceiling=ceiling).work(3 * ceiling)
    assert run.policy.limit == ceiling
    assert run.now <= 5 * 0.2 + 1e-9  # three, were all of them sent at once


def test_a_service_that_takes_long_for_each_but_has_room_for_all_gets_all() -> None:
    run = Run(50, lambda _: 20.0).work(300)
    assert 50 in run.limits
    assert run.now < 12 * 20.0  # six, were all of them sent at once


def test_replies_that_are_soon_there_need_no_proof() -> None:
    # One worker gains nothing by company, but nobody waits for long.
    run = Run(1, lambda _: 0.01).work(500)
    assert run.policy.limit == 50
    assert max(run.latencies) <= 0.5 + 1e-9


def test_more_that_bring_nothing_are_taken_back_for_a_while() -> None:
    run = Run(4, lambda _: 4.0).work(40)
    tried = max(run.limits)
    assert tried > 10 and run.policy.limit < 10
    assert run.limits.count(tried) == 1


def test_a_service_that_becomes_slow_gets_fewer() -> None:
    run = Run(4, lambda now: 0.1 if now < 5.0 else 8.0).work(400)
    assert run.limits[-1] < 50 == max(run.limits)
    assert run.latencies[-1] < 30.0


def test_what_it_learned_is_forgotten_after_an_outage() -> None:
    run = Run(1_000, lambda _: 0.2).work(200)
    assert run.policy.limit == 50
    run.policy.restart(run.now)
    run.limits.append(run.policy.limit)
    assert run.policy.limit == 4
    run.work(200)
    assert run.policy.limit == 50


def test_a_quiet_client_learns_nothing() -> None:
    policy = SlowStart(50, PATIENCE, 4)
    for number in range(100):
        assert not policy.succeed(1, float(number), number + 0.2, 20)
    assert policy.limit == 4


def test_what_was_sent_before_the_limit_changed_does_not_judge_it() -> None:
    policy = SlowStart(50, PATIENCE, 2)
    assert not policy.succeed(2, 0.0, 1.0, 20)
    assert policy.succeed(2, 0.0, 1.0, 20)
    limit = policy.limit
    assert limit > 2
    for _ in range(2 * limit):
        assert not policy.succeed(limit, 0.9, 1.1, 20)


@pytest.mark.parametrize("start", [1, 4, 50, 800])
def test_the_limit_stays_between_one_and_the_ceiling(start: int) -> None:
    draw = random.Random(start)
    policy = SlowStart(50, PATIENCE, start)
    now = 0.0
    for _ in range(3_000):
        now += draw.expovariate(10)
        took = draw.choice([0.001, 0.2, 5.0, 20.0, 100.0])
        if says_something(policy, took):
            policy.succeed(draw.randrange(1, 60), now - took, now, draw.randrange(1, 12_000))
        assert 1 <= policy.limit <= 50


def test_uneven_replies_do_not_make_it_run_away() -> None:
    draw = random.Random(1)
    run = Run(4, lambda _: 1.0 + draw.expovariate(0.3)).work(200)
    assert max(run.latencies) < 60.0
    assert run.now <= 1.15 * ideal(200, 4, 1.0 + 1 / 0.3)
