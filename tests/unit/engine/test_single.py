"""synth and submit as callers see them: cancelled, late, closed, inside of callbacks."""

import concurrent.futures
import gc
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from lanes import eventually

import cosy_sync
from cosy_sync import CoalesceConfig, CosyClient, Endpoint
from cosy_sync.engine.text_queue import TextQueue
from cosy_sync.engine.waiters import PendingText
from cosy_sync.models import Utterance
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"


class Held:
    """A service that keeps calls with 慢 until it is told to go."""

    def __init__(self) -> None:
        self.service, self.go = FakeService(), threading.Event()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        reply = self.service.handle_request(request)
        if "慢" in request.read().decode():
            assert self.go.wait(100)  # it holds for as long as a slow machine needs
        return reply

    @property
    def calls(self) -> list[list[str]]:
        return self.service.calls


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.go.set()


def over(held: Held, endpoint: Any = URL, **settings: Any) -> CosyClient:
    http_client = httpx.Client(transport=httpx.MockTransport(held))
    return CosyClient(endpoint, http_client=http_client, **settings)


def in_thread(call) -> tuple[threading.Thread, list]:
    result: list = []
    thread = threading.Thread(target=lambda: result.append(call()))
    thread.start()
    return thread, result


def test_texts_submitted_one_by_one_share_calls(held) -> None:
    texts = [f"这是第{number}句要说的话" for number in range(200)]
    with over(held) as client:
        futures = [client.submit(text) for text in texts]
        for text, future in zip(texts, futures, strict=True):
            assert future.result(20).data == held.service.wav(text)
    assert len(held.calls) < 30 and max(map(len, held.calls)) <= 64


def test_coalescing_can_be_switched_off(held) -> None:
    with over(held, coalesce=CoalesceConfig(enabled=False)) as client:
        for future in [client.submit(f"这是第{number}句话") for number in range(20)]:
            future.result(20)
    assert [len(call) for call in held.calls] == [1] * 20


def test_bulk_texts_wait_twice_as_long_for_others_as_interactive_ones(held, monkeypatch) -> None:
    lingers: dict[bool, float] = {}

    class Noted(TextQueue):
        def __init__(self, options: Any, *rest: Any) -> None:
            lingers[options.interactive] = options.linger
            super().__init__(options, *rest)

    monkeypatch.setattr("cosy_sync.engine.single.TextQueue", Noted)
    with over(held, coalesce=CoalesceConfig(linger=0.004)) as client:
        client.synth("你好")
        client.synth_many(["你好", "再见"])
    assert lingers == {True: 0.004, False: 0.008}


def test_views_with_other_deadlines_share_batches_but_other_voices_do_not(held) -> None:
    with over(held) as client:
        first = client.submit("很慢的一句话")
        eventually(lambda: held.calls)
        futures = [client.with_options(deadline=5.0 + n).submit(f"第{n}句话") for n in range(5)]
        futures.append(client.with_options(voice="中文男").submit("另一个声音"))
        held.go.set()
        for future in [first, *futures]:
            future.result(20)
    sent = {text: len(call) for call in held.calls for text in call}
    assert sent["另一个声音"] == 1
    assert len(held.calls) < 7


def test_a_cancelled_future_in_line_is_not_sent_and_gives_its_place_back(held) -> None:
    limits = cosy_sync.LimitConfig(max_submitted=2)
    with over(held, Endpoint(URL, max_connections=1), limits=limits) as client:
        slow = client.submit("很慢的一句话")
        eventually(lambda: held.calls)
        unwanted = client.submit("不要了的话")
        assert unwanted.cancel() and unwanted.cancelled()
        done, _ = concurrent.futures.wait([unwanted], timeout=10)
        assert done == {unwanted}
        other = client.submit("还要的话")  # would wait for a place if the cancelled one kept it
        held.go.set()
        assert slow.result(20) and other.result(20)
    assert [text for call in held.calls for text in call] == ["很慢的一句话", "还要的话"]


def test_a_future_cancelled_under_way_leaves_the_others_alone(held) -> None:
    called = threading.Event()
    with over(held) as client:
        first = client.submit("很慢的一句话", callback=lambda _: called.set())
        eventually(lambda: held.calls)
        assert first.cancel()
        assert called.wait(60)
        held.go.set()
        assert client.submit("另一句话").result(20).duration > 0


def test_synth_ends_on_time_although_its_batch_goes_on(held) -> None:
    with over(held) as client:
        slow, audio = in_thread(lambda: client.synth("很慢的一句话"))
        eventually(lambda: held.calls)
        future = client.submit("也很慢的话")
        eventually(lambda: len(held.calls) == 2)
        hasty = client.with_options(deadline=0.1)
        with pytest.raises(cosy_sync.DeadlineError) as caught:
            hasty.synth("也很慢的话")  # joins the future's text, and leaves before it
        assert caught.value.deadline == 0.1
        held.go.set()
        slow.join(20)
        assert audio and future.result(20).duration > 0
        assert client.stats().texts_failed == 1


