"""Callers that share a client: nobody waits for ever, starves, or loses what is finished."""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

import cosy_sync
from cosy_sync import CosyClient, Endpoint, PoolConfig, RetryConfig
from cosy_sync.models import Utterance
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"
Handle = Callable[[httpx.Request], httpx.Response]


def over(handle: Handle, url: object = URL, **settings: object) -> CosyClient:
    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    return CosyClient(url, http_client=http_client, **settings)  # type: ignore[arg-type]


@pytest.fixture
def held() -> Iterator[tuple[Handle, threading.Event, list[list[str]]]]:
    """A service that answers texts with 慢 only once the event is set."""
    go, service = threading.Event(), FakeService()

    def handle(request: httpx.Request) -> httpx.Response:
        reply = service.handle_request(request)
        if "慢" in request.read().decode():
            assert go.wait(30)
        return reply

    yield handle, go, service.calls
    go.set()


def sentences(count: int, word: str = "") -> list[str]:
    return [f"这是第{number}句{word}要说的话" for number in range(count)]


def test_a_callback_may_speak_even_when_it_has_the_only_worker(held) -> None:
    handle, _, _ = held
    inner: list[int] = []
    done = threading.Event()

    def callback(_: object) -> None:
        inner.append(len(client.synth_many(sentences(3))))
        inner.append(client.synth("再说一句话").pcm_size > 0)
        client.submit("最后说一句话", callback=lambda _: done.set())

    with over(handle, Endpoint(URL, max_connections=1)) as client:
        client.submit("先说一句话", callback=callback)
        assert done.wait(60)
    assert inner == [3, True]


def test_a_tenant_that_submits_too_much_does_not_take_the_workers_of_others(held) -> None:
    handle, go, _ = held
    with over(handle, Endpoint(URL, max_connections=3)) as client:
        navigation = client.with_options(tenant="navigation", max_in_flight=1)
        slow = [navigation.submit(text) for text in sentences(12, "很慢")]
        assert client.submit("另外一句话").result(10).duration > 0
        go.set()
        assert all(future.result(20).duration > 0 for future in slow)


def test_submit_does_not_wait_behind_bulk_work_that_sleeps(held) -> None:
    handle, go, calls = held
    with over(handle, Endpoint(URL, max_connections=2), batch_size=1) as client:
        bulk = threading.Thread(target=lambda: client.synth_many(sentences(2, "很慢")))
        bulk.start()
        while len(calls) < 2:
            time.sleep(0.001)
        with pytest.raises(cosy_sync.DeadlineError):
            client.with_options(deadline=0.1).submit("另外一句话").result(10)
        go.set()
        bulk.join(20)


def test_within_holds_whatever_the_workers_are_busy_with(held) -> None:
    handle, go, calls = held
    with over(handle, Endpoint(URL, max_connections=1), batch_size=1) as client:
        other = threading.Thread(target=lambda: client.synth_many(sentences(1, "很慢")))
        other.start()
        while not calls:
            time.sleep(0.001)
        outcomes = client.synth_many(sentences(20), within=0.3, on_error="return")
        assert not go.is_set()
        assert [type(outcome.error) for outcome in outcomes] == [cosy_sync.DeadlineError] * 20
        assert [outcome.error.index for outcome in outcomes] == list(range(20))
        go.set()
        other.join(20)


def test_within_holds_behind_a_full_tenant(held) -> None:
    handle, go, calls = held
    with over(handle, batch_size=1) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        future = tenant.submit("这是一句很慢的话")
        while not calls:
            time.sleep(0.001)
        (outcome,) = tenant.synth_many(["另外一句话"], within=0.2, on_error="return")
        assert isinstance(outcome.error, cosy_sync.DeadlineError)
        go.set()
        future.result(20)


