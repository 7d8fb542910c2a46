"""What the user's own code raises ends its text, never a worker, a neighbour or the client."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

import httpx
import pytest

import cosy_sync
from cosy_sync import Audio, CosyClient, Endpoint, Outcome, VerifyConfig
from cosy_sync.cache.speech_cache import SpeechCache
from cosy_sync.engine.batch import Batch
from cosy_sync.engine.retrying import BatchRunner
from cosy_sync.testing import FakeService
from cosy_sync.threads import open_schedule
from cosy_sync.user_code import goes_on

URL = "http://tts.test/batch"


# What may be logged of it, with its traceback.
BROKE_OFF = {"a batch broke off, and its call goes on", "a worker's task failed"}


class Patience(BaseException):
    """What gevent's Timeout is to a greenlet."""


BAD = [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, Patience]


def check_that_raises(kind: type[BaseException]) -> Callable[[str, Audio], bool]:
    def check(text: str, audio: Audio) -> bool:
        if "坏" in text:
            raise kind
        return True

    return check


def over(service: FakeService, **settings: object) -> CosyClient:
    http_client = httpx.Client(transport=service)
    endpoint = Endpoint(URL, max_connections=2, rate=1e6)
    return CosyClient(endpoint, http_client=http_client, deadline=20, **settings)


def elsewhere(work: Callable[[], object]) -> object:
    """Return what the work does on a thread that is not the main one: its result or its error."""
    result: list[object] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return result[0]


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [type(outcome.error).__name__ for outcome in outcomes]


@pytest.mark.parametrize("kind", BAD)
def test_what_a_check_raises_ends_its_text_and_no_worker(kind: type[BaseException]) -> None:
    with over(FakeService(), verify=VerifyConfig(check=check_that_raises(kind))) as client:
        for number in range(4):  # twice as many as there are workers
            error = client.submit(f"这是坏的第{number}句").exception(10)
            assert isinstance(error, cosy_sync.UnexpectedError)
            assert isinstance(error.__cause__, kind) and kind.__name__ in str(error)
        assert client.submit("这是一句好话").result(10).duration > 0
        for speak in (client.synth, lambda text: elsewhere(lambda: client.synth(text))):
            try:
                error = speak("这又是坏的一句")
            except cosy_sync.UnexpectedError as raised:
                error = raised
            assert isinstance(error, cosy_sync.UnexpectedError)


@pytest.mark.parametrize("kind", BAD)
def test_what_a_check_raises_leaves_the_neighbours_in_a_batch_alone(
    kind: type[BaseException],
) -> None:
    texts = ["这是坏的一句话", "这是好的一句话"] * 20
    with over(FakeService(), verify=VerifyConfig(check=check_that_raises(kind))) as client:
        expected = ["UnexpectedError", "NoneType"] * 20
        assert kinds(client.synth_many(texts, on_error="return")) == expected
        assert kinds(list(client.synth_iter(texts))) == expected
        futures = [client.submit(f"{text}，第{n}遍") for n, text in enumerate(texts)]
        assert [type(future.exception(10)).__name__ for future in futures] == expected
        assert client.stats().in_flight == 0


def test_a_batch_that_breaks_off_ends_its_own_texts_and_no_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = BatchRunner.run

    def break_off(runner: BatchRunner, batch: Batch) -> None:
        if any("坏" in text.text for text in batch.texts):
            raise MemoryError
        run(runner, batch)

    monkeypatch.setattr(BatchRunner, "run", break_off)
    bad, good = ["UnexpectedError"] * 4, ["NoneType"] * 8
    texts = [f"这是{'坏' if n % 12 < 4 else '好'}的第{n}句" for n in range(240)]
    with over(FakeService(), batch_size=4) as client:
        assert kinds(client.synth_many(texts, on_error="return")) == (bad + good) * 20
        assert kinds(list(client.synth_iter(texts))) == (bad + good) * 20
        assert isinstance(client.submit(texts[0]).exception(10), cosy_sync.UnexpectedError)
        assert client.submit(texts[-1]).result(10).duration > 0
        assert kinds(client.synth_many(texts[:2], on_error="return")) == bad[:2]
    assert {record.message for record in caplog.records} <= BROKE_OFF


