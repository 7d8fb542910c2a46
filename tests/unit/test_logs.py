"""Logs tell hashes and lengths: never a text, audio or a key, at any level."""

import gc
import logging
import types
import weakref
from collections.abc import Callable

import httpx
import pytest

import cosy_sync
from cosy_sync import CosyClient, RetryConfig
from cosy_sync.events import (
    AddressesChanged,
    AttemptFinished,
    EndpointEjected,
    EndpointReadmitted,
    Event,
    LimitsLowered,
    LookupFailed,
    Observers,
    TextsFinished,
)
from cosy_sync.logs import LogObserver
from cosy_sync.models import Timing, text_hash
from cosy_sync.stats import StatsObserver
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch?token=in-the-url"


def test_no_text_audio_or_key_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    service = FakeService()
    quoting = {"error": {"code": "bad", "message": "cannot say 这是一个秘密的句子 today"}}
    service.answer(httpx.Response(503, json=quoting))
    service.answer(httpx.Response(400, json=quoting))
    http_client = httpx.Client(transport=service)
    settings = {"api_key": "sk-secret", "serial": True, "clock": FakeClock()}
    with CosyClient(URL, http_client=http_client, **settings) as client:  # type: ignore[arg-type]
        with pytest.raises(cosy_sync.BadRequestError) as caught:
            client.synth("这是一个秘密的句子")
        client.synth_many(["这是一个秘密的句子", "这是另外一个秘密"])
    ours = [r for r in caplog.records if r.name.startswith("cosy_sync")]
    logged = "\n".join(record.getMessage() for record in ours) + str(caught.value)
    for secret in ("秘密", "sk-secret", "in-the-url", "RIFF"):
        assert secret not in logged
    assert text_hash("这是一个秘密的句子") in logged
    levels = {record.levelno for record in ours}
    assert levels == {logging.DEBUG, logging.INFO}


def test_the_breaker_warns_when_it_opens(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService().fail(500, times=99)
    http_client = httpx.Client(transport=service)
    settings = {"clock": FakeClock(), "serial": True, "retry": RetryConfig(max_retries=0)}
    with CosyClient(URL, http_client=http_client, batch_size=1, **settings) as client:
        client.synth_many([f"第{number}句" for number in range(20)], on_error="return", within=1)
    assert "breaker of http://tts.test/batch: closed -> open" in caplog.messages


def test_what_happens_to_endpoints_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cosy_sync")
    error = cosy_sync.ConnectError("no address")
    for event in (
        EndpointEjected("http://a.test/", 5.0, 0.61),
        EndpointReadmitted("http://a.test/"),
        AddressesChanged("http://a.test/", ("192.0.2.1", "192.0.2.2"), ()),
        LookupFailed("http://a.test/", 2, error),
    ):
        LogObserver().on_event(event)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "http://a.test/ is left out for 5 s: 61 % of its latest calls failed"),
        ("WARNING", "http://a.test/ takes part again"),
        ("INFO", "http://a.test/: new addresses: 192.0.2.1, 192.0.2.2; gone: -"),
        ("WARNING", "http://a.test/: no address; 2 addresses kept"),
    ]


def test_refused_audio_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    texts = ["第一句话在这里", "第二句话在那里"]
    service = FakeService().answer(FakeService.speak([texts[0]] * 2))
    http_client = httpx.Client(transport=service)
    with CosyClient(URL, http_client=http_client, clock=FakeClock(), serial=True) as client:
        client.synth_many(texts)
    [line] = [line for line in caplog.messages if "refused" in line]
    assert line.endswith(" http://tts.test/batch: audio of 2 texts refused: identical")


def test_nothing_is_printed_without_a_handler(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("cosy_sync")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)


def test_an_observer_that_fails_is_logged_and_disturbs_nobody(caplog) -> None:
    class Broken:
        def on_event(self, event: cosy_sync.Event) -> None:
            raise ValueError("broken observer")

    seen: list[cosy_sync.Event] = []

    class Good:
        def on_event(self, event: cosy_sync.Event) -> None:
            seen.append(event)

    http_client = httpx.Client(transport=FakeService())
    with CosyClient(URL, http_client=http_client, observers=[Broken(), Good()]) as client:
        client.synth("你好")
    assert [type(event).__name__ for event in seen] == ["AttemptFinished", "TextsFinished"]
    assert "an observer failed" in caplog.text


def test_what_this_machine_is_out_of_is_a_warning_that_names_the_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = cosy_sync.ResourceError("no more open files (ulimit -n: 64)", resource="descriptors")
    LogObserver().on_event(LimitsLowered("http://a.test/", 100.0, 40, error))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ulimit -n: 64" in record.getMessage() and "at most 40" in record.getMessage()


