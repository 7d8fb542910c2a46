"""synth_many of few texts: shares requests with other calls, and answers as any other."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from interrupts import interrupt_at
from lanes import eventually

import cosy_sync
from cosy_sync import BatchError, CoalesceConfig, CosyClient, DeadlineError, Endpoint
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"


class Held:
    """A service that keeps calls with 慢 until it is told to go."""

    def __init__(self) -> None:
        self.service, self.go = FakeService(), threading.Event()
        self.calls = self.service.calls

    def __call__(self, request: httpx.Request) -> httpx.Response:
        reply = self.service.handle_request(request)
        if "慢" in request.read().decode():
            assert self.go.wait(60)
        return reply


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.go.set()


def over(held: Held, endpoint: Any = URL, **settings: Any) -> CosyClient:
    http_client = httpx.Client(transport=httpx.MockTransport(held))
    return CosyClient(endpoint, http_client=http_client, **settings)


class Calls:
    """Calls on threads of their own."""

    def __init__(self) -> None:
        self.results: dict[object, Any] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: object, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                self.results[name] = call()
            except BaseException as error:
                self.results[name] = error

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = Calls()
    yield made
    made.join()


def waiting(client: CosyClient, texts: int) -> Callable[[], bool]:
    """Return whether so many texts stand in line."""

    def look() -> bool:
        lines = client._core.engine().interactive._queues.values()
        return sum(len(each._pending) for each in lines) >= texts

    return look


def test_a_call_that_finds_nothing_under_way_is_one_request_at_once(held) -> None:
    with over(held, coalesce=CoalesceConfig(linger=1.0)) as client:
        assert len(client.synth_many(["一句话", "两句话", "三句话"])) == 3
    assert held.calls == [["一句话", "两句话", "三句话"]]


def test_calls_of_few_texts_share_requests_and_each_gets_its_own(held, calls) -> None:
    one_at_a_time = Endpoint(URL, max_connections=1)
    with over(held, one_at_a_time) as client:
        calls.start("slow", lambda: client.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        for number in range(20):
            texts = [f"第{number}位的第{n}句话" for n in range(1 + number % 3)]
            calls.start(tuple(texts), lambda texts=texts: client.synth_many(texts))
        eventually(lambda: len(client._core.engine()._single._pending) >= 0)
        held.go.set()
        calls.join()
    del calls.results["slow"]
    assert len(calls.results) == 20 and len(held.calls) < 12
    for texts, audios in calls.results.items():
        assert [audio.data for audio in audios] == [held.service.wav(text) for text in texts]


def test_half_a_batch_goes_alone(held) -> None:
    with over(held, batch_size=8) as client:
        client.synth_many([f"第{n}句话" for n in range(4)])
        assert not client._core.engine().interactive._queues


def test_without_coalescing_nothing_is_shared(held) -> None:
    with over(held, coalesce=CoalesceConfig(enabled=False)) as client:
        client.synth_many(["一句话", "两句话"])
        assert not client._core.engine().interactive._queues


def test_a_text_that_is_wanted_three_times_is_spoken_three_times_however_busy(held, calls) -> None:
    with over(held, Endpoint(URL, max_connections=1)) as client:
        calls.start("slow", lambda: client.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        calls.start("takes", lambda: client.synth_many(["一句话"] * 3))
        calls.start("other", lambda: client.synth_many(["一句话"]))
        held.go.set()
        calls.join()
    assert [text for call in held.calls for text in call].count("一句话") == 4


def test_outcomes_keep_their_places_and_errors_their_indexes(held) -> None:
    def check(text: str, audio: cosy_sync.Audio) -> bool:
        return "坏" not in text

    verify = cosy_sync.VerifyConfig(check=check)
    retry = cosy_sync.RetryConfig(max_bad_audio=0)
    seen: list[tuple[int, int]] = []
    with over(held, verify=verify, retry=retry) as client:
        texts = ["一句话", "", "坏的一句", "三句话"]
        outcomes = client.synth_many(
            texts, on_error="return", progress=lambda *args: seen.append(args)
        )
        assert [outcome.ok for outcome in outcomes] == [True, False, False, True]
        assert [(outcome.index, outcome.text) for outcome in outcomes] == list(enumerate(texts))
        assert [outcome.error.index for outcome in outcomes[1:3]] == [1, 2]
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        with pytest.raises(BatchError) as caught:
            client.synth_many(["一句话", "坏的一句"])
        assert [outcome.ok for outcome in caught.value.outcomes] == [True, False]
        assert client.stats().texts_ok == 3 and client.stats().texts_failed == 2


def test_the_time_of_a_text_begins_when_it_is_sent(held, calls) -> None:
    clock = FakeClock()
    with over(held, Endpoint(URL, max_connections=1), clock=clock, deadline=1000.0) as client:
        calls.start("slow", lambda: client.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        hasty = client.with_options(deadline=5.0)
        calls.start("first", lambda: hasty.synth_many(["第一句话"]))
        calls.start("next", lambda: hasty.synth_many(["第二句话"]))
        eventually(waiting(client, 1))
        clock.advance(60.0)
        held.go.set()
        calls.join()
        assert len(calls.results["next"]) == len(calls.results["first"]) == 1


def test_within_ends_a_call_that_waits_in_line(held, calls) -> None:
    with over(held, Endpoint(URL, max_connections=1)) as client:
        calls.start("slow", lambda: client.synth_many(["很慢的一句话"]))
        eventually(lambda: held.calls)
        outcomes = client.synth_many(["一句话", "两句话"], on_error="return", within=0.05)
        assert [type(outcome.error) for outcome in outcomes] == [DeadlineError] * 2
        assert "within" in str(outcomes[0].error) and outcomes[1].error.index == 1
        held.go.set()
        calls.join()
    assert [text for call in held.calls for text in call] == ["很慢的一句话"]


def test_a_call_that_is_left_takes_its_texts_back_and_carries_what_was_finished(held) -> None:
    class Limit(Exception):
        __slots__ = ()

    def progress(done: int, total: int) -> None:
        if done == 2:
            raise Limit

    with over(held) as client:
        with pytest.raises(Limit) as caught:
            client.synth_many(["一句话", "两句话", "三句话"], progress=progress)
        outcomes = caught.value.outcomes  # type: ignore[attr-defined]
        assert [outcome.index for outcome in outcomes] == [0, 1, 2]
        assert client.synth("你好，世界").duration > 0


def test_a_closed_client_ends_the_calls_that_wait(held, calls) -> None:
    client = over(held, Endpoint(URL, max_connections=1))
    calls.start("slow", lambda: client.synth_many(["很慢的一句话"], on_error="return"))
    eventually(lambda: held.calls)
    calls.start("next", lambda: client.synth_many(["一句话"], on_error="return"))
    eventually(waiting(client, 1))
    threading.Timer(0.1, held.go.set).start()
    client.close(0.01)
    calls.join()
    (outcome,) = calls.results["next"]
    assert outcome.ok or isinstance(outcome.error, cosy_sync.ClosedError)
    with pytest.raises(cosy_sync.ClosedError):
        client.synth_many(["一句话"])


def test_a_call_at_interactive_priority_shares_with_synth(held, calls) -> None:
    with over(held, Endpoint(URL, max_connections=1)) as client:
        quick = client.with_options(priority="interactive")
        calls.start("slow", lambda: quick.synth("很慢的一句话"))
        eventually(lambda: held.calls)
        calls.start("few", lambda: quick.synth_many(["一句话", "两句话"]))
        calls.start("one", lambda: quick.synth("三句话"))
        held.go.set()
        calls.join()
        (line,) = client._core.engine().interactive._queues.values()
        assert line._options.interactive
    assert len(calls.results["few"]) == 2


@pytest.mark.parametrize("settings", [{}, {"tenant": "a", "max_in_flight": 1}])
def test_ctrl_c_at_any_line_leaves_nothing_taken(held, settings) -> None:
    with over(held) as client:
        view = client.with_options(**settings)
        view.synth_many(["一句话", "两句话"])
        number = 0
        while interrupt_at(number := number + 3, lambda: view.synth_many(["一句话", "两句话"])):
            pass
        assert number > 60
        assert len(view.synth_many(["一句话", "两句话"])) == 2
        engine = client._core.engine()
        eventually(lambda: not client.stats().in_flight)
        limits = engine._tenant_limits.everybody()
        eventually(lambda: [gate._permits.used for gate in limits] in ([], [0]))
        client.close(1)
        assert engine._bulk._is_idle() and engine._single._is_idle()
