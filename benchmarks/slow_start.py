"""Situations of `survival` about the beginning: a slow but healthy service, and a fast one."""

from __future__ import annotations

import statistics
import time

from benchmarks.rows import Row
from benchmarks.upstream.limited import serve_limited
from cosy_sync import CosyClient, Endpoint, OverloadConfig, PoolConfig

__all__ = ["fast_service", "slow_service"]

_FREE = ("--max-connections", "0", "--rate", "0")
_SPOKEN = ("--audio-bytes", "24000")
_WORKERS = 4
# Texts/s of a service, and how many texts it is given: for longer than a text's deadline, were
# all of them sent at once, as far as the connections allow.
_SPEEDS = ((30, 2_400), (100, 6_000), (1_000, 20_000))
_ROUND_TRIP = 0.2
_CONNECTIONS = 800


def slow_service(scale: float) -> list[Row]:
    """A service of a few workers, first come first served, with all defaults of the client."""
    rows = []
    for wire in ("batch", "openai"):
        for speed, texts in _SPEEDS:
            rows += _slow_row(wire, speed, int(texts * scale))
    return rows


def _slow_row(wire: str, speed: int, texts: int) -> list[Row]:
    seconds = _WORKERS / speed
    name = f"slow but healthy service, {speed} texts/s, {wire}"
    options = ("--latency", "0", "--text-latency", str(seconds), "--workers", str(_WORKERS))
    sentences = [f"请第{number:06d}号车辆注意前方路口" for number in range(texts)]
    with serve_limited(*_SPOKEN, *_FREE, *options) as url:
        # One text a request needs more requests than any service of ours allows.
        endpoint = Endpoint(url, rate=10_000)
        extra = {}
        if wire == "openai":
            endpoint = Endpoint(url.replace("/batch", "/v1"), rate=10_000)
            extra = {"model": "m", "voice": "中文女"}
        with CosyClient(endpoint, wire=wire, **extra) as client:
            began = time.monotonic()
            outcomes = client.synth_many(sentences, on_error="return")
            took = time.monotonic() - began
    done = 100 * sum(outcome.ok for outcome in outcomes) / texts
    return [
        Row(name, "texts done", 100.0, done, unit="%"),
        Row(name, "wall time over the service's own", 1.15, took / (texts / speed), most=True),
    ]


def fast_service(scale: float) -> list[Row]:
    """A service without limits, and a client that has never spoken to it."""
    late = []
    for _ in range(max(1, int(5 * scale))):
        at_once = _cold(_CONNECTIONS)
        late.append((_cold(OverloadConfig().start) - at_once) / _ROUND_TRIP)
    name = f"fast service, cold start, {_CONNECTIONS} connections"
    measure = "round trips behind a start with all of them, median"
    return [Row(name, measure, 2.0, statistics.median(late), most=True)]


def _cold(start: int) -> float:
    """Return the seconds that a new client takes for ten texts a connection."""
    texts = [f"请第{number:06d}号车辆注意前方路口" for number in range(10 * _CONNECTIONS)]
    with serve_limited(*_SPOKEN, *_FREE, "--latency", str(_ROUND_TRIP)) as url:
        endpoint = Endpoint(url, max_connections=_CONNECTIONS, rate=100_000)
        with CosyClient(
            endpoint,
            batch_size=1,
            pool=PoolConfig(max_connections=_CONNECTIONS),
            overload=OverloadConfig(start=start),
        ) as client:
            began = time.monotonic()
            client.synth_many(texts)
            return time.monotonic() - began
