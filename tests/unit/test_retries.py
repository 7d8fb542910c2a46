"""What a client does about failures: repeats, waits, bisects, gives up; on a fake clock."""

import itertools
import threading
from collections.abc import Iterator

import httpx
import pytest

import cosy_sync
from cosy_sync import BatchConfig, BreakerConfig, CosyClient, Endpoint, OverloadConfig, RetryConfig
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(service: FakeService, clock: FakeClock) -> Iterator[CosyClient]:
    with make(service, clock) as made:
        yield made


def make(service: FakeService, clock: FakeClock, **settings: object) -> CosyClient:
    http_client = httpx.Client(transport=service)
    endpoint = settings.pop("endpoint", Endpoint(URL))
    settings = {"serial": True, **settings}
    return CosyClient(endpoint, http_client=http_client, clock=clock, **settings)  # type: ignore[arg-type]


def test_a_failed_batch_is_repeated_three_times_with_doubled_waits(client, service, clock) -> None:
    service.fail(503, times=3)
    assert len(client.synth_many(["早上好", "晚上好"])) == 2
    assert len(service.calls) == 4
    assert [len(call) for call in service.calls] == [2, 2, 2, 2]
    for wait, step in zip(clock.waits, (0.2, 0.4, 0.8), strict=True):
        assert step / 2 <= wait <= step


def test_a_server_that_fails_for_ever_ends_as_its_own_error_with_the_attempts(
    service, clock
) -> None:
    with make(service, clock, deadline=10) as client:
        service.fail(500, times=99)
        with pytest.raises(cosy_sync.BatchError) as caught:
            client.synth_many(["早上好", "晚上好"])
    errors = [outcome.error for outcome in caught.value.outcomes]
    assert [type(error) for error in errors] == [cosy_sync.UnavailableError] * 2
    assert [error.index for error in errors] == [0, 1]
    # Each draws its own wait, and the last one may not fit for both.
    assert max(len(error.attempts) for error in errors) == len(service.calls) - 1
    assert all(error.endpoint == URL for error in errors)
    assert 8.0 < sum(clock.waits) < 10.0


def picky(service: FakeService, status: int) -> None:
    """Answer this status to every call with a 坏 in it, and speak the others."""

    def answer(request: httpx.Request) -> httpx.Response:
        service.answer(answer)
        texts = service.calls[-1]
        if any("坏" in text for text in texts):
            return httpx.Response(status, json={"detail": "failed"})
        return service.speak(texts)

    service.answer(answer)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, cosy_sync.AuthError),
        (403, cosy_sync.AuthError),
        (402, cosy_sync.BillingError),
        (404, cosy_sync.BadRequestError),
        (301, cosy_sync.ServerError),
    ],
)
def test_what_will_be_refused_again_is_not_repeated(client, service, status, kind) -> None:
    service.fail(status)
    with pytest.raises(kind) as caught:
        client.synth("早上好")
    assert caught.value.status == status
    assert len(service.calls) == 1


def test_retry_after_is_a_lower_bound(client, service, clock) -> None:
    service.fail(429, Retry_After="5")
    client.synth("早上好")
    assert sum(clock.waits) >= 5


def test_retry_after_pauses_the_whole_endpoint(service, clock) -> None:
    with make(service, clock, retry=RetryConfig(max_retries=0)) as client:
        service.fail(503, Retry_After="7")
        started = clock.now()
        with pytest.raises(cosy_sync.UnavailableError):
            client.synth("早上好")
        client.synth("晚上好")
        assert clock.now() - started >= 7


def test_a_retry_that_does_not_fit_the_deadline_returns_the_servers_error(service, clock) -> None:
    with make(service, clock, deadline=2.0) as client:
        service.fail(503, Retry_After="60")
        with pytest.raises(cosy_sync.UnavailableError):
            client.synth("早上好")
        assert clock.waits == []


