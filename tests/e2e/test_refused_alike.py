"""Refusals that every text gets: how many requests a call costs, decided by order, not by speed.

What a service here answers is held back until the order that a test is about has come about.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from cosy_sync import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BatchConfig,
    CosyClient,
    CosyError,
    RetryConfig,
    TextError,
    UnavailableError,
)
from cosy_sync.testing import FakeService

TEXTS = [f"第{number}句" for number in range(4_000)]
PAGE = "<html><title>Request blocked</title></html>"
BATCH, VLLM = "http://tts.test/batch", "http://tts.test/v1/audio/speech/batch"
DASHSCOPE = "http://tts.test/api/v1/services/audio/tts/SpeechSynthesizer"
WIRES = {
    "batch": (BATCH, {}),
    "openai": ("http://tts.test/v1", {}),
    "runtime_http": ("http://tts.test", {"voice": "中文女"}),
    "pai_eas": ("http://tts.test", {"voice": "58f2a1c0"}),
    "dashscope_http": (DASHSCOPE, {"voice": "longxiaochun_v2", "model": "cosyvoice-v2"}),
}
# As many requests as are in flight at an endpoint of which nothing is known, with 50 connections.
FIRST = 4
NO_VOICE = "Unknown voice 'nobody'. Supported: vivian, ryan"
Item = Callable[[str, int], "str | None"]


class Service(httpx.BaseTransport):
    """Answers what a function of the texts and of the number of the call says, and counts."""

    def __init__(self, answer: Callable[[list[str], int], httpx.Response]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.calls: list[list[str]] = []
        self.in_flight = self.most = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            asked = json.loads(request.read())
        except ValueError:
            asked = {}  # a form
        items = asked.get("items")
        texts = [item["input"] for item in items] if items else asked.get("texts", [""])
        with self._lock:
            self.calls.append(texts)
            number = len(self.calls)
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        try:
            return self._answer(texts, number)
        finally:
            with self._lock:
                self.in_flight -= 1

    def client(self, url: str, wire: str = "batch", **settings: object) -> CosyClient:
        return CosyClient(
            url,
            wire=wire,
            http_client=httpx.Client(transport=self),
            **{"api_key": "k", **settings},  # type: ignore[arg-type]
        )


def page(status: int) -> httpx.Response:
    return httpx.Response(status, html=PAGE)


def refusal(status: int, message: str = "voice missing") -> httpx.Response:
    return httpx.Response(status, json={"code": 20052, "message": message})


def items(texts: Sequence[str], number: int, error: Item) -> httpx.Response:
    """Answer as a route of batches does that judges each text by itself."""
    results: list[dict[str, object]] = []
    for index, text in enumerate(texts):
        said = error(text, number)
        if said is None:
            sound = base64.b64encode(FakeService.wav(text)).decode()
            results.append({"index": index, "status": "success", "audio_data": sound})
        else:
            results.append({"index": index, "status": "error", "error": said})
    return httpx.Response(200, json={"results": results})


def vllm(service: Service, **settings: object) -> CosyClient:
    settings = {"retry": RetryConfig(base=0.01), "extra": {"service": "vllm"}, **settings}
    return service.client(VLLM, "openai", **settings)


def errors_of(client: CosyClient, texts: Sequence[str], lazy: bool = False) -> list[CosyError]:
    if lazy:
        outcomes = list(client.synth_iter(texts))
    else:
        outcomes = client.synth_many(texts, on_error="return")
    assert [outcome.text for outcome in outcomes] == list(texts)
    return [outcome.error for outcome in outcomes if outcome.error is not None]


# -- bulk calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("status", "more"), [(401, 0), (403, 3)])
def test_a_wrong_key_costs_what_was_in_flight_and_at_most_three_more(
    status: int, more: int, wire: str, lazy: bool
) -> None:
    service = Service(lambda texts, number: page(status))
    url, settings = WIRES[wire]
    with service.client(url, wire, **settings) as client:
        errors = errors_of(client, TEXTS, lazy)
    assert {type(error) for error in errors} == {AuthError} and len(errors) == len(TEXTS)
    assert len(service.calls) <= FIRST + more


@pytest.mark.parametrize("wire", ["batch", "openai", "runtime_http"])
def test_a_wrong_setting_costs_what_was_in_flight_and_twenty_single_texts(wire: str) -> None:
    service = Service(lambda texts, number: refusal(400))
    url, settings = WIRES[wire]
    with service.client(url, wire, **settings) as client:
        errors = errors_of(client, TEXTS)
    assert {type(error) for error in errors} == {BadRequestError} and len(errors) == len(TEXTS)
    assert "check voice" in str(errors[-1])
    assert len(service.calls) <= FIRST + 25


def test_the_page_tells_what_a_wrong_key_and_a_wrong_setting_cost() -> None:
    page = (Path(__file__).parents[2] / "docs/batch-wire.md").read_text("utf-8")
    told = f"at most {FIRST} (401) or {FIRST + 3} (403) requests and a wrong voice (400) at most"
    assert f"{told} {FIRST + 25}," in page


def test_nothing_is_sent_in_place_of_refused_requests_while_one_may_still_be_spoken() -> None:
    first, more = threading.Barrier(FIRST), threading.Event()
    early: list[bool] = []

    def answer(texts: list[str], number: int) -> httpx.Response:
        if number > FIRST:
            more.set()
            return FakeService.speak(texts)
        first.wait(30)
        if number > 1:
            return refusal(400)
        early.append(more.wait(0.3))
        return FakeService.speak(texts)

    service = Service(answer)
    with service.client(BATCH) as client:
        assert errors_of(client, TEXTS[:1_000]) == []
    assert early == [False]


def test_a_format_that_cannot_be_read_ends_a_call_of_one_text_a_request() -> None:
    service = Service(
        lambda texts, number: httpx.Response(
            200, content=b"ID3\x03" + bytes(3_000), headers={"Content-Type": "audio/mpeg"}
        )
    )
    with service.client("http://tts.test/v1", "openai") as client:
        errors = errors_of(client, TEXTS)
    assert {type(error) for error in errors} == {BadAudioError} and len(errors) == len(TEXTS)
    assert len(service.calls) <= FIRST + 20


# -- errors of single texts in a success ----------------------------------------------------------


@pytest.mark.parametrize("said", [NO_VOICE, "Language 'xx' is not supported", "nobody knows"])
def test_items_that_are_all_refused_alike_end_a_call_of_the_batch_wire(said: str) -> None:
    service = Service(lambda texts, number: items(texts, number, lambda text, n: said))
    with service.client(BATCH) as client:
        errors = errors_of(client, TEXTS)
    assert {type(error) for error in errors} == {TextError} and len(errors) == len(TEXTS)
    assert "in a row were refused like this" in str(errors[-1])
    assert len(service.calls) <= FIRST + 2


@pytest.mark.parametrize("size", [32, 2])
def test_a_wrong_voice_ends_a_call_of_vllms_batch_route(size: int) -> None:
    service = Service(lambda texts, number: items(texts, number, lambda text, n: NO_VOICE))
    with vllm(service, batch=BatchConfig(max_texts=size)) as client:
        errors = errors_of(client, TEXTS)
    assert {type(error) for error in errors} == {TextError} and len(errors) == len(TEXTS)
    assert str(errors[-1]).count("check") == 1 and "check voice" in str(errors[-1])
    assert len(service.calls) <= (6 if size == 32 else 12)


def test_a_sentence_that_nobody_knows_is_repeated_and_then_ends_the_call() -> None:
    service = Service(lambda texts, number: items(texts, number, lambda text, n: "gremlins"))
    with vllm(service, retry=RetryConfig(base=0.01, outlast=0.3)) as client:
        errors = errors_of(client, TEXTS)
    assert {type(error) for error in errors} == {UnavailableError} and len(errors) == len(TEXTS)
    assert len(service.calls) <= 40
    assert service.calls.count(service.calls[0]) >= 4


@pytest.mark.parametrize("said", ["gremlins", "CUDA out of memory"])
def test_an_outage_told_by_sentences_about_texts_loses_no_text(said: str) -> None:
    tries: dict[str, int] = {}

    def error(text: str, number: int) -> str | None:
        tries[text] = tries.get(text, 0) + 1
        return said if number <= 20 else None

    service = Service(lambda texts, number: items(texts, number, error))
    with vllm(service, retry=RetryConfig(base=0.01, max_wait=0.02)) as client:
        assert errors_of(client, TEXTS[:400]) == []
    assert max(tries.values()) <= 21


@pytest.mark.parametrize("wire", ["batch", "openai"])
def test_texts_that_are_refused_by_themselves_end_no_call(wire: str) -> None:
    """The shortest come first, in batches of their own."""
    texts = ["好"] * 300 + TEXTS[:100]

    def error(text: str, number: int) -> str | None:
        return "Input text cannot be empty" if text == "好" else None

    service = Service(lambda texts, number: items(texts, number, error))
    client = service.client(BATCH) if wire == "batch" else vllm(service)
    with client:
        assert len(errors_of(client, texts)) == 300


def test_items_that_are_refused_alike_beside_one_that_is_spoken_end_no_call() -> None:
    def error(text: str, number: int) -> str | None:
        return None if text.startswith(("第1", "第2")) else NO_VOICE

    service = Service(lambda texts, number: items(texts, number, error))
    with service.client(BATCH) as client:
        errors = errors_of(client, TEXTS[:1_000])
    assert len(errors) == sum(not text.startswith(("第1", "第2")) for text in TEXTS[:1_000])


# -- strangers who share batches ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "kind"), [(lambda: page(403), AuthError), (lambda: refusal(400), BadRequestError)]
)
def test_strangers_who_are_all_refused_learn_it_from_each_others_batches(
    refused: Callable[[], httpx.Response], kind: type[CosyError]
) -> None:
    """Nothing is answered before all texts stand in line, so that full batches leave."""
    all_there = threading.Event()

    def answer(texts: list[str], number: int) -> httpx.Response:
        all_there.wait(30)
        return refused()

    service = Service(answer)
    with service.client(BATCH) as client:
        futures = [client.submit(text) for text in TEXTS[:300]]
        all_there.set()
        assert {type(future.exception(60)) for future in futures} == {kind}
    # Those in flight, the batches in line, a few halves, and single texts.
    assert len(service.calls) <= FIRST + 5 + 5 + 20 + 3


def test_a_batch_of_strangers_after_the_verdict_is_sent_and_not_halved() -> None:
    """A small call alone, twice: the first learns, the second asks once."""
    service = Service(lambda texts, number: refusal(400))
    with service.client(BATCH) as client:
        assert len(errors_of(client, TEXTS[:30])) == 30
        assert 20 <= len(service.calls) <= 30
        service.calls.clear()
        assert len(errors_of(client, TEXTS[:30])) == 30
        assert len(service.calls) == 1


def test_a_verdict_on_strangers_is_no_verdict_once_something_is_spoken() -> None:
    bad = "第7句"
    refuses = True

    def answer(texts: list[str], number: int) -> httpx.Response:
        return refusal(400) if refuses or bad in texts else FakeService.speak(texts)

    service = Service(answer)
    with service.client(BATCH) as client:
        assert len(errors_of(client, TEXTS[:30])) == 30
        refuses = False
        client.synth("早上好")
        [error] = errors_of(client, TEXTS[:30])
        assert error.index == 7


@pytest.mark.parametrize("model", ["CosyVoice2-0.5B", None])
def test_texts_without_anything_to_speak_end_a_call_only_where_the_model_may_be_to_blame(
    model: str | None,
) -> None:
    empty = httpx.Response(200, content=b"", headers={"Content-Type": "audio/wav"})
    service = Service(lambda texts, number: empty)
    with service.client("http://tts.test", "runtime_http", voice="中文女", model=model) as client:
        errors = errors_of(client, ["……"] * 60)
    assert {type(error) for error in errors} == {TextError} and len(errors) == 60
    assert len(service.calls) == 60 if model else len(service.calls) <= FIRST + 20


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_error_knows_whether_its_text_was_sent_before_its_call_was_given_up(
    status: int,
) -> None:
    service = Service(lambda texts, number: refusal(status))
    with service.client(BATCH) as client:
        errors = errors_of(client, TEXTS[:1_000])
    reached = {text for call in service.calls for text in call}
    assert len(reached) < 400
    # Of batches that were taken up none of the texts, where they waited for what others met.
    assert sum(error.sent for error in errors) == len(reached)
