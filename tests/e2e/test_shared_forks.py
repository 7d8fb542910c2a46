"""Processes that are forked in traffic share the limit and the breaker in Redis, each by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosy_sync.server import Server, ServerConfig

ROOT = Path(__file__).parents[2]

# What every process below begins with: the arguments, a client made before the fork, as
# gunicorn's preloading and Celery's prefork make it, and the changes of sharing that it told.
CLIENT = """
import json, os, sys, threading, time
import pybreaker, redis
from cosy_sync import BreakerConfig, CosyClient, Endpoint, RetryConfig, SharingConfig
from cosy_sync.events import SharingChanged

url, redis_url = sys.argv[1:3]
told = []


class Watcher:
    def on_event(self, event):
        if isinstance(event, SharingChanged):
            told.append(str(event))


pool = redis.Redis.from_url(redis_url, socket_timeout=5.0)


def storage(name):
    return pybreaker.CircuitRedisStorage("closed", pool, namespace=name)


client = CosyClient(
    Endpoint(url, max_connections=12),
    batch_size=1,
    retry=RetryConfig(max_retries=0),
    sharing=SharingConfig(redis_url=redis_url, timeout=5.0),
    breaker=BreakerConfig(storage=storage, min_calls=1),
    observers=[Watcher()],
)
end, end_here = os.pipe()  # closed when all shall stop


def fork(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(end_here)
            told.clear()
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def wait_for(pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
"""

# Parent and children speak until a line comes on the standard input; the children are forked at
# moments that nobody chose, while the parent's threads are at it.
TRAFFIC = (
    CLIENT
    + """
stop, errors = threading.Event(), []


def speak():
    def texts():
        number = 0
        while not stop.is_set():
            yield f"进程{os.getpid()}的第{number}句话"
            number += 1

    errors.extend(str(out.error) for out in client.synth_iter(texts()) if out.error)


def work():
    errors.clear()
    thread = threading.Thread(target=speak)
    thread.start()
    os.read(end, 1)
    finish(thread)


def finish(thread):
    stop.set()
    thread.join()
    done = client.stats().texts_ok
    client.close(10)
    left = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    report = json.dumps({"done": done, "errors": errors, "told": told, "left": left})
    os.write(1, (report + "\\n").encode())


thread = threading.Thread(target=speak)
thread.start()
children = []
for number in range(6):
    while client.stats().texts_ok < 7 * (number + 1):
        time.sleep(0.001)
    children.append(fork(work))
sys.stdin.readline()
os.close(end_here)
codes = wait_for(children)
finish(thread)
print(json.dumps(codes))
"""
)


def until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 40
    while not true():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.02)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(ServerConfig(latency=0.05, max_connections=0, rate=0)) as running:
        yield running


@pytest.fixture
def start(server: Server, redis_server) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, server.url, redis_server.url]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # A group of its own: children of a parent that hangs must not outlive the test.
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        running.append(subprocess.Popen(command, env=env, start_new_session=True, **pipes))
        return running[-1]

    yield run
    for child in running:
        if child.poll() is None:
            os.killpg(child.pid, 9)
        child.communicate()


def test_children_forked_in_traffic_share_the_limit_over_connections_of_their_own(
    server: Server, redis_server, start
) -> None:
    redis = redis_server.client()
    key = f"cosy_sync:{{{server.url}}}"
    parent = start(TRAFFIC)

    def all_are_there() -> bool:
        # For each of the seven one connection of the limiter and one of the breaker, beside ours.
        return redis.zcard(f"{key}:clients") == 7 and len(redis.client_list()) - 1 >= 14

    until(all_are_there)
    before = server.stats()["requests"]
    until(lambda: server.stats()["requests"] > before + 100)
    out, _ = parent.communicate("stop\n", timeout=60)
    *reports, codes = map(json.loads, out.splitlines())
    assert codes == [0] * 6
    assert [report["errors"] for report in reports] == [[]] * 7
    assert [report["left"] for report in reports] == [[]] * 7
    # Nobody ever went by a share of its own, and every request had a turn from the one book.
    assert [report["told"] for report in reports] == [[]] * 7
    assert all(report["done"] > 0 for report in reports)
    done = sum(report["done"] for report in reports)
    assert done == server.stats()["requests"] <= int(redis.hget(f"{key}:state", "number"))
    redis.close()


# The child's call fails; the parent hears of it through Redis alone.
BREAKER = (
    CLIENT
    + """
def work():
    bad = client.with_options(headers={"X-Cosy-Fault": "status-503"})
    try:
        bad.synth("孩子说话")
    except Exception as error:
        print(type(error).__name__, flush=True)
    os.read(end, 1)
    client.close(10)


client.synth("父进程先说话")
child = fork(work)
while client.stats().breakers[url] != "open":
    time.sleep(0.001)
os.close(end_here)
print("open", wait_for([child]), told)
client.close(10)
"""
)


def test_a_breaker_that_a_child_opens_opens_in_the_process_that_forked_it(start) -> None:
    out, _ = start(BREAKER).communicate(timeout=60)
    assert out.splitlines() == ["UnavailableError", "open [0] []"]