def test_one_bad_text_is_found_by_halving_the_batch(client, service) -> None:
    texts = [f"第{number}句正常的话。" for number in range(64)]
    texts[41] = "这句话[refuse]不行。"

    def picky(request: httpx.Request) -> httpx.Response:
        service.answer(picky)
        sent = service.calls[-1]
        if any("[refuse]" in text for text in sent):
            return httpx.Response(400, json={"error": {"code": "bad", "message": "no"}})
        return service.speak(sent)

    service.answer(picky)
    outcomes = client.synth_many(texts, on_error="return")
    assert [o.index for o in outcomes if not o.ok] == [41]
    assert isinstance(outcomes[41].error, cosy_sync.BadRequestError)
    assert outcomes[41].error.index == 41
    assert all(o.audio.data == service.wav(o.text) for o in outcomes if o.ok)
    # Six levels of halving, each with the good half beside it.
    assert len(service.calls) == 1 + 2 * 6


def test_a_batch_that_must_not_be_halved_fails_as_a_whole(service, clock) -> None:
    with make(service, clock, batch=BatchConfig(halve_refused=False)) as client:
        service.fail(400)
        outcomes = client.synth_many(["早上好", "晚上好"], on_error="return")
    assert {type(o.error) for o in outcomes} == {cosy_sync.BadRequestError}
    assert len(service.calls) == 1


def test_a_wrong_path_is_not_halved(client, service) -> None:
    service.fail(404, times=100)
    outcomes = client.synth_many(["早上好"] * 1 + ["晚上好"], on_error="return")
    assert {type(o.error) for o in outcomes} == {cosy_sync.BadRequestError}
    assert len(service.calls) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 404, 405])
def test_a_wrong_address_ends_a_bulk_call_at_once(service, clock, status) -> None:
    service.fail(status, times=1000)
    with make(service, clock, batch_size=8) as client:
        texts = [f"第{number}句话" for number in range(8_000)]
        outcomes = client.synth_many(texts, on_error="return")
    assert {getattr(outcome.error, "status", None) for outcome in outcomes} == {status}
    assert len(service.calls) < 200  # of 1 000: those that were under way


def test_only_the_texts_that_failed_are_sent_again(client, service) -> None:
    texts = ["早上好啊朋友", "中午好啊朋友", "晚上好啊朋友"]
    reply = service.speak(texts)
    broken = reply.content.replace(service.wav(texts[1]), bytes(len(service.wav(texts[1]))))
    service.answer(httpx.Response(200, content=broken, headers=dict(reply.headers)))
    audios = client.synth_many(texts)
    assert [audio.data for audio in audios] == [service.wav(text) for text in texts]
    assert service.calls == [texts, [texts[1]]]
    assert [audio.timing.attempts for audio in audios] == [1, 2, 1]


def test_bad_audio_is_repeated_twice_and_never_returned(client, service) -> None:
    service.answer(*[httpx.Response(200, text="<html>hello</html>") for _ in range(9)])
    with pytest.raises(cosy_sync.BadAudioError):
        client.synth("早上好")
    assert len(service.calls) == 3


def test_the_deadline_error_reports_the_callers_number(service, clock) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        clock.advance(2.5)
        raise httpx.ReadTimeout("late")

    with make(service, clock, deadline=2.5) as client:
        service.answer(slow)
        with pytest.raises(cosy_sync.DeadlineError, match=r"2\.5 s") as caught:
            client.synth("早上好")
    assert caught.value.deadline == 2.5
    assert isinstance(caught.value, TimeoutError)


def test_within_bounds_the_whole_call_and_keeps_what_is_done(service, clock) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        clock.advance(3)
        service.answer(slow)
        return service.speak(service.calls[-1])

    with make(service, clock, batch_size=1, deadline=60) as client:
        service.answer(slow)
        texts = [f"第{n}句话说得很好" for n in range(6)]
        outcomes = client.synth_many(texts, within=7, on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, True, True, False, False, False]
    assert all(isinstance(o.error, cosy_sync.DeadlineError) for o in outcomes[3:])
    # Each text's time in the queue counts from its own batch, not from the whole call.
    assert [outcome.timing.queued for outcome in outcomes[:3]] == [0.0, 0.0, 0.0]
    assert len(service.calls) == 3


def test_the_breaker_opens_and_an_interactive_caller_is_refused_at_once(service, clock) -> None:
    with make(service, clock, retry=RetryConfig(max_retries=0)) as client:
        service.fail(500, times=20)
        for _ in range(20):
            with pytest.raises(cosy_sync.UnavailableError):
                client.synth("早上好")
        with pytest.raises(cosy_sync.BreakerOpenError) as caught:
            client.synth("早上好")
        assert 20 < caught.value.retry_after <= 33
        assert len(service.calls) == 20
        assert client.stats().breakers == {URL: "open"}


