"""The limit of all endpoints together, beside each one's own."""

import math

import httpx
import pytest

import cosy_sync
from cosy_sync import ConfigError, CosyClient, Endpoint, LimitConfig, RateLimitedError
from cosy_sync.engine.turns import JointLimiter
from cosy_sync.policies import RateLimiter
from cosy_sync.settings import load_config
from cosy_sync.testing import FakeClock, FakeService

START = 1_000.0
URLS = ("http://one.test/batch", "http://two.test/batch")


def leave(limiter: JointLimiter, count: int) -> list[float]:
    """Return when so many requests leave that all want to at once."""
    left = []
    for turn in sorted(limiter.reserve(START, math.inf) for _ in range(count)):
        while (wait := limiter.go(turn)) > 0:
            turn += wait
        left.append(turn)
    return sorted(left)


def busiest(instants: list[float]) -> int:
    return max(sum(at <= other < at + 1 for other in instants) for at in instants)


def test_two_endpoints_together_keep_the_common_limit_and_each_its_own() -> None:
    common = RateLimiter(50.0)
    limiters = [JointLimiter(RateLimiter(rate), common) for rate in (40.0, 30.0)]
    one, two = (leave(limiter, 100) for limiter in limiters)
    assert busiest([*one, *two]) <= 50
    assert busiest(one) <= 40 and busiest(two) <= 30


def test_a_turn_after_the_deadline_is_none_whichever_limiter_it_is() -> None:
    for own, common in ((1.0, 100.0), (100.0, 1.0)):
        limiter = JointLimiter(RateLimiter(own), RateLimiter(common))
        assert limiter.reserve(START, START) == START
        assert limiter.reserve(START, START + 0.5) is None
        assert limiter.next_free(START) > START + 0.5


def test_pauses_and_lowered_rates_are_the_endpoints_own() -> None:
    own, common = RateLimiter(100.0), RateLimiter(100.0)
    limiter, other = JointLimiter(own, common), JointLimiter(RateLimiter(100.0), common)
    limiter.pause(START + 5)
    limiter.set_rate(1.0)
    assert limiter.paused_until == START + 5 and limiter.next_free(START) == START + 5
    assert other.next_free(START) == START
    limiter.reserve(START, math.inf)
    assert limiter.next_free(START) > START + 5.9


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
