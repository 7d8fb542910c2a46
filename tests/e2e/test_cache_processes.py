"""Processes share a cache: whoever is killed, at whatever instant, leaves nothing torn behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import CosyClient, DiskCache
from cosy_sync.cache.entry import decode
from cosy_sync.testing import Server

# For each line that it reads it forks a process that speaks for ever, and prints its id.
SPEAK = """
import os, random, signal, sys
from cosy_sync import CacheConfig, CosyClient, DiskCache

url, path = sys.argv[1:]
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
texts = [f"这是第{n}句话" for n in range(300)]
client = CosyClient(url, cache=CacheConfig(store=DiskCache(path, 2_000_000), lease=0.5))
client.synth("准备好了")
for line in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    draw = random.Random(line)
    while True:
        few = draw.choices(texts, k=20)
        for text, audio in zip(few, client.synth_many(few)):
            assert 0.1 < audio.duration < 10, (text, audio)
        client.synth(draw.choice(texts))
"""

# Forks processes that want the same texts at the same time; each prints how many it found.
SAME = """
import os, sys
from cosy_sync import CosyClient

url, cache = sys.argv[1:]
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        with CosyClient(url, cache=cache) as client:
            audios = client.synth_many([f"大家都要的第{n}句" for n in range(20)])
            audios.append(client.synth("大家都要的一句"))
            # In one write, between which no other process's comes.
            os.write(1, b"%d\\n" % sum(audio.from_cache for audio in audios))
        sys.exit()
    children.append(pid)
assert not any(os.waitpid(pid, 0)[1] for pid in children)
"""


def start(code: str, *args: str) -> subprocess.Popen[str]:
    run = [sys.executable, "-W", "error", "-c", code, *args]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(run, **pipes)


def test_processes_that_are_killed_leave_no_torn_entry(tmp_path: Path) -> None:
    draw = random.Random(7)
    with Server(latency=0, rate=0, max_connections=0) as server:
        parent = start(SPEAK, server.url, str(tmp_path))
        assert parent.stdin is not None and parent.stdout is not None

        def begin(seed: int) -> int:
            print(seed, file=parent.stdin, flush=True)
            return int(parent.stdout.readline())

        workers = [begin(n) for n in range(4)]
        for turn in range(20):
            seen = server.stats()["requests"]
            while server.stats()["requests"] < seen + 4:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.01))
            victim = draw.randrange(4)
            os.kill(workers[victim], signal.SIGKILL)  # raises where it ended by itself
            workers[victim] = begin(100 + turn)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        parent.communicate(timeout=10)
        files = [path for path in tmp_path.rglob("*") if len(path.name) == 40]
        whole = [path for path in files if path.parent.name != "leases"]
        assert whole
        for path in whole:
            decode(path.name, path.read_bytes())
        texts = [f"这是第{n}句话" for n in range(300)]
        with CosyClient(server.url, cache=tmp_path) as client:
            assert any(audio.from_cache for audio in client.synth_many(texts))
    store = DiskCache(tmp_path, 2_000_000)
    store.flush()
    assert store.usage()[1] < 6_000_000
    store.close()


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_what_several_processes_want_at_once_is_spoken_once(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    redis = kind == "redis"
    cache = request.getfixturevalue("redis_server").url if redis else str(tmp_path / "cache")
    with Server(latency=0.1) as server:
        parent = start(SAME, server.url, cache)
        found = list(map(int, parent.communicate(timeout=30)[0].split()))
        assert parent.returncode == 0
        assert server.stats()["texts"] == 21 and sum(found) == 3 * 21


def test_a_text_of_a_killed_process_is_spoken_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cosy_sync import *\n"
        "cache = CacheConfig(store=sys.argv[2], lease=0.6)\n"
        "CosyClient(sys.argv[1], cache=cache).synth('谁来说这句话')\n"
    )
    with Server(latency=0.3) as server:
        holder = start(code, server.url, str(tmp_path))
        while server.stats()["requests"] < 1:
            assert holder.poll() is None
            time.sleep(0.005)
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate(timeout=10)
        with CosyClient(server.url, cache=tmp_path) as client:
            assert not client.synth("谁来说这句话").from_cache
            assert client.synth("谁来说这句话").from_cache
        assert server.stats()["texts"] == 2