@pytest.mark.parametrize("texts", [1, 64, 300])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_bulk_call_loses_nothing_to_an_outage_and_goes_on_soon_after_it(
    service, clock, texts, batch_size
) -> None:
    returns = clock.now() + 20.0
    asked: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(clock.now())
        service.answer(answer)
        if clock.now() < returns:
            raise httpx.ConnectError("refused")
        return service.speak(service.calls[-1])

    service.answer(answer)
    settings = {"batch_size": batch_size, "deadline": 60}
    with make(service, clock, endpoint=Endpoint(URL, rate=10_000), **settings) as client:
        assert len(client.synth_many([f"第{n}句话说得很好" for n in range(texts)])) == texts
    assert min(at for at in asked if at >= returns) - returns < 2.5
    assert sum(at < returns for at in asked) < 20 + 16


def test_a_service_that_dies_in_the_middle_of_a_bulk_call_loses_none_of_it(service, clock) -> None:
    with make(service, clock, batch_size=1) as client:
        client.synth_many(["早上好"] * 100)
        service.answer(*[httpx.RemoteProtocolError("cut")] * 2, *[httpx.ConnectError("no")] * 30)
        assert len(client.synth_many([f"第{n}句话说得很好" for n in range(30)])) == 30
    assert len(service.calls) == 100 + 32 + 30


def test_a_text_that_fails_while_others_succeed_has_few_retries(
    service, clock, monkeypatch
) -> None:
    picky(service, 500)
    with make(service, clock) as client:
        wait = clock.wait

        def wait_while_another_text_is_spoken(event: threading.Event, seconds: float) -> bool:
            stopped = wait(event, seconds)
            client.synth("又一句话")
            return stopped

        monkeypatch.setattr(clock, "wait", wait_while_another_text_is_spoken)
        (outcome,) = client.synth_many(["坏话"], on_error="return")
    assert isinstance(outcome.error, cosy_sync.UnavailableError)
    assert len(outcome.error.attempts) in (3, 4)  # the first may have met an outage


