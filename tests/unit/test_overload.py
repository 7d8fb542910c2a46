"""What a user sees of overload: errors, events, counters, log lines; on a fake clock."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest

import cosy_sync
from cosy_sync import (
    BreakerConfig,
    ConfigError,
    CosyClient,
    Endpoint,
    OverloadConfig,
    RetryConfig,
)
from cosy_sync.events import CallRefused, Event, LimitsLowered, RetrySuppressed
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"
NEVER_OPEN = BreakerConfig(min_calls=10**9)


class Rig:
    """A client on a fake service and clock, and what it told."""

    def __init__(self, **settings: object) -> None:
        self.service, self.clock, self.events = FakeService(), FakeClock(), list[Event]()
        endpoint = settings.pop("endpoint", Endpoint(URL))
        settings = {"serial": True, "breaker": NEVER_OPEN, **settings}
        self.client = CosyClient(
            endpoint,  # type: ignore[arg-type]
            http_client=httpx.Client(transport=self.service),
            clock=self.clock,
            observers=[self],
            **settings,  # type: ignore[arg-type]
        )

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def told(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def speak(self, count: int = 1) -> list[cosy_sync.CosyError | None]:
        """Speak texts one after the other; return each one's error."""
        errors: list[cosy_sync.CosyError | None] = []
        for number in range(count):
            try:
                self.client.synth(f"第{number}句要说的话")
                errors.append(None)
            except cosy_sync.CosyError as error:
                errors.append(error)
        return errors


# -- the retry budget -----------------------------------------------------------------------------


def test_without_budget_the_servers_own_error_comes_at_once_with_the_attempts_before() -> None:
    rig = Rig(overload=OverloadConfig(retry_floor=0.2, throttle_cap=0))  # two retries in 10 s
    rig.service.fail(500, times=9)
    first, second = rig.speak(2)
    assert isinstance(first, cosy_sync.UnavailableError) and len(first.attempts) == 2
    assert isinstance(second, cosy_sync.UnavailableError) and len(second.attempts) == 0
    assert len(rig.service.calls) == 3 + 1
    assert len(rig.clock.waits) == 2


def test_each_suppressed_retry_is_an_event_a_counter_and_a_log_line(caplog) -> None:
    caplog.set_level("INFO", logger="cosy_sync")
    rig = Rig(overload=OverloadConfig(retry_floor=0, retry_share=0))
    rig.service.fail(500, times=2)
    errors = rig.speak(2)
    events = rig.told(RetrySuppressed)
    assert [(e.endpoint, e.reason, e.text_hash) for e in events] == [
        (URL, "budget", error.text_hash) for error in errors
    ]
    assert rig.client.stats().suppressed == {"budget": 2}
    assert f"text #{errors[0].text_hash} does not go to {URL} again (budget: " in caplog.text


def test_a_retry_that_would_outlast_the_deadline_is_not_paid_for() -> None:
    rig = Rig(deadline=0.05, overload=OverloadConfig(retry_floor=0.1))
    rig.service.fail(500)
    rig.speak()
    assert rig.client.stats().suppressed == {"deadline": 1}
    assert rig.client.stats().retry_budget == 1.0


def test_where_a_tenth_of_the_calls_fails_each_interactive_text_is_repeated_until_it_is_spoken():
    rig = Rig(endpoint=Endpoint(URL, rate=1e6))

    def answer(request: httpx.Request) -> httpx.Response:
        rig.clock.advance(0.02)
        failed = len(rig.service.calls) % 9 == 0
        return httpx.Response(502) if failed else rig.service.speak(rig.service.calls[-1])

    rig.service.answer(*[answer] * 1_200)
    assert rig.speak(1_000) == [None] * 1_000
    assert rig.told(RetrySuppressed) == []


def test_where_more_than_a_fifth_of_the_calls_fails_retries_add_a_tenth_to_them():
    rig = Rig(endpoint=Endpoint(URL, rate=1e6), overload=OverloadConfig(throttle_cap=0))

    def answer(request: httpx.Request) -> httpx.Response:
        rig.clock.advance(0.02)
        failed = len(rig.service.calls) % 3 == 0
        return httpx.Response(502) if failed else rig.service.speak(rig.service.calls[-1])

    rig.service.answer(*[answer] * 1_500)
    rig.speak(1_000)
    assert 1_050 <= len(rig.service.calls) <= 1_110


def test_what_cannot_succeed_is_not_called_a_suppressed_retry() -> None:
    rig = Rig(overload=OverloadConfig(retry_floor=0, retry_share=0))
    rig.service.fail(401)
    rig.speak()
    assert rig.told(RetrySuppressed) == []


