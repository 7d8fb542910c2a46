"""Benchmark `transport`: one request a call, no policies, no decoding, against five clients."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE"]

OURS = "cosy_sync"
BASELINE = "aiohttp"
_COSY = Contender(OURS, "cosy")
_AIOHTTP = Contender(BASELINE, "aiohttp_peer")
_UVLOOP = Contender("aiohttp on uvloop", "aiohttp_peer", "uvloop")
_HTTPX = Contender("httpx + threads", "httpx_threads")
_HTTPX_ASYNC = Contender("httpx, async", "httpx_async")
_REQUESTS = Contender("requests + threads", "requests_threads")
_URLLIB3 = Contender("urllib3 + threads", "urllib3_threads")

# Elsewhere the rest only costs time: requests and httpx's async client need half a minute to open
# 800 connections.
_SMALL = {
    50: (_COSY, _AIOHTTP, _HTTPX),
    200: (_COSY, _AIOHTTP, _HTTPX, _URLLIB3, _REQUESTS, _HTTPX_ASYNC),
    800: (_COSY, _AIOHTTP, _HTTPX, _URLLIB3, _UVLOOP),
}
_LARGE = (_COSY, _AIOHTTP, _URLLIB3, _HTTPX)
_LATENCY = 0.2


def _settings(options: Options) -> Sequence[Setting]:
    small = [_small(count, options) for count in _SMALL]
    small += [_hurried(options), _hurried(options).freed()]
    large = [
        _large(size, latency, options) for size in (300_000, 1_000_000) for latency in (0, _LATENCY)
    ]
    return [*small, *large]


def _small(connections: int, options: Options) -> Setting:
    # The more connections, the longer until all of them are open and the flow is even.
    warm = 0.7 if connections < 800 else 1.4
    return Setting(
        key=f"small-{connections}",
        title=f"{connections} connections, 200 ms latency, reply of 1 KB",
        place=Place(form="plain", size=1_024, latency=_LATENCY),
        task=Task(in_flight=connections, warm=warm, seconds=options.seconds),
        contenders=_SMALL[connections],
    )


def _hurried(options: Options) -> Setting:
    """With 200 ms the ideal is 4 000 requests/s; here the clients end before the ideal does."""
    return Setting(
        key="hurried-800",
        title="800 connections, 40 ms latency, reply of 1 KB",
        place=Place(form="plain", size=1_024, latency=0.04),
        task=Task(in_flight=800, warm=1.4, seconds=options.seconds),
        contenders=(_COSY, _AIOHTTP, _UVLOOP, _URLLIB3),
    )


def _large(size: int, latency: float, options: Options) -> Setting:
    wait = "200 ms latency" if latency else "no latency"
    return Setting(
        key=f"large-{size // 1000}k-{round(latency * 1000)}ms",
        title=f"50 connections, {wait}, reply of {size // 1000} KB",
        place=Place(form="plain", size=size, latency=latency),
        task=Task(warm=0.5, seconds=options.seconds * 0.6),
        contenders=_LARGE[:3] if latency else _LARGE,
    )


CASE = Case(
    name="transport",
    title="The transport alone: POST of a 5 KB body",
    settings=_settings,
    baseline=BASELINE,
    seconds=1.3,
)

if __name__ == "__main__":
    run_case(CASE)