def test_a_single_text_that_a_working_service_refuses_ends_after_a_while(service, clock) -> None:
    picky(service, 500)
    with make(service, clock, batch_size=1, deadline=60) as client:
        outcomes = client.synth_many(["早上好", "坏的话", "晚上好"], on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert 8.0 < sum(clock.waits) < 14.0


def test_texts_that_fail_after_others_were_to_blame_end_with_their_retries(service, clock) -> None:
    picky(service, 500)
    texts = [f"{'第' if n % 6 else '坏'}{n}句" for n in range(19)]
    with make(service, clock, batch_size=1, deadline=20) as client:
        outcomes = client.synth_many(texts, on_error="return")
    assert [outcome.ok for outcome in outcomes] == ["坏" not in text for text in texts]
    assert len(outcomes[-1].error.attempts) == 3


def test_outlast_bounds_how_long_a_bulk_text_waits_for_a_service_that_is_away(
    service, clock
) -> None:
    with make(service, clock, retry=RetryConfig(outlast=5)) as client:
        service.fail(503, times=99)
        (outcome,) = client.synth_many(["早上好"], on_error="return")
    assert isinstance(outcome.error, cosy_sync.UnavailableError)
    assert 5.0 < sum(clock.waits) < 9.0


def test_outlast_0_leaves_the_retries_alone(service, clock) -> None:
    with make(service, clock, retry=RetryConfig(outlast=0)) as client:
        service.fail(503, times=9)
        (outcome,) = client.synth_many(["早上好"], on_error="return")
    assert not outcome.ok and len(service.calls) == 4


@pytest.mark.parametrize("texts", [1, 300])
def test_a_service_that_never_answered_ends_a_bulk_call_after_first_contact(
    service, clock, texts
) -> None:
    with make(service, clock, retry=RetryConfig(first_contact=5)) as client:
        service.fail(503, times=999)
        outcomes = client.synth_many([f"第{i}句话" for i in range(texts)], on_error="return")
    assert all(isinstance(each.error, cosy_sync.UnavailableError) for each in outcomes)
    assert 4.0 < sum(clock.waits) < 8.0


def test_first_contact_is_over_when_something_was_answered(service, clock) -> None:
    with make(service, clock, retry=RetryConfig(first_contact=5)) as client:
        client.synth("早上好")
        service.fail(503, times=15)
        (outcome,) = client.synth_many(["晚上好"], on_error="return")
    assert outcome.ok and sum(clock.waits) > 10.0


def test_first_contact_leaves_interactive_texts_their_retries(service, clock) -> None:
    with make(service, clock, retry=RetryConfig(first_contact=0)) as client:
        service.fail(503, times=2)
        assert client.synth("早上好").duration > 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_without_retries_a_bulk_text_is_sent_once(service, clock, status) -> None:
    with make(service, clock, retry=RetryConfig(max_retries=0)) as client:
        service.fail(status, times=3)
        with pytest.raises(cosy_sync.BatchError):
            client.synth_many(["早上好"])
    assert len(service.calls) == 1


def test_a_throttled_bulk_text_waits_as_long_as_its_deadline_allows(service, clock) -> None:
    service.fail(429, times=15)
    with make(service, clock, deadline=60) as client:
        assert len(client.synth_many(["早上好", "晚上好"])) == 2
    assert len(service.calls) == 16


def test_a_throttled_bulk_text_keeps_its_retries_for_what_else_fails(service, clock) -> None:
    with make(service, clock, deadline=60) as client:
        service.fail(429, times=9)
        service.answer(*[httpx.Response(200, text="<html>hello</html>") for _ in range(2)])
        assert len(client.synth_many(["早上好"])) == 1
    assert len(service.calls) == 12


def test_a_bulk_text_that_is_throttled_for_ever_ends_as_that_with_its_deadline(
    service, clock
) -> None:
    service.fail(429, times=999)
    with make(service, clock, deadline=20) as client:
        (outcome,) = client.synth_many(["早上好"], on_error="return")
    assert isinstance(outcome.error, cosy_sync.ThrottledError)
    assert 17.0 < sum(clock.waits) <= 20.0
    assert len(service.calls) < 20


def test_a_throttled_interactive_text_has_its_few_retries(service, clock) -> None:
    service.fail(429, times=9)
    rich = OverloadConfig(retry_floor=100.0)
    with make(service, clock, overload=rich) as client, pytest.raises(cosy_sync.ThrottledError):
        client.synth("早上好")
    assert len(service.calls) == 4


def test_submitted_bulk_work_and_bulk_streams_outlast_an_outage_too(service, clock) -> None:
    with make(service, clock, priority="bulk") as client:
        service.fail(503, times=9)
        assert client.submit("早上好").result()
        service.fail(503, times=9)
        assert client.synth("早上好")


DEAD = BreakerConfig(min_calls=4, failure_ratio=1.0, dead_after=5.0, open_for=10.0)


def test_an_interactive_text_does_not_outlast_an_outage(service, clock) -> None:
    rich = OverloadConfig(retry_floor=100.0)
    with make(service, clock, breaker=DEAD, overload=rich) as client:
        client.synth("早上好")
        service.fail(500, times=9)
        with pytest.raises(cosy_sync.UnavailableError):
            client.synth("晚上好")
    assert len(service.calls) == 5


def test_an_outage_that_outlives_the_deadline_ends_as_the_servers_error(service, clock) -> None:
    with make(service, clock, breaker=DEAD, deadline=6.0) as client:
        client.synth_many([f"早上好{number}" for number in range(64)])
        service.fail(500, times=99)
        with pytest.raises(cosy_sync.BatchError) as caught:
            client.synth_many(["晚上好"])
    [outcome] = caught.value.outcomes
    assert isinstance(outcome.error, cosy_sync.UnavailableError)
    assert 3.9 <= sum(clock.waits) <= 6.0  # a nap lasts 2 s at most


def test_a_breaker_that_opens_beyond_the_deadline_is_not_waited_for(service, clock) -> None:
    breaker = BreakerConfig(open_for=600)  # its first early probe may go after 10 s
    settings = {"deadline": 5, "retry": RetryConfig(max_retries=0), "breaker": breaker}
    with make(service, clock, **settings) as client:
        service.fail(500, times=20)
        for _ in range(20):
            client.synth_many(["早上好"], on_error="return")
        (outcome,) = client.synth_many(["早上好"], on_error="return")
        assert isinstance(outcome.error, cosy_sync.BreakerOpenError)


def test_slow_calls_open_the_breaker_when_they_count(service, clock) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        clock.advance(3.0)
        return service.handle_request(request)

    breaker = cosy_sync.BreakerConfig(slow_call=2.0, slow_ratio=1.0, min_calls=3)
    http_client = httpx.Client(transport=httpx.MockTransport(slow))
    settings = {"http_client": http_client, "clock": clock, "serial": True, "breaker": breaker}
    with CosyClient(Endpoint(URL), **settings) as client:  # type: ignore[arg-type]
        for number in range(3):
            client.synth(f"第{number}句话说得很慢")
        with pytest.raises(cosy_sync.BreakerOpenError, match="took 2 s or longer"):
            client.synth("早上好")


def test_throttling_does_not_open_the_breaker(service, clock) -> None:
    never = OverloadConfig(throttle_cap=0)
    with make(service, clock, retry=RetryConfig(max_retries=0), overload=never) as client:
        service.fail(429, times=40)
        for _ in range(40):
            with pytest.raises(cosy_sync.ThrottledError):
                client.synth("早上好")
        assert client.stats().breakers == {URL: "closed"}
        assert client.stats().throttled == 40


def test_no_sliding_second_holds_more_requests_than_the_rate(service, clock) -> None:
    sent: list[float] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(clock.now())
        service.answer(note)
        return service.speak(service.calls[-1])

    service.answer(note)
    with make(service, clock, batch_size=1, endpoint=Endpoint(URL, rate=10)) as client:
        client.synth_many([f"第{n}句话说得很好" for n in range(40)])
    assert all(sum(t <= other < t + 1 for other in sent) <= 10 for t in sent)
    assert sent[-1] - sent[0] < 40 / 10 * 1.1


def test_a_rate_that_has_no_turn_before_the_deadline_refuses(service, clock) -> None:
    endpoint = Endpoint(URL, rate=0.1)
    with make(service, clock, endpoint=endpoint, deadline=5) as client:
        client.synth("早上好")
        with pytest.raises(cosy_sync.RateLimitedError):
            client.synth("晚上好")
        assert len(service.calls) == 1


def test_a_failed_endpoint_is_avoided_on_the_next_attempt(clock) -> None:
    hosts: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        if request.url.host == "bad.test":
            return httpx.Response(500)
        return FakeService().handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    urls = ["http://bad.test/batch", "http://good.test/batch"]
    settings = {"serial": True, "overload": OverloadConfig(retry_floor=5)}
    with CosyClient(urls, http_client=http_client, clock=clock, **settings) as client:  # type: ignore[arg-type]
        for number in range(20):
            client.synth(f"这是第{number}句话")
    assert "bad.test" in hosts
    pairs = itertools.pairwise(hosts)
    assert all(after == "good.test" for host, after in pairs if host == "bad.test")


def test_a_call_that_one_endpoint_is_spared_goes_to_another(
    service: FakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(urgent: bool, now: float, waited: float = 0.0) -> None:
        raise cosy_sync.OverloadError("held back", retry_after=1.0)

    urls = [Endpoint(f"http://{host}.test/batch", rate=10_000) for host in ("one", "two")]
    http_client = httpx.Client(transport=service)
    with CosyClient(urls, http_client=http_client, clock=clock, serial=True) as client:
        one, two = client._core.engine().endpoints.endpoints
        monkeypatch.setattr(one.overload, "is_calm", lambda now: False)
        monkeypatch.setattr(one.overload, "admit", refuse)
        for _ in range(20):
            assert client.synth("早上好").timing.endpoint == two.label  # type: ignore[union-attr]
        assert clock.waits == []
        monkeypatch.setattr(two.overload, "is_calm", lambda now: False)
        monkeypatch.setattr(two.overload, "admit", refuse)
        with pytest.raises(cosy_sync.OverloadError):
            client.synth("早上好")
