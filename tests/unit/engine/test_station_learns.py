"""A station learns from its attempts only what a choice among several needs."""

from __future__ import annotations

import pytest

from cosy_sync.config import ClientConfig, Endpoint
from cosy_sync.endpoints.endpoint import Attempt, EndpointState
from cosy_sync.errors import (
    BadAudioError,
    BillingError,
    ConnectError,
    CosyError,
    RefusedError,
    ReplyTimeout,
    TextError,
    ThrottledError,
    UnavailableError,
    server_error,
)
from cosy_sync.events import Observers
from cosy_sync.models import Audio, Utterance
from cosy_sync.policies import Call, FirstTry
from cosy_sync.testing import FakeClock

NOW = 1000.0
TEXTS = [Utterance("一二三四"), Utterance("五六七八九十", index=1)]
GOOD = Audio(b"\0\0" * 100, format="pcm", sample_rate=24_000)


class Company:
    def __init__(self) -> None:
        self.judged: list[tuple[float, float, float]] = []
        self.looked: list[float] = []

    def judge(self, endpoint: EndpointState, failed: float, sent: float, now: float) -> None:
        self.judged.append((failed, sent, now))

    def look_again(self, now: float) -> None:
        self.looked.append(now)


@pytest.fixture
def pool() -> Company:
    return Company()


@pytest.fixture
def endpoint(pool: Company) -> EndpointState:
    endpoint = Endpoint("http://a.test/", weight=3, max_connections=7)
    return EndpointState(endpoint, ClientConfig(), Observers([]), FakeClock(), pool=pool)


def learn(endpoint: EndpointState, error: CosyError | None, *results: Audio | CosyError) -> None:
    endpoint.judge(TEXTS, results, error, NOW, NOW + 2, 2.0)


def test_it_shows_what_a_choice_needs(endpoint: EndpointState) -> None:
    assert (endpoint.weight, endpoint.places, endpoint.busy, endpoint.label) == (
        *(3, 4, 0),
        "http://a.test/",
    )
    endpoint.join(NOW)
    endpoint.join(NOW)
    endpoint.leave(NOW)
    assert endpoint.busy == 1
    assert endpoint.pace(NOW) is None


def test_an_address_stands_in_the_label() -> None:
    endpoint = Endpoint("http://a.test/batch")
    endpoint = EndpointState(endpoint, ClientConfig(), Observers([]), FakeClock(), address="::1")
    assert endpoint.label == "http://a.test/batch (::1)"


def test_a_success_tells_its_pace(endpoint: EndpointState, pool: Company) -> None:
    learn(endpoint, None, GOOD, GOOD)
    assert endpoint.pace(NOW + 2) == pytest.approx(2 / 10)
    assert pool.judged == [(0.0, NOW, NOW + 2)]


def test_wrong_audio_counts_for_its_share_and_a_refused_text_not_at_all(
    endpoint: EndpointState, pool: Company
) -> None:
    learn(endpoint, None, GOOD, BadAudioError("silent"))
    learn(endpoint, None, GOOD, TextError("not this one"))
    assert [failed for failed, _, _ in pool.judged] == [0.5, 0.0]


@pytest.mark.parametrize(
    "error", [UnavailableError("down"), BadAudioError("no audio"), ConnectError("refused")]
)
def test_a_failure_counts_and_its_quickness_is_no_merit(
    error: CosyError, endpoint: EndpointState, pool: Company
) -> None:
    learn(endpoint, error)
    assert pool.judged == [(1.0, NOW, NOW + 2)]
    assert endpoint.pace(NOW + 2) is None


def test_a_timeout_tells_how_slow_it_is(endpoint: EndpointState, pool: Company) -> None:
    learn(endpoint, ReplyTimeout("late"))
    assert pool.judged == [(1.0, NOW, NOW + 2)]
    assert endpoint.pace(NOW + 2) == pytest.approx(2 / 10)


@pytest.mark.parametrize("error", [ThrottledError("busy"), RefusedError("not sent")])
def test_what_says_nothing_about_its_health_does_not_count(
    error: CosyError, endpoint: EndpointState, pool: Company
) -> None:
    learn(endpoint, error)
    assert pool.judged == []
    assert endpoint.pace(NOW + 2) is None


def test_only_a_failed_connection_has_the_addresses_looked_up(
    endpoint: EndpointState, pool: Company
) -> None:
    learn(endpoint, UnavailableError("down"))
    assert pool.looked == []
    learn(endpoint, ConnectError("refused"))
    assert pool.looked == [NOW + 2]


