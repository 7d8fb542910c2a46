"""Calls that Ctrl-C ends, or that are dropped: their requests are cut off, others go on."""

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lanes import eventually

from cosy_sync import ClosedError, CosyClient, Endpoint, InterruptedBatch
from cosy_sync.server import Server

TEXTS = [f"这是第{number}句要说的话" for number in range(12)]


@pytest.fixture(scope="module")
def silent() -> Iterator[Server]:
    """A service that takes everything and answers later than a test waits."""
    with Server(latency=20, rate=0, max_connections=0, grpc_port=0, grpc_max_conc=64) as running:
        yield running


WIRES = {
    "batch": ("{base}/batch", {}),
    "openai": ("{base}/v1", {"voice": "中文女"}),
    "runtime_http": ("{base}", {"voice": "中文女"}),
    "runtime_grpc": ("{grpc}", {"voice": "中文女"}),
    "dashscope_ws": (
        "ws{host}/api-ws/v1/inference",
        {"model": "cosyvoice-v3-flash", "voice": "longanyang"},
    ),
}


def over(server: Server, wire: str = "batch", **settings: Any) -> CosyClient:
    address, given = WIRES[wire]
    base = server.base_url
    url = address.format(base=base, host=base.removeprefix("http"), grpc=server.grpc_url)
    endpoint = Endpoint(url, max_connections=4, rate=1e6)
    return CosyClient(endpoint, wire=wire, deadline=200, **given, **settings)


def in_flight(client: CosyClient, count: int) -> Callable[[], bool]:
    return lambda: client.stats().in_flight >= count


def ctrl_c(once: Callable[[], bool]) -> threading.Thread:
    """Press Ctrl-C as soon as something is so."""

    def press() -> None:
        eventually(once)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def is_over(client: CosyClient) -> bool:
    """Return whether nothing of any call is left, nor held against the service."""
    engine = client._core.engine()
    idle = engine._bulk.drain(0) and engine._single.drain(0)
    return idle and client.stats().in_flight == 0


@pytest.mark.usefixtures("each_way_of_waiting")
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:3]], ids=["own batches", "shared batches"])
def test_the_requests_of_an_interrupted_call_are_cut_off(silent: Server, texts: list[str]) -> None:
    with over(silent, batch_size=8 if len(texts) == 3 else 4) as client:
        pressing = ctrl_c(in_flight(client, 1 if len(texts) == 3 else 3))
        with pytest.raises(InterruptedBatch):
            client.synth_many(texts)
        eventually(lambda: is_over(client))
        pressing.join(20)
        assert set(client.stats().breakers.values()) == {"closed"}
        assert client.stats().connections_open == 0


@pytest.mark.parametrize("wire", ["openai", "runtime_http", "runtime_grpc", "dashscope_ws"])
def test_so_they_are_over_other_wires(silent: Server, wire: str) -> None:
    with over(silent, wire) as client:
        pressing = ctrl_c(in_flight(client, 2))
        with pytest.raises(InterruptedBatch):
            client.synth_many(TEXTS)
        eventually(lambda: is_over(client))
        pressing.join(20)


@pytest.mark.timeout(60)
def test_a_server_that_closes_waits_for_no_call_that_was_cut_off() -> None:
    with (
        Server(latency=600, rate=0, max_connections=0, grpc_port=0) as server,
        over(server, "runtime_grpc") as client,
    ):
        pressing = ctrl_c(in_flight(client, 2))
        with pytest.raises(InterruptedBatch):
            client.synth_many(TEXTS)
        pressing.join(20)


@pytest.mark.usefixtures("each_way_of_waiting")
def test_the_request_of_an_interrupted_synth_is_cut_off(silent: Server) -> None:
    with over(silent) as client:
        pressing = ctrl_c(in_flight(client, 1))
        with pytest.raises(KeyboardInterrupt):
            client.synth("你好")
        eventually(lambda: is_over(client))
        pressing.join(20)


@pytest.mark.usefixtures("each_way_of_waiting")
def test_the_requests_of_a_dropped_lazy_call_are_cut_off(silent: Server) -> None:
    with over(silent, batch_size=4) as client:
        outcomes = client.synth_iter(["", *TEXTS])
        assert not next(outcomes).ok  # what cannot be sent is handed out at once
        eventually(in_flight(client, 3))
        del outcomes
        gc.collect()
        eventually(lambda: is_over(client))


def test_the_requests_of_an_interrupted_lazy_call_are_cut_off(silent: Server) -> None:
    with over(silent, batch_size=4) as client:
        pressing = ctrl_c(in_flight(client, 3))
        with pytest.raises(KeyboardInterrupt):
            next(client.synth_iter(iter(TEXTS)))
        eventually(lambda: is_over(client))
        pressing.join(20)


@pytest.mark.parametrize("wire", ["openai", "runtime_http", "runtime_grpc", "dashscope_ws"])
def test_the_request_of_an_interrupted_stream_is_cut_off(silent: Server, wire: str) -> None:
    with over(silent, wire) as client:
        pressing = ctrl_c(in_flight(client, 1))
        with pytest.raises(KeyboardInterrupt):
            client.stream("你好")
        eventually(lambda: is_over(client))
        pressing.join(20)


def test_what_an_interrupted_call_waits_for_is_not_waited_for_any_more(silent: Server) -> None:
    with over(silent, batch_size=1) as client:
        others = [threading.Thread(target=speak_until_closed, args=[client, t]) for t in TEXTS[:4]]
        for other in others:
            other.start()
        eventually(in_flight(client, 1))
        engine = client._core.engine()
        pressing = ctrl_c(lambda: any(s.slots.wanted > 4 for s in engine.endpoints.endpoints))
        with pytest.raises(InterruptedBatch):
            client.synth_many(TEXTS)
        eventually(lambda: engine._bulk.drain(0))
        pressing.join(20)
        client.close(0)
        for other in others:
            other.join(20)


def speak_until_closed(client: CosyClient, text: str) -> None:
    with pytest.raises(ClosedError):
        client.with_options(headers={"X-Text": str(len(text))}).synth(text)


def test_what_others_wait_for_goes_on() -> None:
    with Server(latency=1.0, rate=0, max_connections=0) as slow, over(slow, batch_size=4) as client:
        others = [client.submit(text) for text in TEXTS[:2]]
        eventually(in_flight(client, 1))
        pressing = ctrl_c(in_flight(client, 3))
        with pytest.raises(InterruptedBatch):
            client.synth_many([f"另外的第{number}句话" for number in range(8)])
        assert [other.result(20).duration > 0 for other in others] == [True, True]
        eventually(lambda: is_over(client))
        assert client.synth("还有一句").duration > 0  # and the client as well
        assert client.stats().retries == 0
        pressing.join(20)


def test_who_waits_for_the_text_of_an_interrupted_synth_gets_it() -> None:
    with Server(latency=1.0, rate=0, max_connections=0) as slow, over(slow) as client:
        heard: list[float] = []
        other = threading.Thread(target=lambda: heard.append(client.synth("你好").duration))

        def joined() -> bool:
            queues = client._core.engine().interactive._queues.values()
            texts = [text for queue in queues for text in list(queue._pending.by_key.values())]
            if texts and client.stats().in_flight and not other.ident:
                other.start()
            return any(text.sent_alone and text.waiters for text in texts)

        pressing = ctrl_c(joined)
        with pytest.raises(KeyboardInterrupt):
            client.synth("你好")
        pressing.join(20)
        other.join(20)
        assert heard and client.stats().texts_ok == 1
