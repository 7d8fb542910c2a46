"""Several processes on one limit in Redis, as the service counts them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import CosyClient, Endpoint, LimitConfig, SharingConfig
from cosy_sync.events import AttemptFinished, Event
from cosy_sync.server import Server, ServerConfig

ROOT = Path(__file__).parents[2]

# Speaks text after text for some seconds; prints the errors, and what is left of the threads.
WORK = """
import json, sys, threading, time
from cosy_sync import CosyClient, Endpoint, SharingConfig

url, redis_url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])


def texts():
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        yield f"这是第{number}句要说的话"
        number += 1


sharing = SharingConfig(redis_url=redis_url)
with CosyClient(Endpoint(url, max_connections=12), batch_size=1, sharing=sharing) as client:
    errors = [str(out.error) for out in client.synth_iter(texts()) if out.error]
    done = client.stats().texts_ok
print(json.dumps({"done": done, "errors": errors, "threads": threading.active_count()}))
"""


def run_4(
    server: Server, redis_url: str, seconds: float, meanwhile: Callable[[], None]
) -> list[dict[str, Any]]:
    command = [sys.executable, "-c", WORK, server.url, redis_url, str(seconds)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(4)
    ]
    try:
        end = time.monotonic() + 20
        while server.stats()["requests"] < 5 and time.monotonic() < end:
            time.sleep(0.01)
        meanwhile()
        return [json.loads(child.communicate(timeout=60)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(ServerConfig(latency=0.1, max_connections=0, rate=100)) as running:
        yield running


def test_4_processes_share_one_limit_and_use_it(redis_server) -> None:
    counts: list[tuple[float, int]] = []
    with Server(ServerConfig(latency=0.1, max_connections=0, rate=0)) as server:

        def watch() -> None:
            time.sleep(1.0)
            for pause in (4.0, 0.0):
                counts.append((time.monotonic(), server.stats()["requests"]))
                time.sleep(pause)

        results = run_4(server, redis_server.url, 6.0, watch)
        peak = server.stats()["peak_requests_per_second"]
    assert [result["errors"] for result in results] == [[]] * 4
    assert [result["threads"] for result in results] == [1] * 4
    (begin, first), (end, last) = counts
    # A share alone would be 25 a second, four limits 400. How exactly the 100 are kept and used
    # is measured by benchmarks.survival: where a machine stands still, requests arrive together,
    # and a slow one sends fewer.
    assert 30 < (last - first) / (end - begin) < 130
    assert peak < 200


class Sent:
    """An observer: when each request left."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptFinished):
            self.at.append(event.timing.started)


def test_two_clients_share_the_limit_of_all_their_endpoints(redis_server) -> None:
    sent, free = Sent(), ServerConfig(latency=0.02, max_connections=0, rate=0)

    def speak(urls: list[str]) -> None:
        endpoints = [Endpoint(url, max_connections=10) for url in urls]
        with CosyClient(
            endpoints,
            batch_size=1,
            sharing=SharingConfig(redis_url=redis_server.url),
            limits=LimitConfig(rate=40),
            observers=[sent],
        ) as client:
            client.synth_many([f"这是第{number}句要说的话" for number in range(60)])

    with Server(free) as one, Server(free) as two, ThreadPoolExecutor(2) as pool:
        urls = [one.url, two.url]
        for job in [pool.submit(speak, urls) for _ in range(2)]:
            job.result()
        asked = [server.stats()["requests"] for server in (one, two)]
    assert sum(asked) == len(sent.at) == 120 and min(asked) > 20
    # Each by itself would send 40 a second.
    assert max(sum(at <= other < at + 1 for other in sent.at) for at in sent.at) < 60


def test_clients_of_one_redis_open_no_more_connections_than_the_service_allows(
    redis_server,
) -> None:
    sharing = SharingConfig(redis_url=redis_server.url, timeout=2.0)

    def speak(url: str) -> int:
        endpoint = Endpoint(url, max_connections=12, rate=1_000)
        with CosyClient(endpoint, batch_size=1, sharing=sharing) as client:
            texts = (f"这是第{number}句要说的话" for number in range(150))
            return sum(out.audio is not None for out in client.synth_iter(texts))

    service = ServerConfig(latency=0.05, max_connections=12, rate=0)
    with Server(service) as server, ThreadPoolExecutor(4) as pool:
        jobs = []
        for _ in range(4):
            jobs.append(pool.submit(speak, server.url))
            time.sleep(0.1)
        assert [job.result() for job in jobs] == [150] * 4
        stats = server.stats()
    # Each newcomer begins with one, while the others still hold all.
    assert stats["status"].get("503", 0) < 20


def test_an_emptied_redis_in_traffic_lets_no_second_hold_more_and_it_goes_on(redis_server) -> None:
    sent = Sent()

    def texts() -> Iterator[str]:
        end = time.monotonic() + 3.5
        for number in itertools.count():
            if time.monotonic() > end:
                return
            yield f"这是第{number}句要说的话"

    def speak(url: str) -> None:
        sharing = SharingConfig(redis_url=redis_server.url, timeout=2.0)
        endpoint = Endpoint(url, max_connections=20, rate=40)
        with CosyClient(endpoint, batch_size=1, sharing=sharing, observers=[sent]) as client:
            assert not [out.error for out in client.synth_iter(texts()) if out.error]

    free = ServerConfig(latency=0.02, max_connections=0, rate=0)
    with Server(free) as server, ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(speak, server.url) for _ in range(2)]
        while len(sent.at) < 50:
            time.sleep(0.01)
        redis_server.client().flushall()
        emptied = time.monotonic()
        for job in jobs:
            job.result()
    # One more than the limit, where a thread stood still after its turn.
    assert max(sum(at <= other < at + 1 for other in sent.at) for at in sent.at) <= 41
    assert sum(at > emptied + 1.5 for at in sent.at) > 10


def test_redis_may_go_and_come_back_under_load(server, redis_server) -> None:
    def disturb() -> None:
        time.sleep(1.0)
        redis_server.stop()
        time.sleep(1.5)
        redis_server.start()

    results = run_4(server, redis_server.url, 7.0, disturb)
    assert [result["errors"] for result in results] == [[]] * 4
    assert sum(result["done"] for result in results) == server.stats()["status"]["200"]


def test_redis_may_stall_under_load(server, redis_server) -> None:
    def disturb() -> None:
        time.sleep(1.0)
        client = redis_server.client()
        client.client_pause(1500)
        client.close()

    results = run_4(server, redis_server.url, 5.0, disturb)
    assert [result["errors"] for result in results] == [[]] * 4