def test_a_text_asked_for_by_many_threads_is_sent_once(held) -> None:
    with over(held) as client:
        asked = [in_thread(lambda: client.synth("很慢的一句话")) for _ in range(20)]
        eventually(lambda: client.stats().in_flight == 1)
        (pending_texts,) = client._core.engine().interactive._queues.values()
        eventually(lambda: len(pending_texts._pending.by_key["很慢的一句话"].waiters) == 19)
        held.go.set()
        for thread, _ in asked:
            thread.join(20)
        assert {audio.data for _, (audio,) in asked} == {held.service.wav("很慢的一句话")}
        stats = client.stats()
    assert held.calls == [["很慢的一句话"]]
    assert (stats.texts_ok, stats.texts_shared, stats.requests) == (20, 19, 1)


def test_a_callback_may_speak_the_same_text_with_one_worker_busy(held) -> None:
    inner: list[int] = []
    done = threading.Event()

    def callback(_: object) -> None:
        inner.append(client.synth("同一句话").pcm_size)
        done.set()

    with over(held, Endpoint(URL, max_connections=1)) as client:
        client.submit("同一句话", callback=callback)
        assert done.wait(60)
    assert inner[0] > 0


def test_a_check_of_the_users_may_speak_even_on_the_only_worker(held) -> None:
    inner: list[int] = []

    def check(text: str, audio: cosy_sync.Audio) -> bool:
        if text == "外面的话":
            inner.append(client.synth("里面的话").pcm_size)
        return True

    verify = cosy_sync.VerifyConfig(check=check)
    with over(held, Endpoint(URL, max_connections=2), verify=verify) as client:
        client.submit("外面的话").result(20)
    assert inner