def test_the_budget_grows_with_the_texts_sent_and_each_counts_once() -> None:
    rig = Rig(overload=OverloadConfig(retry_floor=0, retry_share=0.5))
    rig.speak(3)
    assert rig.client.stats().retry_budget == 1.5
    rig.service.fail(500)
    rig.speak()  # four texts: two retries, one of them used
    assert rig.client.stats().retry_budget == 1.0


def test_a_batch_that_is_halved_counts_each_text_once() -> None:
    rig = Rig(priority="interactive", overload=OverloadConfig(retry_floor=0, retry_share=0.5))
    rig.service.fail(400)
    rig.client.synth_many(["第一句话", "第二句话"])
    assert len(rig.service.calls) == 3
    assert rig.client.stats().retry_budget == 1.0


def test_interactive_batches_pay_for_each_text() -> None:
    rig = Rig(priority="interactive", overload=OverloadConfig(retry_floor=0.2, retry_share=0))
    rig.service.fail(503)
    outcomes = rig.client.synth_many(["第一句话", "第二句话", "第三句话"], on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, True, False]
    assert [len(call) for call in rig.service.calls] == [3, 2]


def test_bulk_retries_are_not_paid_for() -> None:
    rig = Rig(overload=OverloadConfig(retry_floor=0, retry_share=0))
    rig.service.fail(500, times=3)
    assert len(rig.client.synth_many(["第一句话", "第二句话"])) == 2
    assert rig.client.stats().suppressed == {}


def test_bulk_failures_do_not_raise_the_rate_of_sends() -> None:
    def instants(failing: bool) -> list[float]:
        rig = Rig(endpoint=Endpoint(URL, rate=20), batch_size=1, deadline=600)
        sent: list[float] = []

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(rig.clock.now())
            rig.service.answer(answer)
            if failing and len(sent) % 3 == 0:
                return httpx.Response(500)
            return rig.service.speak(rig.service.calls[-1])

        rig.service.answer(answer)
        outcomes = rig.client.synth_many([f"第{n}句话说得很好" for n in range(60)])
        assert len(outcomes) == 60
        return sent

    calm, stormy = instants(failing=False), instants(failing=True)
    assert len(calm) == 60 and 85 <= len(stormy) <= 95  # the job only takes longer
    assert most_in_a_second(stormy) <= most_in_a_second(calm) <= 20


def most_in_a_second(instants: list[float]) -> int:
    return max(sum(t <= other < t + 1 for other in instants) for t in instants)


def test_bulk_failures_do_not_raise_the_requests_in_flight() -> None:
    lock, inside, most, failed = threading.Lock(), [0], [0], [0]
    service = FakeService()

    def handle(request: httpx.Request) -> httpx.Response:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        with lock:
            inside[0] -= 1
            failed[0] += 1
            bad = failed[0] % 3 == 0
        return httpx.Response(500) if bad else service.handle_request(request)

    with CosyClient(
        Endpoint(URL, max_connections=3, rate=10_000),
        http_client=httpx.Client(transport=httpx.MockTransport(handle)),
        batch_size=1,
        retry=RetryConfig(base=0.001, max_retries=20),
    ) as client:
        assert len(client.synth_many([f"第{n}句话说得很好" for n in range(90)])) == 90
    assert most[0] <= 3


# -- refusals of our own --------------------------------------------------------------------------


def test_held_back_calls_end_at_once_and_are_events_counters_and_log_lines(caplog) -> None:
    caplog.set_level("INFO", logger="cosy_sync")
    rig = Rig(retry=RetryConfig(max_retries=0))
    rig.service.fail(500, times=999)
    errors = rig.speak(60)
    held = [error for error in errors if isinstance(error, cosy_sync.OverloadError)]
    assert isinstance(errors[19], cosy_sync.UnavailableError)
    assert len(held) >= 10
    assert len(rig.service.calls) == 60 - len(held)
    assert max(rig.clock.waits) < 0.1  # only for the turns of those that were sent
    assert all(error.attempts == () for error in held)  # a refusal uses up no attempt
    assert [(e.endpoint, e.texts) for e in rig.told(CallRefused)] == [(URL, 1)] * len(held)
    assert rig.client.stats().refused == {"OverloadError": len(held)}
    assert f"1 texts were not sent to {URL}: OverloadError" in caplog.text


def test_bulk_calls_wait_until_they_are_let_through() -> None:
    rig = Rig(retry=RetryConfig(max_retries=0), batch_size=2, deadline=600)
    rig.service.fail(500, times=30)
    before = len(rig.client.synth_many([f"第{n}句话" for n in range(60)], on_error="return"))
    assert before == 60
    outcomes = rig.client.synth_many([f"第{n}句好话" for n in range(60)], on_error="return")
    refused = rig.told(CallRefused)
    assert refused and all(event.texts == 2 for event in refused)
    assert sum(rig.client.stats().refused.values()) == 2 * len(refused)
    assert len(rig.clock.waits) >= len(refused)
    assert all(1.0 <= wait <= 1.1 for wait in rig.clock.waits if wait >= 0.5)
    assert not [o for o in outcomes if isinstance(o.error, cosy_sync.OverloadError)]


