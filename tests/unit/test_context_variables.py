"""What the caller's context variables hold in checks, observers, callbacks and sources of text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import httpx
import pytest

from cosy_sync import CosyClient, Endpoint, VerifyConfig
from cosy_sync.engine.text_pump import TextPump
from cosy_sync.models import Audio
from cosy_sync.testing import FakeService

REQUEST: ContextVar[str] = ContextVar("request", default="nobody's")
TEXTS = [f"第{n}句" for n in range(150)]
Seen = set[tuple[str, str]]


@pytest.fixture
def seen() -> Seen:
    return set()


@pytest.fixture(params=[64, 1], ids=["batches", "one text a call"])
def client(request: pytest.FixtureRequest, seen: Seen) -> Iterator[CosyClient]:
    class Observe:
        def on_event(self, event: object) -> None:
            seen.add((type(event).__name__, REQUEST.get()))

    def check(text: str, audio: Audio) -> bool:
        seen.add(("check", REQUEST.get()))
        return True

    with CosyClient(
        Endpoint("http://tts.test/batch", rate=None),
        http_client=httpx.Client(transport=FakeService()),
        verify=VerifyConfig(check=check),
        observers=[Observe()],
        batch_size=request.param,
    ) as made:
        yield made


def many(client: CosyClient) -> object:
    return client.synth_many(TEXTS)


def each(client: CosyClient) -> object:
    return list(client.synth_iter(TEXTS))


def one(client: CosyClient) -> object:
    return client.synth("你好")


def on_a_thread(call: Callable[[CosyClient], object], client: CosyClient) -> None:
    def run() -> None:
        REQUEST.set("its thread's")
        call(client)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.parametrize("call", [many, each, one])
def test_checks_and_observers_of_a_call_see_its_callers_variables(
    client: CosyClient, seen: Seen, call: Callable[[CosyClient], object]
) -> None:
    token = REQUEST.set("the main thread's")
    try:
        call(client)
    finally:
        REQUEST.reset(token)
    assert {"check", "AttemptFinished"} <= {name for name, _ in seen}
    assert {value for _, value in seen} == {"the main thread's"}


@pytest.mark.parametrize("call", [many, each, one])
def test_each_caller_has_its_own(
    client: CosyClient, seen: Seen, call: Callable[[CosyClient], object]
) -> None:
    on_a_thread(call, client)
    assert {value for _, value in seen} == {"its thread's"}
    seen.clear()
    call(client)
    assert {value for _, value in seen} == {"nobody's"}


def test_what_several_callers_may_share_sees_none_of_their_variables(
    client: CosyClient, seen: Seen
) -> None:
    token = REQUEST.set("the caller's")
    try:
        futures = [client.submit(text) for text in TEXTS]
    finally:
        REQUEST.reset(token)
    for future in futures:
        future.result()
    expected = "the caller's" if client.config.batch.max_texts == 1 else "nobody's"
    assert {value for name, value in seen if name == "check"} == {expected}


def test_a_callback_sees_the_variables_of_whoever_added_it(client: CosyClient) -> None:
    told, done = list[str](), threading.Event()
    future = client.submit("你好")
    for value in ("first", "second"):
        token = REQUEST.set(value)
        future.add_done_callback(lambda _: told.append(REQUEST.get()))
        REQUEST.reset(token)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(10)
    assert told == ["first", "second"]


def test_a_text_in_pieces_is_pulled_with_its_callers_variables() -> None:
    pulled = threading.Event()

    def pieces() -> Iterator[str]:
        yield REQUEST.get()
        pulled.set()

    token = REQUEST.set("the caller's")
    pump = TextPump(pieces())
    pump.start()
    REQUEST.reset(token)
    assert pulled.wait(10)
    assert pump.pieces == ["the caller's"]