def test_a_cache_that_cannot_keep_a_batch_loses_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(SpeechCache, "keep_batch", fail)
    with over(FakeService(), batch_size=4, cache="memory") as client:
        assert all(client.synth_many([f"这是第{n}句话" for n in range(240)], on_error="return"))
    assert {record.message for record in caplog.records} <= BROKE_OFF


class Raises:
    """An observer that fails on every event."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def on_event(self, event: object) -> None:
        raise self.kind


@pytest.mark.parametrize("kind", BAD)
def test_what_an_observer_raises_disturbs_nothing(kind: type[BaseException], caplog) -> None:
    service = FakeService()
    with over(service, observers=[Raises(kind)]) as client, caplog.at_level(logging.CRITICAL):
        for number in range(4):
            assert client.submit(f"这是第{number}句话").result(10).duration > 0
        assert len(client.synth_many([f"这是第{n}句话" for n in range(200)])) == 200
        assert client.synth("你好，世界").duration > 0
        assert isinstance(elsewhere(lambda: client.synth("再见，世界")), Audio)
        assert client.stats().in_flight == 0


@pytest.mark.parametrize("kind", BAD)
def test_what_a_callback_raises_keeps_no_other_from_being_called(
    kind: type[BaseException], caplog
) -> None:
    def broken(future: Future[Audio]) -> None:
        raise kind

    with over(FakeService()) as client, caplog.at_level(logging.CRITICAL):
        for number in range(4):
            called = threading.Event()
            future = client.submit(f"这是第{number}句话", callback=broken)
            future.add_done_callback(lambda _, called=called: called.set())
            assert future.result(10).duration > 0 and called.wait(60)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit])
def test_what_a_transport_raises_ends_its_texts_and_no_worker(kind: type[BaseException]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "坏" in request.read().decode():
            raise kind
        return service.handle_request(request)

    service = FakeService()
    with CosyClient(
        Endpoint(URL, max_connections=2),
        http_client=httpx.Client(transport=httpx.MockTransport(answer)),
    ) as client:
        for number in range(4):
            error = client.submit(f"这是坏的第{number}句").exception(10)
            assert isinstance(error, cosy_sync.UnexpectedError)
        assert client.submit("这是一句好话").result(10).duration > 0
        assert client.stats().in_flight == 0


class Hostile(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def encode(self, *args: object) -> bytes:
        raise RuntimeError("no bytes")

    def isspace(self) -> bool:
        raise RuntimeError("no answer")


def test_of_a_subclass_of_str_only_the_characters_count() -> None:
    service = FakeService()
    with over(service) as client:
        right = service.wav("你好，世界")
        assert client.synth(Hostile("你好，世界")).data == right
        assert client.submit(Hostile("你好，世界")).result(10).data == right
        assert client.synth_many([Hostile("你好，世界"), "再见"])[0].data == right
        (outcome,) = client.synth_iter([Hostile("你好，世界")])
        assert outcome.audio is not None and outcome.audio.data == right
        assert type(outcome.text) is str


def test_ctrl_c_in_a_serial_call_ends_it(caplog) -> None:
    raised = 0

    def check(text: str, audio: Audio) -> bool:
        nonlocal raised
        raised += 1
        raise KeyboardInterrupt

    with over(FakeService(), serial=True, batch_size=1, verify=VerifyConfig(check=check)) as client:
        with pytest.raises(KeyboardInterrupt):
            client.synth_many([f"这是第{n}句话" for n in range(10)])
        assert raised == 1
        with pytest.raises(KeyboardInterrupt):
            client.synth("你好，世界")


def test_the_end_of_a_greenlet_goes_on_to_it_but_never_to_a_worker() -> None:
    class Killed(BaseException):
        __module__ = "greenlet"

    assert goes_on(Killed()) and goes_on(KeyboardInterrupt()) and not goes_on(ValueError())
    answers: list[bool] = []
    for name in ("a view", "cosy-worker-1"):
        thread = threading.Thread(
            target=lambda: answers.extend([goes_on(Killed()), goes_on(KeyboardInterrupt())]),
            name=name,
        )
        thread.start()
        thread.join(10)
    assert answers == [True, False, False, False]


def test_an_alarm_that_fails_silences_no_other(caplog) -> None:
    def broken() -> None:
        raise SystemExit

    alarms, rung = open_schedule(), threading.Event()
    with caplog.at_level(logging.CRITICAL):
        alarms.after(0.0, broken)
        alarms.after(0.0, rung.set)
        assert rung.wait(60)
    alarms.close(20)
