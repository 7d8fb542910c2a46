"""Outages, throttling and bad requests over real sockets: nothing is lost, nobody else suffers."""

import threading
from collections.abc import Sequence

import pytest
from picky import SPEAK, Picky, Refusal, said

import cosy_sync
from cosy_sync import CosyClient, Endpoint, Voice
from cosy_sync.events import AttemptFinished, Event
from cosy_sync.testing import Outage, Server


class Sends:
    def __init__(self) -> None:
        self.failed = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptFinished):
            self.failed += event.error is not None


@pytest.mark.parametrize(
    ("wire", "texts"), [("batch", 1), ("batch", 300), ("runtime_http", 10)], ids=str
)
def test_a_bulk_call_loses_nothing_to_a_service_that_comes_up_late(wire: str, texts: int) -> None:
    sends = Sends()
    away = [Outage(start=0, seconds=1.0)]
    with Server(latency=0, max_connections=0, rate=0, outages=away) as server:
        url = server.url if wire == "batch" else server.base_url
        settings = {"wire": wire, "voice": Voice("中文女"), "observers": [sends]}
        with CosyClient(url, **settings) as client:  # type: ignore[arg-type]
            audios = client.synth_many([f"第{number}句话说得很好" for number in range(texts)])
    assert len(audios) == texts
    assert 0 < sends.failed < 60


def test_bulk_streams_and_submitted_bulk_work_outlast_an_outage() -> None:
    away = [Outage(start=0, seconds=1.0)]
    with Server(latency=0, max_connections=0, rate=0, outages=away) as server:
        settings = {"wire": "runtime_http", "voice": Voice("中文女"), "priority": "bulk"}
        with CosyClient(server.base_url, **settings) as client:  # type: ignore[arg-type]
            future = client.submit("你好")
            assert b"".join(client.stream("一段很长的文字"))
            assert future.result().data


def test_a_model_that_always_fails_takes_the_service_down_for_nobody_else() -> None:
    with (
        Server(latency=0.01, max_connections=0, rate=0) as server,
        CosyClient(server.url, batch_size=1, voice=Voice("中文女")) as client,
    ):
        headers = {"X-Cosy-Fault": "status-500"}
        other = client.with_options(model="another", headers=headers)
        texts = [f"第{number}句话说得很好" for number in range(60)]
        outcomes: list[cosy_sync.Outcome] = []
        bulk = threading.Thread(
            target=lambda: outcomes.extend(other.synth_many(texts, on_error="return"))
        )
        bulk.start()
        spoken = 0
        while bulk.is_alive():
            assert client.synth(f"第{spoken}次").data
            spoken += 1
            bulk.join(0.05)
        assert client.stats().breakers == {server.url: "closed"}
    assert [type(outcome.error) for outcome in outcomes] == [cosy_sync.UnavailableError] * 60


def test_a_call_whose_last_text_always_fails_ends_where_others_did_before() -> None:
    def choose(texts: Sequence[str]) -> Refusal | str:
        return said(500) if int(texts[0][1:-1]) % 3 == 0 else SPEAK

    with (
        Picky(choose) as server,
        CosyClient(Endpoint(server.batch, max_connections=4), batch_size=1) as client,
    ):
        outcomes = client.synth_many([f"第{number}句" for number in range(31)], on_error="return")
        assert set(client.stats().breakers.values()) == {"closed"}
    assert [outcome.ok for outcome in outcomes] == [number % 3 > 0 for number in range(31)]
    assert outcomes[-1].error is not None and len(outcomes[-1].error.attempts) == 3
