"""Web servers with green threads: gevent works as it is, eventlet is refused in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync.server import Server

ROOT = Path(cosy_sync.__file__).parents[1]

GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
import cosy_sync
from cosy_sync.server import tone_wav

url = sys.argv[1]
texts = [f"第{n}句话" for n in range(200)]
wanted = [tone_wav(text) for text in texts]
with cosy_sync.CosyClient(url, deadline=20) as client:
    # A greenlet that goes on while the others wait for the service.
    beats = []
    def beat():
        while True:
            beats.append(1)
            gevent.sleep(0.005)
    pulse = gevent.spawn(beat)
    alone = [gevent.spawn(client.synth, text) for text in texts[:40]]
    many = [gevent.spawn(client.synth_many, texts) for _ in range(3)]
    futures = [client.submit(text) for text in texts[:40]]
    gevent.joinall([*alone, *many], timeout=30, raise_error=True)
    assert [each.value.data for each in alone] == wanted[:40]
    assert all([audio.data for audio in each.value] == wanted for each in many)
    assert [future.result(10).data for future in futures] == wanted[:40]
    assert [each.audio.data for each in client.synth_iter(texts)] == wanted
    pulse.kill()
    assert len(beats) > 5, beats
cosy_sync.configure(url)
assert cosy_sync.synth("你好").data == tone_wav("你好")
cosy_sync.default_client().close()
"""


def run(code: str, *argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_gevent_works_as_threads_do() -> None:
    pytest.importorskip("gevent", reason="needs gevent (extra test)")
    with Server(latency=0.05, rate=0, max_connections=0) as server:
        done = run(GEVENT, server.url)
    assert done.returncode == 0, done.stderr


# What eventlet.monkey_patch() does to `select`, without eventlet.
EVENTLET = """
import select, sys, types
import httpx
import cosy_sync
from cosy_sync.testing import FakeService

def make():
    return cosy_sync.CosyClient("http://a.test", http_client=httpx.Client(transport=FakeService()))

before = make()
sys.modules["eventlet"] = types.ModuleType("eventlet")
del select.poll
for attempt in (make, lambda: before.synth("你好"), lambda: before.synth_many(["你好"])):
    try:
        attempt()
    except cosy_sync.ConfigError as error:
        print(error)
"""


def test_eventlet_is_refused_by_name() -> None:
    done = run(EVENTLET)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("eventlet: ") for line in lines)
    assert all("gevent" in line for line in lines)


LATE = """
import cosy_sync
from cosy_sync.testing import FakeService
import httpx

made = cosy_sync.CosyClient("http://a.test", http_client=httpx.Client(transport=FakeService()))
from gevent import monkey
monkey.patch_all()
for attempt in (lambda: cosy_sync.CosyClient("http://a.test"), lambda: made.synth("你好")):
    try:
        attempt()
    except cosy_sync.ConfigError as error:
        print(error)
"""


def test_gevent_that_patches_after_the_import_is_refused_instead_of_waiting_for_ever() -> None:
    pytest.importorskip("gevent", reason="needs gevent (extra test)")
    done = run(LATE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("patch first" in line for line in lines)
