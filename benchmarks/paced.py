"""Benchmark `paced`: 16 endpoints with the service's limits; 1 600 requests/s wanted."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE"]

OURS = "cosy_sync, synth_many"
BASELINE = "aiohttp, evenly spaced"
LATENCY = 0.5
WANTED = 1_600
_ENDPOINTS = 16


def _settings(options: Options) -> Sequence[Setting]:
    task = Task(in_flight=50 * _ENDPOINTS, warm=2.0, seconds=options.seconds, rate=100.0)
    return [
        Setting(
            key="paced",
            title="16 endpoints x 50 connections x 100 requests/s, 500 ms latency, one text a call",
            place=Place(form="json", size=16_000, latency=LATENCY, ports=_ENDPOINTS),
            task=task,
            contenders=(Contender(OURS, "cosy"), Contender(BASELINE, "aiohttp_peer")),
        )
    ]


CASE = Case(
    name="paced",
    title="Under rate limits: 100 requests/s to each of 16 endpoints",
    settings=_settings,
    baseline=BASELINE,
    seconds=3.0,
)

if __name__ == "__main__":
    run_case(CASE)
