"""Clients that share a limit through the real script in a real Redis; only the time is the test's.

No thread runs: keepers and callers are events on one clock, so whatever fails can be repeated.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cosy_sync.config import SharingConfig
from cosy_sync.endpoints.limiter import EndpointLimiter, SlotWaiter
from cosy_sync.policies import RateLimiter
from cosy_sync.shared import RedisBook, SharedLimiter
from cosy_sync.shared.redis_book import _SCRIPT
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop

# Seconds by which a thread wakes too late.
LATE = st.one_of(st.just(0.0), st.floats(0.0, 0.015), st.floats(0.0, 0.4))
NAME = "http://tts.test/batch"


class Bell:
    """In place of a keeper's thread: its steps are events of the test."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring


class Caller(threading.Event):
    """A batch that wants a turn: an event that plans anew when it is set."""

    def __init__(self, sharing: Sharing, limiter: EndpointLimiter, late: float) -> None:
        super().__init__()
        self.sharing, self.limiter, self.late = sharing, limiter, late
        self.waiter = SlotWaiter("", False, math.inf, Stop(), self)
        self.planned = math.inf

    def begin(self) -> None:
        now = self.sharing.now
        if self.limiter.go(now, False):
            self.sharing.leaves(now)
            return
        self.limiter.join(self.waiter, now)
        self.plan()

    def set(self) -> None:
        self.plan()

    def plan(self) -> None:
        at = self.planned = self.waiter.due + self.late
        self.sharing.after(at - self.sharing.now, lambda: self.come(at))

    def come(self, planned: float) -> None:
        """Do as an attempt does when its turn may have come."""
        now = self.sharing.now
        if planned != self.planned or not self.waiter.queued:
            return
        self.waiter.away = True
        if self.limiter.take(self.waiter, now) > 0.0:
            self.plan()
        else:
            self.sharing.leaves(now)


class Sharing(RuleBasedStateMachine):
    """Three clients whose threads come together or apart, and wake late."""

    def __init__(self, redis: Any, url: str) -> None:
        super().__init__()
        self.redis, self.url = redis, url
        self.clock = FakeClock()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.sent: list[float] = []
        self.waiting = 0

    @initialize(rate=st.sampled_from([0.5, 1.0, 2.0, 7.5, 20.0, 100.0]))
    def begin(self, rate: float) -> None:
        self.redis.flushall()
        self.rate = rate
        sharing = SharingConfig(redis_url=self.url, timeout=5.0)
        self.books = [RedisBook(sharing, NAME, rate, self.clock.now) for _ in range(3)]
        self.limiters = [
            SharedLimiter(rate, book, RateLimiter, self.clock, self.told, 3) for book in self.books
        ]
        self.lines = [EndpointLimiter(limiter, self.clock) for limiter in self.limiters]
        self.due = [math.inf] * 3
        for number, limiter in enumerate(self.limiters):
            limiter._keeper = Bell(functools.partial(self.ring, number))

    @property
    def now(self) -> float:
        return self.clock.now()

    def told(self, shared: bool, reason: str) -> None:
        raise AssertionError(f"shared: {shared}, {reason}")

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), do))

    def ring(self, number: int) -> None:
        self.at(self.now, number)

    def at(self, due: float, number: int) -> None:
        """Have a keeper take its next step then, if it would not do so before."""
        if due < self.due[number]:
            self.due[number] = due
            self.after(due - self.now, lambda: self.keep(number, due))

    def keep(self, number: int, due: float) -> None:
        if due != self.due[number]:
            return  # it was rung for before
        self.due[number] = math.inf
        micros = round(self.now * 1e6)
        self.redis.hset("clock", mapping=dict(zip(("s", "us"), divmod(micros, 10**6), strict=True)))
        seconds = self.limiters[number]._step()
        self.at(self.now + seconds, number)

    @rule(number=st.integers(0, 2), share=st.floats(0.0, 1.5), late=st.lists(LATE, min_size=1))
    def threads_come(self, number: int, share: float, late: list[float]) -> None:
        count = 1 + int(share * self.rate)
        for lateness in itertools.islice(itertools.cycle(late), count):
            self.waiting += 1
            Caller(self, self.lines[number], lateness).begin()

    def leaves(self, now: float) -> None:
        self.sent.append(now)
        self.waiting -= 1

    @rule(number=st.integers(0, 2), seconds=st.floats(0.01, 1.0))
    def the_service_asks_for_a_pause(self, number: int, seconds: float) -> None:
        self.lines[number].pause(self.now + seconds)

    @rule(seconds=st.one_of(st.floats(0.0, 0.3), st.floats(0.0, 1.5)))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            at, _, do = heapq.heappop(self.events)
            self.clock.advance(max(0.0, at - self.now))
            do()
        self.clock.advance(max(0.0, end - self.now))

    @invariant()
    def no_sliding_second_holds_more_than_the_rate(self) -> None:
        first = 0
        for last, at in enumerate(self.sent):
            while at - self.sent[first] >= 1.0:
                first += 1
            assert last - first + 1 <= math.ceil(self.rate), self.sent[first : last + 1]

    def teardown(self) -> None:
        if not hasattr(self, "books"):
            return
        for _ in range(200):
            if not self.waiting:
                break
            self.time_passes(max(1.0, 1 / self.rate))
        self.no_sliding_second_holds_more_than_the_rate()
        assert not self.waiting, "a thread waits for ever"
        for book in self.books:
            book.close()


def test_clients_that_share_a_limit_keep_it_together(redis_server, monkeypatch) -> None:
    script = _SCRIPT.replace("redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')")
    assert script != _SCRIPT
    monkeypatch.setattr("cosy_sync.shared.redis_book._SCRIPT", script)
    redis = redis_server.client()
    run_state_machine_as_test(
        lambda: Sharing(redis, redis_server.url),
        settings=settings(
            max_examples=30,
            stateful_step_count=15,
            deadline=None,
            phases=(Phase.generate,),  # to shrink a failure would take minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    redis.close()
