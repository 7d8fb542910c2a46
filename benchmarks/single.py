"""Benchmark `single`: one text a call through the whole client, every policy on."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE"]

OURS = "cosy_sync, synth_many"
THREADS = "cosy_sync, synth() in threads"
BASELINE = "aiohttp"
HTTPX = "httpx + threads"

_CONTENDERS = (
    Contender(OURS, "cosy"),
    Contender(THREADS, "cosy", "synth"),
    Contender(BASELINE, "aiohttp_peer"),
    Contender(HTTPX, "httpx_threads"),
    Contender("aiohttp on uvloop", "aiohttp_peer", "uvloop"),
)


def _settings(options: Options) -> Sequence[Setting]:
    return [_setting(count, options) for count in (50, 200, 800)]


def _setting(in_flight: int, options: Options) -> Setting:
    return Setting(
        key=f"single-{in_flight}",
        title=f"{in_flight} in flight, 200 ms latency, 16 KB of audio as JSON with base64",
        place=Place(form="json", size=16_000, latency=0.2),
        task=Task(
            in_flight=in_flight,
            warm=0.7 if in_flight < 800 else 1.4,
            seconds=options.seconds,
        ),
        contenders=_CONTENDERS if in_flight == 800 else _CONTENDERS[:-1],
        unit="texts",
    )


CASE = Case(
    name="single",
    title="One text a call: retries, limits, decoding; ours with every policy and verification",
    settings=_settings,
    baseline=BASELINE,
    seconds=1.3,
)

if __name__ == "__main__":
    run_case(CASE)
