"""The service's limits as the server counts them: connections, requests a second, overlap."""

import time

import pytest

from cosy_sync import CosyClient, Endpoint
from cosy_sync.server import Server, ServerConfig


def texts(count: int) -> list[str]:
    return [f"这是第{number}句要说的话" for number in range(count)]


def test_sixteen_batches_overlap() -> None:
    with Server(ServerConfig(latency=0.2)) as server, CosyClient(server.url) as client:
        client.synth_many(texts(1))
        assert len(client.synth_many(texts(1000))) == 1000
        assert server.stats()["requests"] == 17
        # One connection each for those that were in flight at once.
        assert server.stats()["connections_peak"] >= 4


def test_the_server_sees_no_more_connections_and_no_higher_rate_than_is_set() -> None:
    with Server(ServerConfig(latency=0.05, rate=0)) as server:
        endpoint = Endpoint(server.url, max_connections=10, rate=50)
        with CosyClient(endpoint, batch_size=1) as client:
            assert len(client.synth_many(texts(150))) == 150
        stats = server.stats()
    assert stats["connections_peak"] <= 10
    # 10 connections could do 200. Not 50: where a machine stands still for a moment, what left
    # apart arrives together.
    assert stats["peak_requests_per_second"] < 100
    assert stats["requests"] == 150


def test_a_client_that_asks_for_more_than_the_service_allows_still_loses_nothing() -> None:
    config = ServerConfig(latency=0.01, max_connections=50, rate=30)
    with Server(config) as server:
        endpoint = Endpoint(server.url, rate=60)
        with CosyClient(endpoint, batch_size=1) as client:
            assert len(client.synth_many(texts(90))) == 90
        assert server.stats()["throttled"] > 0


def test_idle_connections_are_reused_and_then_closed() -> None:
    with Server(ServerConfig(latency=0)) as server, CosyClient(server.url) as client:
        for text in texts(20):
            client.synth(text)
        assert server.stats()["connections_peak"] == 1
        assert client.stats().connections_idle == 1


@pytest.mark.parametrize("idle_timeout", [0, 0.05])
def test_a_server_that_closes_idle_connections_costs_no_attempt(
    idle_timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.net.exchange.UNREAD_WITHIN", 10.0)
    config = ServerConfig(latency=0, idle_timeout=idle_timeout)
    with Server(config) as server, CosyClient(server.url) as client:
        for text in texts(10):
            assert client.synth(text).timing.attempts == 1
            time.sleep(0.06)
        assert client.stats().retries == 0
