"""Benchmark `choices`: the ways in which the transport could have been built."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE"]

OURS = "httptools on urllib3's sockets (ours)"
_LATENCY = 0.2
_WAYS = (
    Contender(OURS, "cosy"),
    Contender("the same under httpx.Client.send", "ways", "own-httpx"),
    Contender("urllib3's connections, our stack", "ways", "urllib3-stack"),
    Contender("urllib3's own pool", "urllib3_threads"),
    Contender("http.client, one a thread", "ways", "http-client"),
    Contender("libcurl (pycurl), one a thread", "ways", "libcurl"),
    Contender("aiohttp", "aiohttp_peer"),
)


def _settings(options: Options) -> Sequence[Setting]:
    return [
        *(_setting(f"small-{count}", count, 1_024, options) for count in (200, 800)),
        _setting("large-50", 50, 1_000_000, options),
    ]


def _setting(key: str, connections: int, size: int, options: Options) -> Setting:
    return Setting(
        key=key,
        title=f"{connections} connections, 200 ms latency, reply of {size // 1000} KB",
        place=Place(form="plain", size=size, latency=_LATENCY),
        task=Task(in_flight=connections, warm=1.4, seconds=options.seconds),
        contenders=_WAYS,
    )


CASE = Case(
    name="choices",
    title="Ways to build the transport: POST of a 5 KB body under threads, no policies",
    settings=_settings,
    baseline=OURS,
    seconds=2.0,
    function="transport",
)

if __name__ == "__main__":
    run_case(CASE)