def test_a_lazy_call_that_is_dropped_gives_its_tenants_places_back(held) -> None:
    handle, go, calls = held
    with over(handle, Endpoint(URL, max_connections=1)) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        slow = threading.Thread(target=lambda: list(client.synth_iter(["这是一句很慢的话"])))
        slow.start()  # it has the only worker
        while not calls:
            time.sleep(0.001)
        outcomes = tenant.synth_iter(["", "这一句等着工人"])
        assert isinstance(next(outcomes).error, cosy_sync.InvalidTextError)
        outcomes.close()
        go.set()
        slow.join(20)
        assert len(tenant.synth_many(["另外一句话"], within=10.0)) == 1


def test_ctrl_c_before_a_batch_stands_ready_gives_its_tenants_place_back(
    held, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(set):  # type: ignore[type-arg]
        def add(self, batch: object) -> None:
            raise KeyboardInterrupt

    handle, _, _ = held
    with over(handle) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        call = client._core.engine().run_many((Utterance("一句话"),), tenant._bulk)
        call._batches = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            next(call.outcomes())
        assert len(tenant.synth_many(["另外一句话"], within=10.0)) == 1


def test_closing_ends_all_who_stand_in_a_tenants_line(held) -> None:
    handle, go, calls = held
    client = over(handle)
    tenant = client.with_options(tenant="a", max_in_flight=1)
    futures = [tenant.submit(text) for text in sentences(300, "慢的")]
    while not calls:
        time.sleep(0.001)
    threading.Timer(0.2, go.set).start()
    client.close(0)
    errors = [future.exception(10) for future in futures]
    assert {type(error) for error in errors} <= {type(None), cosy_sync.ClosedError}
    assert sum(error is None for error in errors) <= 64


def test_two_calls_of_many_texts_take_turns_on_the_workers(held) -> None:
    handle, go, calls = held
    first, second = sentences(30, "慢的"), sentences(30, "快的")
    settings = {"batch_size": 1, "batch": cosy_sync.BatchConfig(sort_window=1)}
    with over(handle, Endpoint(URL, max_connections=2, rate=10_000), **settings) as client:
        threads = [threading.Thread(target=client.synth_many, args=[first])]
        threads[0].start()
        while len(calls) < 2:  # both workers are at the first call
            time.sleep(0.001)
        threads.append(threading.Thread(target=client.synth_many, args=[second]))
        threads[1].start()
        while not client._core.engine()._bulk.contended:
            time.sleep(0.001)
        go.set()
        for thread in threads:
            thread.join(20)
    sent = [call[0] for call in calls]
    assert sorted(sent) == sorted(first + second)
    last_of_first = max(sent.index(text) for text in first)
    assert sum(text in sent[:last_of_first] for text in second) >= 10


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_lazy_call_takes_up_only_what_its_workers_need_soon(batch_size) -> None:
    pulled = 0

    def endless() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield f"这是第{pulled}句要说的话"

    endpoint = Endpoint(URL, max_connections=8, rate=10_000)
    with over(FakeService().handle_request, endpoint, batch_size=batch_size) as client:
        outcomes = client.synth_iter(endless())
        for _ in range(200):
            assert next(outcomes).ok
        # 8 batches under way, 2 that stand ready, a window of 4 that are being packed; and as
        # many outcomes as came out of order meanwhile.
        assert pulled <= 200 + 3 * (8 + 2 + 4) * batch_size
        outcomes.close()


def test_closing_lets_a_call_of_many_texts_finish(held) -> None:
    handle, _, calls = held
    client = over(handle, Endpoint(URL, max_connections=1), batch_size=1)
    results: list[cosy_sync.Outcome] = []

    def call() -> None:
        results.extend(client.synth_many(sentences(100), on_error="return"))

    thread = threading.Thread(target=call)
    thread.start()
    while len(calls) < 5:
        time.sleep(0.001)
    client.close(30)
    thread.join(20)
    assert len(results) == 100 and all(outcome.ok for outcome in results)


def test_closing_at_once_keeps_what_was_finished(held) -> None:
    handle, go, calls = held
    client = over(handle, Endpoint(URL, max_connections=1), batch_size=1)
    results: list[cosy_sync.Outcome] = []
    texts = [*sentences(10), *sentences(10, "很慢慢慢慢慢慢慢慢")]

    def call() -> None:
        results.extend(client.synth_many(texts, on_error="return"))

    thread = threading.Thread(target=call)
    thread.start()
    while len(calls) < 11:
        time.sleep(0.001)
    threading.Timer(0.2, go.set).start()
    client.close(0)
    thread.join(20)
    assert len(results) == 20
    assert all(outcome.ok for outcome in results[:10])
    errors = {type(outcome.error) for outcome in results if not outcome.ok}
    assert errors == {cosy_sync.ClosedError}


def test_a_lazy_call_ends_with_closed_error_after_what_was_finished(held) -> None:
    handle, _, _ = held
    client = over(handle, batch_size=2)
    texts = (f"这是第{number}句要说的话" for number in range(10**9))
    got = 0
    with pytest.raises(cosy_sync.ClosedError):
        for outcome in client.synth_iter(texts):
            got += outcome.ok
            if got == 20:
                client.close(0)
    assert got >= 20


def test_a_second_impatient_close_ends_a_patient_one(held) -> None:
    handle, go, calls = held
    client = over(handle)
    future = client.submit("这是一句很慢的话")
    while not calls:
        time.sleep(0.001)
    patient = threading.Thread(target=lambda: client.close(60))
    patient.start()
    threading.Timer(0.2, go.set).start()
    client.close(0)
    patient.join(20)
    assert not patient.is_alive()
    assert future.done()


def test_a_pool_narrower_than_its_endpoints_makes_callers_wait_not_fail() -> None:
    service, most, now, lock = FakeService(), [0], [0], threading.Lock()

    def handle(request: httpx.Request) -> httpx.Response:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return service.handle_request(request)

    urls = ["http://a.test/batch", "http://b.test/batch"]
    with over(handle, urls, pool=PoolConfig(max_connections=2), batch_size=1) as client:
        threads = [threading.Thread(target=client.synth, args=("你好吗",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert len(client.synth_many(sentences(30))) == 30
        for thread in threads:
            thread.join(20)
        assert client.stats().texts_failed == 0
    assert most[0] == 2


def by_host(hosts: list[str], answers: dict[str, httpx.Response]) -> Handle:
    service = FakeService()

    def handle(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return answers.get(request.url.host) or service.handle_request(request)

    return handle


def test_traffic_follows_the_weights_and_the_rates() -> None:
    hosts: list[str] = []
    light = Endpoint("http://light.test/", weight=1)
    heavy = Endpoint("http://heavy.test/", weight=9)
    with over(by_host(hosts, {}), [light, heavy], serial=True) as client:
        for text in sentences(100):
            client.synth(text)
    assert hosts.count("heavy.test") > hosts.count("light.test") > 0
    hosts.clear()
    slow, fast = Endpoint("http://slow.test/", rate=2), Endpoint("http://fast.test/", rate=1000)
    clock = FakeClock()
    with over(by_host(hosts, {}), [slow, fast], clock=clock, serial=True, batch_size=1) as client:
        client.synth_many(sentences(60))
    assert clock.now() - 1000 < 5
    assert hosts.count("fast.test") > 50


def test_a_paused_endpoint_is_left_for_another_without_waiting() -> None:
    hosts: list[str] = []
    busy = httpx.Response(429, headers={"Retry-After": "8"})
    clock = FakeClock()
    urls = ["http://busy.test/", "http://idle.test/"]
    with over(by_host(hosts, {"busy.test": busy}), urls, clock=clock, serial=True) as client:
        for text in sentences(20):
            client.synth(text)
    assert hosts.count("busy.test") == 1
    assert clock.now() - 1000 < 2


def test_one_odd_retry_after_does_not_disable_an_endpoint_for_ever() -> None:
    service, clock = FakeService(), FakeClock()
    service.fail(503, Retry_After="1000000000")
    with over(service.handle_request, clock=clock, serial=True, deadline=30) as client:
        with pytest.raises(cosy_sync.UnavailableError):
            client.synth("早上好")
        with pytest.raises(cosy_sync.RateLimitedError, match="Retry-After"):
            client.synth("早上好")
        clock.advance(601)
        client.synth("早上好")


def test_one_hasty_caller_does_not_open_the_breaker_for_the_others() -> None:
    service, clock = FakeService(), FakeClock()

    def slow(request: httpx.Request) -> httpx.Response:
        clock.advance(0.3)
        raise httpx.ReadTimeout("late")

    no_retry = RetryConfig(max_retries=0)
    with over(service.handle_request, clock=clock, serial=True, retry=no_retry) as client:
        service.answer(*[slow] * 30)
        hasty = client.with_options(deadline=0.2)
        for _ in range(30):
            with pytest.raises(cosy_sync.DeadlineError):
                hasty.synth("早上好")
        assert client.stats().breakers == {URL: "closed"}


def test_a_wrong_key_is_not_tried_with_every_batch() -> None:
    service = FakeService().fail(401, times=1000)
    with over(service.handle_request, Endpoint(URL, max_connections=4), batch_size=1) as client:
        outcomes = client.synth_many(sentences(200), on_error="return")
    assert {type(outcome.error) for outcome in outcomes} == {cosy_sync.AuthError}
    assert len(service.calls) < 20


def test_an_endless_stream_of_texts_that_cannot_be_sent_is_handed_out_as_it_comes() -> None:
    pulled = 0

    def blanks() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield "  "

    with over(FakeService().handle_request) as client:
        outcomes = client.synth_iter(blanks())
        assert [next(outcomes).ok for _ in range(500)] == [False] * 500
    assert pulled < 1000


def test_a_narrow_lazy_call_does_not_wait_for_room_that_nobody_can_make() -> None:
    limits = cosy_sync.LimitConfig(max_bytes_waiting=100_000)
    with over(FakeService().handle_request, limits=limits, serial=True, batch_size=8) as client:
        started = time.monotonic()
        texts = [text + "好" * (number * 7 % 13) for number, text in enumerate(sentences(160))]
        assert all(outcome.ok for outcome in client.synth_iter(texts))
        assert time.monotonic() - started < 15  # each of the 20 batches waited 2 s before


def test_a_lazy_call_holds_its_limit_and_the_reply_that_is_next_at_most() -> None:
    texts = [f"第{number}句话要说" for number in range(8)]  # equally long: batches keep their order
    reply = FakeService.speak(texts)
    size = sum(len(FakeService.wav(text)) for text in texts)
    lock, came, peak, taken = threading.Lock(), 0, 0, 0

    def note(text: str, audio: cosy_sync.Audio) -> bool:
        nonlocal came, peak
        with lock:
            came += len(audio.data)
            peak = max(peak, came - taken)
        return True

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=reply.content, headers=dict(reply.headers))

    limits = cosy_sync.LimitConfig(max_bytes_waiting=4 * size)
    settings = {"limits": limits, "batch_size": 8, "verify": cosy_sync.VerifyConfig(check=note)}
    with over(answer, Endpoint(URL, max_connections=20, rate=1e6), **settings) as client:
        for outcome in client.synth_iter(texts * 500):
            assert outcome.audio is not None
            taken += len(outcome.audio.data)
    assert 2 * size < peak <= 5 * size


def test_a_machine_out_of_threads_still_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with over(FakeService().handle_request, batch_size=4) as client:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert len(client.synth_many(sentences(20))) == 20
        assert client.submit("早上好").result(5).duration > 0
        monkeypatch.undo()
        assert client.stats().texts_ok == 21
