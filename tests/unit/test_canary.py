"""A client with a canary: who speaks which text, and what becomes of those that fail there."""

import contextlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cosy_sync import (
    Audio,
    CanaryConfig,
    ConfigError,
    CosyClient,
    CosyError,
    Endpoint,
    RetryConfig,
    Utterance,
    Variant,
)
from cosy_sync.events import CanaryChanged, Event, RetryPlanned, TextFailed
from cosy_sync.testing import FakeService

OLD, NEW = "http://old.test/batch", "http://new.test/batch"
TEXTS = [f"这是第{number}句话" for number in range(120)]
Fault = Callable[[httpx.Request], httpx.Response]


class Models(httpx.BaseTransport):
    """A service with an old and a new model, known by the request's model or host. What the new
    one answers, `fault` makes; `asked` are the texts of each, request by request."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.lock = threading.Lock()
        self.fault, self.asked = fault, {"old": [], "new": []}
        self.old_fault: Fault | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        said = json.loads(request.read())
        new = said.get("model") == "v3" or request.url.host == "new.test"
        with self.lock:
            self.asked["new" if new else "old"].append(said["texts"])
        fault = self.fault if new else self.old_fault
        return FakeService.speak(said["texts"]) if fault is None else fault(request)


class Events:
    def __init__(self) -> None:
        self.all: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.all if isinstance(event, kind)]


def status(code: int) -> Fault:
    return lambda _: httpx.Response(code, json={"error": {"message": "no such model"}})


def client_of(models: Models, *, url: bool = False, **settings: object) -> CosyClient:
    http_client = httpx.Client(transport=models)
    settings.setdefault("canary", None if url else Variant(model="v3", share=0.2))
    if url:
        endpoints = [Endpoint(OLD, rate=None), Endpoint(NEW, weight=0.2, rate=None)]
        settings["canary"] = settings["canary"] or CanaryConfig()
        return CosyClient(endpoints, http_client=http_client, **settings)  # type: ignore[arg-type]
    return CosyClient(Endpoint(OLD, rate=None), http_client=http_client, **settings)  # type: ignore[arg-type]


def variants(audios: list[Audio]) -> Counter[str]:
    return Counter(audio.variant for audio in audios)


def synth_all(client: CosyClient, texts: list[str]) -> list[Audio]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(client.synth, texts))


def submit_all(client: CosyClient, texts: list[str]) -> list[Audio]:
    return [future.result() for future in [client.submit(text) for text in texts]]


def iter_all(client: CosyClient, texts: list[str]) -> list[Audio]:
    return [outcome.result() for outcome in client.synth_iter(iter(texts))]


WAYS = [CosyClient.synth_many, synth_all, submit_all, iter_all]
every_way = pytest.mark.parametrize("way", WAYS, ids=["synth_many", "synth", "submit", "iter"])
every_place = pytest.mark.parametrize("url", [False, True], ids=["model", "endpoint"])


@every_place
@every_way
def test_a_share_of_the_texts_is_the_new_ones_and_always_the_same(
    way: Callable[[CosyClient, list[str]], list[Audio]], url: bool
) -> None:
    models = Models()
    with client_of(models, url=url) as client:
        first = [audio.variant for audio in way(client, TEXTS)]
        again = [audio.variant for audio in way(client, TEXTS)]
    assert first == again
    assert 0.1 < first.count("canary") / len(TEXTS) < 0.3
    assert set(first) == {"canary", "control", "stable"}
    news = {text for texts in models.asked["new"] for text in texts}
    assert news == {t for t, variant in zip(TEXTS, first, strict=True) if variant == "canary"}
    # No request has texts of both.
    assert not news & {text for texts in models.asked["old"] for text in texts}


@every_place
@every_way
@pytest.mark.parametrize("code", [500, 400, 401])
def test_texts_that_fail_on_the_new_one_are_spoken_by_the_old_one(
    way: Callable[[CosyClient, list[str]], list[Audio]], url: bool, code: int
) -> None:
    models, events = Models(status(code)), Events()
    with client_of(models, url=url, observers=[events]) as client:
        audios = way(client, TEXTS)
        stats = client.stats()
    kinds = variants(audios)
    assert len(audios) == len(TEXTS) and kinds["fallback"] and not kinds["canary"]
    assert not events.of(TextFailed)
    assert stats.texts_failed == 0 and stats.texts_ok == len(TEXTS)
    # Sent once to the new one each: it costs the old one's attempts nothing.
    news = Counter(text for texts in models.asked["new"] for text in texts)
    assert set(news.values()) == {1}


@every_place
def test_few_texts_of_one_call_and_texts_with_a_voice_of_their_own_fall_back_too(url: bool) -> None:
    texts = [Utterance(text, voice="中文女") for text in TEXTS[:20]] + TEXTS[20:30]
    with client_of(Models(status(500)), url=url) as client:
        outcomes = client.synth_many(texts, on_error="return")
    assert all(outcomes) and [each.text for each in outcomes] == TEXTS[:30]
    assert variants([each.result() for each in outcomes])["fallback"]


def test_a_worse_one_is_rolled_back_for_good_with_an_event_and_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models, events = Models(status(500)), Events()
    caplog.set_level(logging.WARNING, "cosy_sync")
    with client_of(models, url=True, observers=[events], batch_size=1) as client:
        client.synth_many(TEXTS)
        state, share, reason = client.stats().canary or ("", 1.0, "")
        asked = len(models.asked["new"])
        models.fault = None
        assert variants(client.synth_many(TEXTS)) == {"stable": len(TEXTS)}
    assert (state, share) == ("rolled back", 0.0)
    assert reason.startswith("requests that failed: ")
    assert len(models.asked["new"]) == asked < 60
    began, over = events.of(CanaryChanged)
    assert (began.old_share, began.share, began.state) == (0.0, 0.2, "running")  # type: ignore[union-attr]
    assert (over.old_share, over.share, over.reason) == (0.2, 0.0, reason)  # type: ignore[union-attr]
    assert "canary new.test/batch is rolled back: 0 %" in caplog.text
    assert not any(text in caplog.text for text in TEXTS)


def test_refused_audio_falls_back_and_is_counted() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.read())["texts"]
        whole = FakeService.speak(texts)
        pcm = FakeService.wav(texts[0])[44:]
        return httpx.Response(
            200, content=whole.content.replace(pcm, bytes(len(pcm))), headers=whole.headers
        )

    with client_of(Models(silent), batch_size=1) as client:
        kinds = variants(client.synth_many(TEXTS))
        state, _, reason = client.stats().canary or ("", 1.0, "")
    assert kinds["fallback"] and not kinds["canary"]
    assert state == "rolled back" and reason.startswith("texts whose audio was refused")


def test_what_failed_together_counts_once() -> None:
    models = Models(status(500))
    with client_of(models) as client:
        client.synth_many(TEXTS)  # one request to the new one, of some 20 texts
        assert len(models.asked["new"]) == 1
        assert client.stats().canary == ("running", 0.2, "")


def test_errors_of_both_alike_roll_nothing_back() -> None:
    models = Models()

    def now_and_then(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.read())["texts"]
        bad = sum(map(ord, texts[0])) % 4 == 0 and len(texts) == 1
        return status(500)(request) if bad else FakeService.speak(texts)

    models.fault = models.old_fault = now_and_then
    with client_of(models, batch_size=1, retry=RetryConfig(max_retries=0)) as client:
        client.synth_many(TEXTS, on_error="return")
        assert client.stats().canary == ("running", 0.2, "")


def test_the_audio_of_one_is_never_taken_for_the_others() -> None:
    models = Models()
    with client_of(models, url=True, cache="memory") as client:
        client.synth_many(TEXTS)
        spoken = sum(map(len, models.asked["new"] + models.asked["old"]))
        assert spoken == len(TEXTS)
        assert all(audio.from_cache for audio in client.synth_many(TEXTS))
        text = models.asked["new"][0][0]
        assert client.synth(text, variant="stable").from_cache is False
        digests = {client.digest(text, variant=name) for name in ("stable", "canary")}
        assert len(digests) == 2 and client.digest(text) in digests


def test_what_the_old_one_spoke_in_its_place_is_not_kept_as_the_new_ones() -> None:
    models = Models(status(500))
    with client_of(models, cache="memory") as client:
        first = client.synth_many(TEXTS[:60])
        models.fault = None
        again = client.synth_many(TEXTS[:60])
    for before, after in zip(first, again, strict=True):
        assert after.from_cache is (before.variant != "fallback")
        assert before.variant != "fallback" or after.variant == "canary"


def test_the_promoted_models_cache_is_that_of_a_client_with_it() -> None:
    http_client = httpx.Client(transport=Models())
    with (
        client_of(Models()) as trial,
        CosyClient(OLD, model="v3", http_client=http_client) as later,
    ):
        assert trial.digest("你好", variant="canary") == later.digest("你好")


@every_place
def test_one_voice_speaks_all_of_a_narration(url: bool) -> None:
    models = Models()
    with client_of(models, url=url) as client:
        client.narrate("。".join(TEXTS[:60]) + "。")
    assert models.asked["old"] and not models.asked["new"]


def test_a_call_can_have_one_of_the_two() -> None:
    models = Models()
    with client_of(models) as client:
        assert client.synth("你好", variant="canary").variant == "canary"
        assert client.synth("你好", variant="stable").variant == "stable"
    assert models.asked == {"old": [["你好"]], "new": [["你好"]]}


@every_place
def test_a_client_of_the_old_ones_endpoints_keeps_to_them(url: bool) -> None:
    models = Models()
    with client_of(models, url=url) as client:
        if url:
            assert client.drain(NEW)
            assert not variants(client.synth_many(TEXTS))["canary"]
            client.resume(NEW)
        assert variants(client.synth_many(TEXTS))["canary"]


def test_what_somebody_has_chosen_counts_for_neither_and_is_heard_after_a_rollback() -> None:
    models = Models(status(500))
    with client_of(models, batch_size=1) as client:
        client.synth_many(TEXTS, variant="stable")
        client.synth_many(TEXTS, variant="canary")
        assert client.stats().canary == ("running", 0.2, "")
        client.synth_many(TEXTS)
        assert (client.stats().canary or ("",))[0] == "rolled back"
        models.fault = None
        assert client.synth("你好", variant="canary").variant == "canary"


def test_a_retry_is_planned_for_what_falls_back() -> None:
    events = Events()
    with client_of(Models(status(500)), observers=[events], batch_size=1) as client:
        client.synth("你好", variant="canary")
    (planned,) = events.of(RetryPlanned)
    assert (planned.texts, planned.wait) == (1, 0.0)  # type: ignore[union-attr]


def test_texts_that_fail_on_both_bear_the_old_ones_error() -> None:
    models = Models(status(500))
    models.old_fault = status(400)
    with client_of(models, batch_size=1) as client:
        for outcome in client.synth_many(TEXTS[:40], on_error="return"):
            assert type(outcome.error).__name__ == "BadRequestError"


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        ("v3", "canary: expected a Variant or a CanaryConfig, got str"),
        (CanaryConfig(), "give the new model's endpoint last"),
        (Variant(url=NEW), "must be one of several endpoints'"),
    ],
)
def test_a_canary_that_cannot_be_is_refused(canary: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CosyClient(OLD, canary=canary)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Variant(), "say what is new"),
        (lambda: Variant(model="v3", share=0), "share: must be a number above 0"),
        (lambda: Variant(model="v3", share=1.5), "share: must be a number above 0"),
        (lambda: CanaryConfig(false_alarms=0), "false_alarms: must be"),
        (lambda: CanaryConfig(steps=(0.5, 0.25)), "steps: must be growing"),
        (lambda: CanaryConfig(slower=0.5), "slower: must be at least 1"),
        (lambda: CosyClient(OLD, variant="canary"), "this client has no canary"),
    ],
)
def test_a_setting_that_cannot_be_names_its_field(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_an_endpoint_without_a_weight_is_not_taken_for_one_with_all_texts() -> None:
    with pytest.raises(ConfigError, match="with its share of the texts as weight"):
        CosyClient([Endpoint(OLD), Endpoint(NEW)], canary=CanaryConfig())


def test_a_view_cannot_have_another_canary() -> None:
    with client_of(Models()) as client, pytest.raises(ConfigError, match="whole client"):
        client.with_options(canary=None)


@every_way
def test_texts_that_closing_ends_on_the_new_one_are_counted_as_failed(
    way: Callable[[CosyClient, list[str]], list[Audio]],
) -> None:
    models, events = Models(), Events()

    def close(_: httpx.Request) -> httpx.Response:
        client._core._engine.cut()  # type: ignore[union-attr]
        return httpx.Response(500)

    models.fault = close
    with client_of(models, observers=[events], canary=Variant(model="v3", share=1)) as client:
        with contextlib.suppress(CosyError):
            way(client, ["你好"])
        assert len(events.of(TextFailed)) == 1
        assert client.stats().texts_failed == 1