def test_a_lasting_lack_is_a_warning_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    observer = LogObserver(clock.now)

    def lack(endpoint: str, resource: str) -> LimitsLowered:
        return LimitsLowered(endpoint, 100.0, 40, cosy_sync.ResourceError("-", resource=resource))

    def warnings() -> int:
        return [record.levelno for record in caplog.records].count(logging.WARNING)

    caplog.set_level(logging.DEBUG, "cosy_sync")
    for _ in range(59):
        observer.on_event(lack("http://a.test/", "descriptors"))
        clock.advance(1.0)
    assert warnings() == 1 and len(caplog.records) == 59
    observer.on_event(lack("http://a.test/", "ports"))  # another state
    observer.on_event(lack("http://b.test/", "descriptors"))
    assert warnings() == 3
    clock.advance(1.0)
    observer.on_event(lack("http://a.test/", "descriptors"))
    assert warnings() == 4


def test_an_observer_is_told_only_of_the_classes_of_events_that_it_names() -> None:
    told: list[Event] = []

    class Choosy:
        def taker(self, kind: type) -> Callable[[Event], None] | None:
            return told.append if kind is EndpointReadmitted else None

        def on_event(self, event: Event) -> None:
            raise AssertionError("it has named what takes its events")

    readmitted = EndpointReadmitted("http://a.test/")
    observers = Observers([Choosy()])
    for event in (EndpointEjected("http://a.test/", 5.0, 0.61), readmitted) * 2:
        observers.on_event(event)
    assert told == [readmitted, readmitted]


def test_what_went_well_is_counted_whenever_somebody_looks() -> None:
    stats = StatsObserver()
    observers = Observers([stats])
    gauges = {"in_flight": 0, "connections": (0, 0), "breakers": {}, "limits": {}}
    timing = Timing(
        started=0.0,
        queued=0.0,
        connect=0.0,
        first_byte=0.0,
        total=1.0,
        attempts=1,
        endpoint="http://a.test/",
        request_id="1",
    )
    for done in range(1, 300):
        observers.on_event(AttemptFinished(timing, 1, 4, 10, None))
        observers.on_event(TextsFinished(1, 4, 10, 0.5, 1.0))
        if done in (1, 2, 299):
            shown = stats.snapshot(retry_budget=0.0, **gauges)  # type: ignore[arg-type]
            assert (shown.requests, shown.texts_ok, shown.chars_ok) == (done, done, 4 * done)
            assert shown.audio_seconds == 0.5 * done


def test_a_failed_call_is_not_kept_until_somebody_looks() -> None:
    stats, error = StatsObserver(), cosy_sync.ConnectError("no address")
    gone = weakref.ref(error)
    timing = Timing(
        started=0.0,
        queued=0.0,
        connect=0.0,
        first_byte=0.0,
        total=1.0,
        attempts=1,
        endpoint="http://a.test/",
        request_id="1",
    )
    Observers([stats]).on_event(AttemptFinished(timing, 1, 4, 0, error))
    del error
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("watched", ["by nobody", "by an observer", "by the log"])
def test_what_went_well_is_counted_alike_whoever_watches(watched: str) -> None:
    timing = Timing(
        started=0.0,
        queued=0.5,
        connect=0.1,
        first_byte=0.0,
        total=1.0,
        attempts=1,
        endpoint="http://a.test/",
        request_id="1",
    )
    audio = cosy_sync.Audio(bytes(48_000), "pcm", 24_000, 1, 0, 48_000, timing)
    told: list[object] = []
    seen = types.SimpleNamespace(on_event=told.append)
    stats = StatsObserver()
    others = [seen] if watched == "by an observer" else []
    log = seen if watched == "by the log" else None
    observers = Observers(others, stats, log)
    for _ in range(200):
        observers.tell_answer(timing, ["你好"], 100)
        observers.tell_finished([audio, audio], 4)
    shown = stats.snapshot(
        in_flight=0, connections=(0, 0), breakers={}, limits={}, retry_budget=0.0
    )
    assert (shown.requests, shown.connects, shown.texts_ok, shown.chars_ok) == (200, 200, 400, 800)
    assert (shown.audio_bytes, shown.audio_seconds) == (19_200_000, 400.0)
    assert shown.latency_p50 == 1.5
    wanted = {"by nobody": 0, "by an observer": 400, "by the log": 200}[watched]
    assert len(told) == wanted
