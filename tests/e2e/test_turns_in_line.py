"""Whoever is interactive, or has been given up, keeps no turn of the rate limit from the others.

The rate is 10 requests/s everywhere: a text that waited behind ten others would miss its deadline.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cosy_sync import CosyClient, CosyError, Endpoint, LimitConfig, SharingConfig
from cosy_sync.server import Server, ServerConfig


def texts(count: int) -> list[str]:
    return [f"这是第{number}句要说的话" for number in range(count)]


@pytest.fixture(params=["own", "all endpoints", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[CosyClient]:
    settings: dict[str, Any] = {}
    rate = 10.0
    if request.param == "all endpoints":
        settings["limits"], rate = LimitConfig(rate=10), 1_000.0
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        settings["sharing"] = SharingConfig(redis_url=url, timeout=2.0)
    with Server(ServerConfig(latency=0.01, rate=0)) as server:
        endpoint = Endpoint(server.url, max_connections=50, rate=rate)
        client = CosyClient(endpoint, batch_size=1, **settings)
        with contextlib.closing(client):
            client.synth("先说一句")
            yield client
            client.close(0.0)


def in_line(client: CosyClient, count: int) -> None:
    """Wait until so many stand before the rate limit."""
    (station,) = client._core.engine().endpoints.endpoints
    until = time.monotonic() + 20
    while station._own_limiter._many_normal + station._own_limiter._many_urgent < count:
        assert time.monotonic() < until
        time.sleep(0.005)


def speaks(client: CosyClient) -> None:
    assert client.with_options(deadline=2.0).synth("现在就要说的话").duration > 0


def test_an_interactive_text_does_not_wait_for_those_of_a_big_job(client) -> None:
    def work() -> None:
        with contextlib.suppress(CosyError):
            client.synth_many(texts(200))

    thread = threading.Thread(target=work)
    thread.start()
    in_line(client, 40)
    for _ in range(3):
        speaks(client)
    client.close(0.0)
    thread.join(20)
    assert not thread.is_alive()


def test_cancelled_texts_keep_no_turn(client) -> None:
    futures = [client.submit(text) for text in texts(50)]
    in_line(client, 40)
    assert sum(future.cancel() for future in futures[2:]) > 40
    speaks(client)
    assert all(future.result(20).duration > 0 for future in futures[:2])


def test_a_stream_of_outcomes_that_is_left_keeps_no_turn(client) -> None:
    outcomes = client.synth_iter(f"第{number}句" for number in itertools.count())
    assert next(outcomes).audio is not None
    in_line(client, 2)  # it reads no further ahead
    outcomes.close()
    speaks(client)
    in_line(client, 0)


def test_ctrl_c_in_a_big_job_leaves_no_turn_taken(client) -> None:
    def interrupt(done: int, total: int | None) -> None:
        in_line(client, 40)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.synth_many(texts(200), progress=interrupt)
    speaks(client)