def test_the_main_thread_waits_for_its_tenants_place_only_until_its_deadline(held) -> None:
    with over(held, batch_size=1) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        bulk, audios = in_thread(lambda: tenant.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        with pytest.raises(cosy_sync.DeadlineError, match="tenant's 1 places"):
            tenant.with_options(deadline=0.1).synth("另一句话")
        held.go.set()
        bulk.join(20)
        assert audios
        assert tenant.synth("另一句话").duration > 0


def test_the_main_thread_is_woken_by_the_end_of_the_client(held) -> None:
    client = over(held, batch_size=1)
    tenant = client.with_options(tenant="a", max_in_flight=1)
    bulk, _ = in_thread(lambda: tenant.synth_many(["很慢的一句话"], on_error="return"))
    eventually(lambda: held.calls)
    closing = threading.Timer(0.2, lambda: client.close(0))
    closing.start()
    with pytest.raises(cosy_sync.ClosedError):
        tenant.synth("另一句话")
    held.go.set()
    closing.join(20)
    bulk.join(20)


def test_the_end_of_the_client_meets_a_text_of_the_main_thread_that_just_took_off(
    held, monkeypatch
) -> None:
    client = over(held)
    interactive = client._core.engine().interactive
    line = interactive._queue_for(client._interactive)
    try_send_alone = line.try_send_alone

    def cut_meanwhile(utterance: Utterance) -> PendingText | None:
        pending = try_send_alone(utterance)
        interactive.cut()
        return pending

    monkeypatch.setattr(line, "try_send_alone", cut_meanwhile)
    with pytest.raises(cosy_sync.ClosedError):
        client.synth("一句话")
    assert held.calls == []
    client.close(0)


def test_a_waiting_thread_that_is_interrupted_takes_its_text_back(held, monkeypatch) -> None:
    with over(held) as client:
        slow = client.submit("很慢的一句话")
        eventually(lambda: held.calls)
        (line,) = client._core.engine().interactive._queues.values()

        def interrupted(*_: object) -> None:
            raise SystemExit

        monkeypatch.setattr(line, "wait", interrupted)

        def speak() -> str:
            with pytest.raises(SystemExit):
                client.synth("另一句话")
            return "interrupted"

        thread, ended = in_thread(speak)
        thread.join(20)
        assert ended == ["interrupted"] and "另一句话" not in line._pending.by_key
        held.go.set()
        slow.result(20)


def test_more_texts_than_may_be_submitted_are_shed_at_the_deadline(held) -> None:
    limits = cosy_sync.LimitConfig(max_submitted=1)
    with over(held, limits=limits) as client:
        slow = client.submit("很慢的一句话")
        with pytest.raises(cosy_sync.ShedError, match="max_submitted"):
            client.with_options(deadline=0.05).submit("另一句话")
        held.go.set()
        assert slow.result(20).duration > 0
        assert client.submit("另一句话").result(20).duration > 0


def test_serial_clients_submit_on_the_spot_and_call_back(held) -> None:
    with over(held, serial=True) as client:
        called: list[object] = []
        future = client.submit("一句话", callback=called.append)
        assert future.done() and called == [future]


def test_many_different_settings_do_not_grow_for_ever(held) -> None:
    with over(held) as client:
        for number in range(300):
            client.with_options(headers={"X-Number": str(number)}).synth("一句话")
        assert len(client._core.engine().interactive._queues) <= 256


def test_tenants_that_are_gone_are_forgotten_and_one_that_is_inside_is_not(held) -> None:
    with over(held) as client:
        engine, tenant = client._core.engine(), client.with_options(tenant="a", max_in_flight=1)
        bulk, _ = in_thread(lambda: tenant.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        for number in range(450):
            other = client.with_options(tenant=str(number), max_in_flight=2)
            assert [outcome.ok for outcome in other.synth_iter(["你好"])] == [True]
        gc.collect()  # a call of many texts is a circle
        assert len(engine._tenant_limits.everybody()) <= 300
        (outcome,) = tenant.synth_many(["另一句话"], within=0.2, on_error="return")
        assert isinstance(outcome.error, cosy_sync.DeadlineError)
        with pytest.raises(cosy_sync.ConfigError, match="one limit"):
            client.with_options(tenant="a", max_in_flight=2).synth_many(["另一句话"])
        held.go.set()
        bulk.join(20)


def test_closing_lets_what_stands_in_line_finish(held) -> None:
    client = over(held, Endpoint(URL, max_connections=1))
    futures = [client.submit("很慢的一句话")]
    eventually(lambda: held.calls)
    futures += [client.submit(f"这是第{number}句话") for number in range(10)]
    waiting, audio = in_thread(lambda: client.synth("还有一句话"))
    (line,) = client._core.engine().interactive._queues.values()
    eventually(lambda: "还有一句话" in line._pending.by_key)
    threading.Timer(0.2, held.go.set).start()
    client.close(20)
    waiting.join(20)
    assert audio and all(future.result(0).duration > 0 for future in futures)


def test_closing_at_once_ends_what_stands_in_line(held) -> None:
    client = over(held, Endpoint(URL, max_connections=1))
    slow = client.submit("很慢的一句话")
    eventually(lambda: held.calls)
    futures = [client.submit(f"这是第{number}句话") for number in range(10)]
    errors: list = []

    def speak() -> None:
        with pytest.raises(cosy_sync.ClosedError) as caught:
            client.synth("还有一句话")
        errors.append(caught.value)

    thread = threading.Thread(target=speak)
    thread.start()
    (line,) = client._core.engine().interactive._queues.values()
    eventually(lambda: "还有一句话" in line._pending.by_key)
    threading.Timer(0.2, held.go.set).start()
    client.close(0)
    thread.join(20)
    assert errors and slow.done()
    for future in futures:
        assert isinstance(future.exception(0), cosy_sync.ClosedError)


def test_a_tenants_texts_wait_for_its_place_in_one_batch(held) -> None:
    with over(held) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        slow = tenant.submit("很慢的一句话")
        eventually(lambda: held.calls)
        futures = [tenant.submit(f"这是第{number}句话") for number in range(10)]
        assert client.submit("别人的话").result(20).duration > 0
        assert not any(future.done() for future in futures)
        held.go.set()
        for future in [slow, *futures]:
            future.result(20)
    assert sorted(map(len, held.calls)) == [1, 1, 10]


def test_the_main_thread_gives_up_on_time_when_all_workers_are_taken(held) -> None:
    with over(held, Endpoint(URL, max_connections=1)) as client:
        slow = client.submit("很慢的一句话")
        eventually(lambda: held.calls)
        with pytest.raises(cosy_sync.DeadlineError) as caught:
            client.with_options(deadline=0.1).synth("另一句话")
        assert caught.value.deadline == 0.1
        held.go.set()
        slow.result(20)


def test_hedges_are_wired_in_for_several_endpoints(held) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "a.test" and learned.is_set():
            assert held.go.wait(60)
        return held.service.handle_request(request)

    learned = threading.Event()
    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    urls = [Endpoint("http://a.test/", weight=1e6), Endpoint("http://b.test/", weight=1e-6)]
    hedge = cosy_sync.HedgeConfig(enabled=True, min_samples=3)
    with CosyClient(urls, http_client=http_client, hedge=hedge) as client:
        for number in range(3):
            client.synth(f"这是第{number}句话")
        learned.set()
        assert client.synth("请送到别处去").timing.endpoint == "http://b.test/"
        stats = client.stats()
        assert (stats.hedges, stats.hedges_won) == (1, 1)
        assert stats.retry_budget == 9.0  # the floor of one a second for ten seconds, less one
        held.go.set()


@pytest.mark.parametrize(
    "settings", [{"linger": -1}, {"linger": 1.1}, {"enabled": 1}, {"single_flight": "no"}]
)
def test_a_wrong_setting_of_coalescing_is_refused_by_name(settings) -> None:
    with pytest.raises(cosy_sync.ConfigError, match=next(iter(settings))):
        CoalesceConfig(**settings)


def test_ctrl_c_in_submit_leaves_the_tenants_place_free(held, monkeypatch) -> None:
    def interrupted(work: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with over(held) as client:
        tenant = client.with_options(tenant="a", max_in_flight=1)
        workers = client._core.engine()._single
        monkeypatch.setattr(workers, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tenant.submit("一句话")
        (gate,) = client._core.engine()._tenant_limits.everybody()
        eventually(lambda: workers.drain(0))
        assert gate._permits.used == 0
        assert tenant.submit("另一句话").result(10).duration > 0
