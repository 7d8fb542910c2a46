"""The limit of all endpoints together, beside each one's own."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Sequence

import httpx
import pytest
from interrupts import interrupt_at

import cosy_sync
from cosy_sync import ConfigError, CosyClient, Endpoint, LimitConfig, RateLimitedError
from cosy_sync.endpoints.joint_limiter import JointLimiter
from cosy_sync.endpoints.limiter import EndpointLimiter, SlotWaiter
from cosy_sync.policies import RateLimiter
from cosy_sync.settings import load_config
from cosy_sync.testing import FakeClock, FakeService
from cosy_sync.threads.stop import Stop

START = 1_000.0
URLS = ("http://one.test/batch", "http://two.test/batch")


def joint(own: float, common: EndpointLimiter) -> JointLimiter:
    return JointLimiter(line_of(own), common)


def line_of(rate: float) -> EndpointLimiter:
    return EndpointLimiter(RateLimiter(rate), FakeClock(START))


def waiter(key: str = "", urgent: bool = False, latest: float = math.inf) -> SlotWaiter:
    return SlotWaiter(key, urgent, latest, Stop(), threading.Event())


class Crowd:
    """Requests that all want to leave at once; each comes when it was told, or is called."""

    def __init__(self) -> None:
        self.events: list[tuple[float, int, Called]] = []
        self.numbers = itertools.count()
        self.now = START
        self.left: list[tuple[float, JointLimiter]] = []

    def plan(self, each: Called) -> None:
        place = each.waiter.second or each.waiter
        each.planned = max(place.due, math.nextafter(self.now, math.inf))
        heapq.heappush(self.events, (each.planned, next(self.numbers), each))

    def leave(self, limiters: Sequence[JointLimiter], count: int) -> list[list[float]]:
        """Return when so many requests leave each limiter."""
        for _, limiter in itertools.product(range(count), limiters):
            each = Called(self, limiter)
            limiter.join(each.waiter, START)
            self.plan(each)
        while self.events:
            at, _, each = heapq.heappop(self.events)
            if at == each.planned and each.waiter.queued:
                self.now = at
                (each.waiter.second or each.waiter).away = True
                if each.limiter.take(each.waiter, at) > 0.0:
                    self.plan(each)
                else:
                    self.left.append((at, each.limiter))
        return [[at for at, which in self.left if which is limiter] for limiter in limiters]


class Called(threading.Event):
    """An event that plans anew when it is set."""

    def __init__(self, crowd: Crowd, limiter: JointLimiter) -> None:
        super().__init__()
        self.crowd, self.limiter, self.planned = crowd, limiter, math.inf
        self.waiter = SlotWaiter("", False, math.inf, Stop(), self)

    def set(self) -> None:
        self.crowd.plan(self)


def busiest(instants: list[float]) -> int:
    return max(sum(at <= other < at + 1 for other in instants) for at in instants)


def test_two_endpoints_together_keep_the_common_limit_and_each_its_own() -> None:
    common = line_of(50.0)
    one, two = Crowd().leave([joint(rate, common) for rate in (40.0, 30.0)], 100)
    assert busiest([*one, *two]) <= 50
    assert busiest(one) <= 40 and busiest(two) <= 30
    assert len(one) == len(two) == 100
    assert max(*one, *two) - START < 200 / 50 * 1.2


def test_pauses_and_lowered_rates_are_the_endpoints_own() -> None:
    common = line_of(100.0)
    own = line_of(100.0)
    limiter, other = JointLimiter(own, common), joint(100.0, common)
    limiter.pause(START + 5)
    own.set_rate(1.0)
    assert limiter.paused_until == START + 5 and limiter.next_free(START) == START + 5
    assert other.next_free(START) == START
    assert not limiter.go(START, True) and other.go(START, False)


def test_an_endpoint_that_pauses_holds_up_no_other_of_another_tenant() -> None:
    common = line_of(1.0)
    paused, other = joint(100.0, common), joint(100.0, common)
    assert other.go(START, False)  # the common turn of this second
    first, second = waiter("a"), waiter("b")
    paused.join(first, START)
    other.join(second, START)
    first.away = second.away = True
    assert paused.take(first, START) > 0 and other.take(second, START) > 0
    assert first.second is not None and second.second is not None
    paused.pause(START + 60)
    assert paused.take(first, START + 1.1) > 0
    assert first.second is None
    assert other.take(second, START + 1.1) == 0.0


def test_a_turn_of_one_limit_is_not_lost_where_the_other_has_none() -> None:
    own, common = line_of(1.0), line_of(1.0)
    limiter, other = JointLimiter(own, common), joint(1.0, common)
    assert own.go(START, False)
    assert not limiter.go(START, False)
    assert other.go(START, False)  # nothing was taken from the common one


def client_of(clock: FakeClock, service: FakeService, rate: float, **more: object) -> CosyClient:
    return CosyClient(
        [Endpoint(url) for url in URLS],
        batch_size=1,
        limits=LimitConfig(rate=rate),
        http_client=httpx.Client(transport=service),
        clock=clock,
        serial=True,
        **more,  # type: ignore[arg-type]
    )


def test_a_client_sends_no_more_than_its_rate_to_all_endpoints_together() -> None:
    clock, service = FakeClock(), FakeService()
    sent: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(clock.now())
        service.answer(answer)
        return service.speak(service.calls[-1])

    service.answer(answer)
    with client_of(clock, service, 20) as client:
        client.synth_many([f"这是第{number}句要说的话" for number in range(60)])
    assert len(sent) == 60 and busiest(sent) <= 20
    assert sent[-1] - sent[0] < 3.2  # and not much less


def test_the_error_of_a_call_that_gets_no_turn_names_the_limit() -> None:
    with client_of(FakeClock(), FakeService(), 0.1, deadline=2.0) as client:
        client.synth("你好")
        with pytest.raises(RateLimitedError, match=r"all endpoints together \(LimitConfig.rate\)"):
            client.synth("再见")


def test_the_rate_may_come_from_the_environment() -> None:
    config = load_config(None, {}, {"COSY_SYNC_LIMITS_RATE": "7.5"})
    assert config.limits.rate == 7.5
    assert cosy_sync.LimitConfig().rate is None


@pytest.mark.parametrize("rate", [0, -1, "fast", math.nan])
def test_a_rate_that_cannot_be_is_refused_by_name(rate: object) -> None:
    with pytest.raises(ConfigError, match="rate: "):
        LimitConfig(rate=rate)  # type: ignore[arg-type]


def alone() -> tuple[EndpointLimiter, list[EndpointLimiter]]:
    line = line_of(10.0)
    return line, [line]


def behind_another() -> tuple[JointLimiter, list[EndpointLimiter]]:
    own, common = line_of(10.0), line_of(10.0)
    return JointLimiter(own, common), [own, common]


# Python 3.13 traces a generator that is dropped, where no signal comes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make", [alone, behind_another])
@pytest.mark.parametrize("urgent", [False, True])
def test_who_is_interrupted_at_any_step_is_in_nobodys_way(
    make: Callable[[], tuple[EndpointLimiter | JointLimiter, list[EndpointLimiter]]], urgent: bool
) -> None:
    for number in itertools.count(1):
        limiter, lines = make()
        clock, each = FakeClock(START), waiter("a", urgent)
        assert limiter.go(START, urgent)

        def pass_through(
            limiter: EndpointLimiter | JointLimiter = limiter,
            clock: FakeClock = clock,
            each: SlotWaiter = each,
        ) -> None:
            try:
                limiter.join(each, clock.now())
                each.sleep(clock)
                while limiter.take(each, clock.now()) > 0.0:
                    each.sleep(clock)
            finally:
                limiter.leave(each, clock.now())

        came = interrupt_at(number, pass_through)
        now = clock.now() + 10
        assert [list(line._in_order()) for line in lines] == [[]] * len(lines)
        assert limiter.next_free(now) == now and limiter.go(now, False)
        if not came:
            return
