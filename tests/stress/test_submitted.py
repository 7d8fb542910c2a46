"""Texts given to `submit`: who goes first, who waits, who is refused when there are too many."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait

import httpx
import pytest
from lanes import eventually

import cosy_sync
from cosy_sync import Audio, CosyClient, Endpoint, LimitConfig, ShedError
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"
# A guard against hanging, never a measure.
PATIENCE = 30.0


class Held(FakeService):
    """Answers nothing before the event is set; `arrived` counts the calls that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.arrived = threading.Semaphore(0)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = super().handle_request(request)
        self.arrived.release()
        assert self.go.wait(PATIENCE)
        return reply

    @property
    def order(self) -> list[str]:
        return [text for texts in self.calls for text in texts]


@pytest.fixture
def service() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


Make = Callable[..., CosyClient]


@pytest.fixture
def make(service: Held) -> Iterator[Make]:
    made: list[CosyClient] = []

    def build(limit: int, on_full: str, **settings: object) -> CosyClient:
        client = CosyClient(
            Endpoint(URL, max_connections=1, rate=1e5),
            http_client=httpx.Client(transport=service),
            limits=LimitConfig(max_submitted=limit, on_full=on_full),
            **settings,  # type: ignore[arg-type]
        )
        made.append(client)
        return client

    yield build
    service.go.set()
    for client in made:
        client.close()


def bulk(client: CosyClient, *texts: str) -> list[Future[Audio]]:
    view = client.with_options(priority="bulk")
    return [view.submit(text) for text in texts]


def ended(*futures: Future[Audio]) -> list[str]:
    wait(futures, PATIENCE)
    return [type(f.exception()).__name__ if f.exception() else "spoken" for f in futures]


@pytest.mark.parametrize("tenant", [{}, {"tenant": "web", "max_in_flight": 1}])
def test_interactive_texts_do_not_stand_behind_bulk_ones(service, make, tenant) -> None:
    client = make(100, "block", batch_size=2, **tenant)
    first = client.submit("先说一句话")
    assert service.arrived.acquire(timeout=PATIENCE)
    many = bulk(client, *[f"第{number}句不急的话" for number in range(20)])
    urgent = [client.submit(f"第{number}句很急的话") for number in range(3)]
    service.go.set()
    assert set(ended(first, *many, *urgent)) == {"spoken"}
    # At worst they take turns: bulk texts that wait for the connection may get it before the
    # worker of the last interactive ones comes back.
    places = [service.order.index(f"第{number}句很急的话") for number in range(3)]
    assert max(places) <= 8


def test_a_full_queue_makes_the_next_wait_until_somebody_ends(service, make) -> None:
    client = make(2, "block")
    queued = [client.submit("第一句话"), client.submit("第二句话")]
    waiting: list[Future[Audio]] = []
    thread = threading.Thread(target=lambda: waiting.append(client.submit("第三句话")))
    thread.start()
    thread.join(0.2)
    assert waiting == []
    service.go.set()
    thread.join(PATIENCE)
    assert ended(*queued, *waiting) == ["spoken"] * 3


def test_who_waits_too_long_for_a_place_is_refused_with_his_number(service, make) -> None:
    client = make(1, "block", deadline=0.3)
    first = client.with_options(deadline=60.0).submit("第一句话")
    with pytest.raises(ShedError, match=r"1 texts are submitted.*none ended within 0.3 s"):
        client.submit("第二句话")
    assert client.stats().errors == {"ShedError": 1}
    service.go.set()
    assert ended(first) == ["spoken"]


def test_a_full_queue_that_sheds_refuses_at_once(service, make) -> None:
    client = make(2, "shed")
    queued = [client.submit("第一句话"), client.submit("第二句话")]
    for priority in ("bulk", "interactive"):
        with pytest.raises(ShedError, match="on_full='shed'") as caught:
            client.with_options(priority=priority).submit("第三句话")
        assert caught.value.text_hash == cosy_sync.text_hash("第三句话")
    service.go.set()
    assert ended(*queued) == ["spoken"] * 2
    assert (client.stats().texts_failed, client.stats().texts_ok) == (2, 2)


def test_interactive_texts_take_the_places_of_bulk_ones_that_have_not_begun(service, make) -> None:
    client = make(4, "shed")
    running = bulk(client, "已经开始的话")
    assert service.arrived.acquire(timeout=PATIENCE)
    waiting = bulk(client, "还没开始的话一", "还没开始的话二", "还没开始的话三")
    told: list[str] = []
    waiting[2].add_done_callback(lambda future: told.append(type(future.exception()).__name__))
    urgent = [client.submit(f"第{number}句很急的话") for number in range(2)]
    eventually(lambda: told)
    assert told == ["ShedError"]
    assert ended(*waiting[1:]) == ["ShedError"] * 2
    error = waiting[2].exception()
    assert isinstance(error, ShedError) and "interactive one needed the place" in str(error)
    assert error.text_hash == cosy_sync.text_hash("还没开始的话三")
    # A cancelled one gives its place back at once.
    assert waiting[0].cancel()
    urgent.append(client.submit("第三句很急的话"))
    with pytest.raises(ShedError):
        client.submit("第四句很急的话")
    service.go.set()
    assert ended(*running, *urgent) == ["spoken"] * 4
    assert client.stats().errors == {"ShedError": 3}
    assert not {"还没开始的话一", "还没开始的话二", "还没开始的话三"} & set(service.order)


@pytest.mark.parametrize("tenant", [{}, {"tenant": "web", "max_in_flight": 2}])
def test_every_text_ends_once_and_no_place_is_lost(service, make, tenant) -> None:
    service.go.set()
    client = make(5, "shed", **tenant)
    views = [client.with_options(priority=priority) for priority in ("bulk", "interactive")]
    ends: list[str] = []

    def submit(seed: int) -> None:
        draw = random.Random(seed)
        for number in range(100):
            text = f"线程{seed}的第{number}句话"
            try:
                future = draw.choice(views).submit(text)
                if draw.random() < 0.1:
                    future.cancel()
                audio = future.result(PATIENCE)
                ends.append("spoken" if audio.data == service.wav(text) else "wrong")
            except (ShedError, cosy_sync.ClosedError) as error:
                ends.append(type(error).__name__)
            except BaseException as error:
                ends.append("cancelled" if "Cancelled" in type(error).__name__ else repr(error))

    threads = [threading.Thread(target=submit, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert len(ends) == 1200
    assert set(ends) <= {"spoken", "ShedError", "cancelled"}
    assert {"spoken", "ShedError"} <= set(ends)
    engine = client._core.engine()
    client.close()
    assert engine._submitted.used == 0