def test_an_open_breaker_and_a_booked_out_rate_count_as_refusals() -> None:
    rig = Rig(breaker=BreakerConfig(), retry=RetryConfig(max_retries=0))
    rig.service.fail(500, times=20)
    rig.speak(21)
    assert rig.client.stats().refused == {"BreakerOpenError": 1}
    rig = Rig(endpoint=Endpoint(URL, rate=0.1), deadline=5)
    rig.speak(2)
    assert rig.client.stats().refused == {"RateLimitedError": 1}


def test_a_deadline_is_no_refusal() -> None:
    rig = Rig(deadline=1.0)
    rig.service.answer(lambda _: (rig.clock.advance(2.0), httpx.Response(500))[1])
    rig.speak()
    assert rig.told(CallRefused) == []


# -- limits that follow the service ----------------------------------------------------------------


def test_lowered_limits_are_an_event_a_gauge_and_a_log_line(caplog) -> None:
    caplog.set_level("INFO", logger="cosy_sync")
    rig = Rig(overload=OverloadConfig(start=50))
    assert rig.client.stats().limits == {}
    rig.service.fail(429, times=2)
    rig.speak()
    lowered = rig.told(LimitsLowered)
    stats = rig.client.stats()
    rate, in_flight = stats.limits[URL]
    assert stats.lowered == len(lowered) == 2
    assert 70 <= rate < 100 and in_flight == 24
    assert [event.in_flight for event in lowered] == [35, 24]
    assert (
        f"{URL} shows overload (ThrottledError): at most 70 requests/s, 24 in flight" in caplog.text
    )


def test_a_lowered_rate_is_the_reason_that_a_late_turn_gives() -> None:
    settings = OverloadConfig(patience=1e6, throttle_cap=0)
    rig = Rig(endpoint=Endpoint(URL, rate=1), overload=settings, retry=RetryConfig(max_retries=0))
    rig.service.fail(429, times=2)
    rig.speak(2)
    quick = rig.client.with_options(deadline=0.5)
    with pytest.raises(cosy_sync.RateLimitedError, match=r"only 0\.\d+ of 1 requests/s are sent"):
        quick.synth("你好吗")


def in_a_date() -> dict[str, str]:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    later = now + timedelta(seconds=7)
    return {
        "Date": format_datetime(now, usegmt=True),
        "Retry-After": format_datetime(later, usegmt=True),
    }


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [
        lambda: {"Retry-After": "7"},
        lambda: {"retry-after-ms": "7000"},
        lambda: {"retry-after-ms": "7000", "Retry-After": "60"},
        in_a_date,
    ],
    ids=["seconds", "milliseconds", "both", "date"],
)
def test_every_form_of_retry_after_pauses_the_endpoint_and_loses_no_text(
    status: int, headers: Callable[[], dict[str, str]]
) -> None:
    rig = Rig(batch_size=1, deadline=60)
    sent: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(rig.clock.now())
        rig.service.answer(answer)
        if len(sent) == 3:
            return httpx.Response(status, headers=headers())
        return rig.service.speak(rig.service.calls[-1])

    rig.service.answer(answer)
    assert len(rig.client.synth_many([f"第{n}句话说得很好" for n in range(30)])) == 30
    assert len(sent) == 31
    assert 7.0 <= sent[3] - sent[2] < 8.0
    assert sent[-1] - sent[3] < 2.0  # and then it goes on as before


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry_share": 1.1},
        {"retry_share": -0.1},
        {"retry_floor": -1},
        {"retry_window": 0},
        {"throttle_factor": 0.9},
        {"throttle_window": 0},
        {"throttle_cap": 1.0},
        {"throttle_cap": -0.1},
        {"throttle_min_calls": 0},
        {"decrease": 0},
        {"decrease": 1},
        {"recovery": 0},
        {"patience": -1},
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OverloadConfig(**wrong)  # type: ignore[arg-type]


def test_it_can_be_set_by_variables_but_not_for_a_single_view(monkeypatch) -> None:
    monkeypatch.setenv("COSY_SYNC_OVERLOAD_RETRY_SHARE", "0.2")
    with CosyClient(URL) as client:
        assert client.config.overload.retry_share == 0.2
        with pytest.raises(ConfigError, match="overload: belongs to the whole client"):
            client.with_options(overload=OverloadConfig())


def test_an_error_that_holds_back_survives_pickling() -> None:
    error = cosy_sync.OverloadError("held back", endpoint=URL, retry_after=1.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.retry_after) == (type(error), str(error), 1.0)