def test_silence_counts_from_the_first_that_began_and_from_each_that_ended(
    endpoint: EndpointState,
) -> None:
    learn(endpoint, None, GOOD, GOOD)  # 2 s for 10 characters
    endpoint.join(NOW + 10)
    endpoint.join(NOW + 13)
    assert endpoint.pace(NOW + 15) == pytest.approx(0.5)
    endpoint.leave(NOW + 15)
    endpoint.judge(TEXTS, [GOOD, GOOD], None, NOW + 13, NOW + 15, 2.0)
    assert endpoint.pace(NOW + 16) == pytest.approx(0.2)


def test_one_that_is_ejected_is_never_soon(endpoint: EndpointState) -> None:
    health = endpoint.health
    health.ejected, health.until = True, NOW + 0.5
    assert endpoint.wait(NOW) == 1.5
    assert endpoint.wait(NOW + 0.5) == 0.0
    endpoint.limiter.pause(NOW + 9)
    assert endpoint.wait(NOW) == 9.0
    health.ejected = False
    assert endpoint.wait(NOW + 9) == 0.0


@pytest.mark.parametrize("status", [429, 503, 500, 502, 408])
def test_it_pauses_for_as_long_as_a_service_asks_that_may_be_called_again(
    endpoint: EndpointState, status: int
) -> None:
    endpoint.obey(server_error(status, "no", retry_after=5.0), NOW)
    assert endpoint.limiter.paused_until == NOW + 5.0


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 413, 422, 451])
def test_a_refusal_that_waiting_does_not_change_pauses_nothing(
    endpoint: EndpointState, status: int
) -> None:
    endpoint.obey(server_error(status, "no", retry_after=5.0), NOW)
    endpoint.obey(BillingError("no", status=429, retry_after=5.0), NOW)
    endpoint.obey(TextError("no", status=400, retry_after=5.0), NOW)
    assert endpoint.limiter.paused_until < NOW


# -- what counts against it -----------------------------------------------------------------------

BROKEN = UnavailableError("broken", status=500)


def settle(
    endpoint: EndpointState, error: CosyError | None, texts: list[Utterance] = TEXTS, **call: bool
) -> CosyError | None:
    endpoint.join(NOW)
    admission = endpoint.breaker.admit(NOW, Call(**call))
    attempt = Attempt(endpoint, admission, NOW, Call(**call), holds=False)
    return endpoint.settle(attempt, error, NOW + 0.1, 0.1, texts)


def test_batches_that_one_text_may_have_broken_count_once_nothing_else_succeeds(
    endpoint: EndpointState,
) -> None:
    for _ in range(3):
        for _ in range(19):
            assert settle(endpoint, BROKEN) is BROKEN
        settle(endpoint, None)
    assert endpoint.breaker.state == "closed"
    for _ in range(20):
        settle(endpoint, BROKEN)
    assert endpoint.breaker.state == "open"


def test_batches_that_fail_otherwise_count_at_once(endpoint: EndpointState) -> None:
    for _ in range(10):
        settle(endpoint, None)
        settle(endpoint, UnavailableError("bad gateway", status=502))
    assert endpoint.breaker.state == "open"


@pytest.mark.parametrize(("spoken", "state"), [(16, "closed"), (7, "open")])
def test_texts_that_broke_their_batches_count_where_half_of_the_texts_do(
    spoken: int, state: str, endpoint: EndpointState
) -> None:
    for _ in range(spoken):
        settle(endpoint, None)  # two texts each
    for _ in range(30):
        if endpoint.breaker.state == "closed":
            settle(endpoint, BROKEN, TEXTS[:1], apart=True)
    assert endpoint.breaker.state == state


def test_a_503_is_not_the_texts_fault_while_fewer_are_in_flight_for_it(
    endpoint: EndpointState,
) -> None:
    busy, first = UnavailableError("busy", status=503), FirstTry(NOW, NOW)
    assert not endpoint.is_overloaded(busy, first, NOW + 1)
    settle(endpoint, busy)
    assert endpoint.overload.is_strained(NOW + 1)
    assert endpoint.is_overloaded(busy, first, NOW + 1)
    assert not endpoint.is_overloaded(BROKEN, first, NOW + 1)
    assert not endpoint.is_overloaded(busy, first, NOW + 31)


def test_a_503_is_the_texts_fault_once_others_were_refused_too_rarely_for_chance(
    endpoint: EndpointState,
) -> None:
    busy = UnavailableError("busy", status=503)
    settle(endpoint, busy)
    for _ in range(8):
        settle(endpoint, None)
    settle(endpoint, busy)
    assert endpoint.may_be_chance(busy, 5, NOW + 1)
    assert not endpoint.may_be_chance(busy, 10, NOW + 1)
    assert endpoint.may_be_chance(BROKEN, 10, NOW + 1)  # of other failures it is not asked
