"""Benchmark `single`: one text a call through the whole client, every policy on."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.target import Results, Target, Values, ratios, runs_of
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE", "TARGETS"]

OURS = "cosy_sync, synth_many"
THREADS = "cosy_sync, synth() in threads"
ITER = "cosy_sync, synth_iter"
BASELINE = "aiohttp"
UVLOOP = "aiohttp on uvloop"
LOOP_THREAD = "aiohttp on uvloop in a loop thread, called from threads"
PYREQWEST = "pyreqwest in threads"
HTTPX = "httpx + threads"

_OURS = Contender(OURS, "cosy")
_THREADS = Contender(THREADS, "cosy", "synth")
_ITER = Contender(ITER, "cosy", "synth_iter")
_AIOHTTP = Contender(BASELINE, "aiohttp_peer")
_UVLOOP = Contender(UVLOOP, "aiohttp_peer", "uvloop")
_AIOHTTP_LOOPS = Contender(BASELINE, "aiohttp_peer", "loops")
_UVLOOP_LOOPS = Contender(UVLOOP, "aiohttp_peer", "uvloop, loops")
_LOOP_THREAD = Contender(LOOP_THREAD, "aiohttp_peer", "loop thread")
_PYREQWEST = Contender(PYREQWEST, "pyreqwest_threads")
_HTTPX = Contender(HTTPX, "httpx_threads")
_HTTPX2 = Contender("httpx2 + threads", "httpx_threads", "httpx2")

_FEW = (_OURS, _THREADS, _AIOHTTP, _HTTPX)
_AT_200_MS = {50: _FEW, 200: _FEW, 800: (*_FEW, _UVLOOP)}
_FREE_AT_200_MS = (_OURS, _THREADS, _ITER, _AIOHTTP, _UVLOOP)
_AT_40_MS = (
    _OURS,
    _THREADS,
    _ITER,
    _AIOHTTP_LOOPS,
    _UVLOOP_LOOPS,
    _LOOP_THREAD,
    _PYREQWEST,
    _HTTPX2,
)
# 800 in flight at 200 ms.
_IDEAL = 800 / 0.2


def _settings(options: Options) -> Sequence[Setting]:
    slow = [_setting(count, 0.2, those, options) for count, those in _AT_200_MS.items()]
    slow.append(_setting(800, 0.2, _FREE_AT_200_MS, options).freed())
    # The ideal is far away: here the clients end first.
    quick = [_setting(count, 0.04, _AT_40_MS, options) for count in (200, 800)]
    return [*slow, *(each for one in quick for each in (one, one.freed()))]


def _setting(
    in_flight: int, latency: float, contenders: tuple[Contender, ...], options: Options
) -> Setting:
    wait = round(latency * 1000)
    if latency < 0.2:
        key, warm = f"single-{in_flight}-{wait}ms", 1.0
    else:
        key, warm = f"single-{in_flight}", 0.7 if in_flight < 800 else 1.4
    return Setting(
        key=key,
        title=f"{in_flight} in flight, {wait} ms latency, 16 KB of audio as JSON with base64",
        place=Place(form="json", size=16_000, latency=latency),
        task=Task(in_flight=in_flight, warm=warm, seconds=options.seconds),
        contenders=contenders,
        unit="texts",
    )


def _worst_run(key: str, ours: str) -> Callable[[Results], Values]:
    """Take the rate of the slowest run as a share of the median's."""

    def worst(results: Results) -> Values:
        rates = [run["rate"] for run in runs_of(results, "single", key)[ours] if "rate" in run]
        return [min(rates) / statistics.median(rates)] if rates else []

    return worst


def _against(key: str, ours: str, theirs: str, name: str) -> Callable[[Results], Values]:
    return ratios("single", key, ours, theirs, name)


def _targets(ours: str) -> Iterator[Target]:
    """List what a face must keep where the clients end first, on one core and free."""
    face = f"{ours.removeprefix('cosy_sync, ')}, 40 ms latency"
    yield from _core_targets(ours, f"{face}, one core", "", cpu=0.5, rate=1.4, worst=0.7)
    yield from _core_targets(ours, f"{face}, free", "-free", cpu=0.7, rate=1.2, worst=0.8)
    key, said = "single-800-40ms", f"{face}, one core, 800 in flight"
    to_rust = _against(key, ours, PYREQWEST, "rate")
    yield Target(f"{said}: rate, to pyreqwest", 1.0, 1.25, to_rust)
    to_loop = _against(key, ours, LOOP_THREAD, "rate")
    yield Target(f"{said}: rate, to a loop thread", 2.0, 2.5, to_loop)
    p99 = _against(key, ours, PYREQWEST, "p99_ms")
    yield Target(f"{said}: p99, to pyreqwest", 1.2, 1.0, p99, more_is_better=False)


def _core_targets(
    ours: str, face: str, suffix: str, *, cpu: float, rate: float, worst: float
) -> Iterator[Target]:
    few, many = f"single-200-40ms{suffix}", f"single-800-40ms{suffix}"
    cost = _against(few, ours, BASELINE, "cpu_us")
    yield Target(
        f"{face}, 200 in flight: CPU, to aiohttp", cpu, cpu * 0.8, cost, more_is_better=False
    )
    to_uvloop = _against(many, ours, UVLOOP, "rate")
    yield Target(f"{face}, 800 in flight: rate, to aiohttp on uvloop", rate, rate * 1.25, to_uvloop)
    for count, key in ((200, few), (800, many)):
        measure = f"{face}, {count} in flight: worst run's rate, to the median"
        yield Target(measure, worst, 0.95, _worst_run(key, ours))


def _to_ideal(ours: str) -> Target:
    def shares(results: Results) -> Values:
        runs = runs_of(results, "single", "single-800")[ours]
        return [run["rate"] / _IDEAL for run in runs if "rate" in run]

    face = ours.removeprefix("cosy_sync, ")
    return Target(f"{face}, 200 ms latency, 800 in flight: rate, to ideal", 0.99, 0.995, shares)


TARGETS = (*_targets(THREADS), *_targets(ITER), _to_ideal(OURS), _to_ideal(THREADS))

CASE = Case(
    name="single",
    title="One text a call: retries, limits, decoding; ours with every policy and verification",
    settings=_settings,
    baseline=BASELINE,
    seconds=1.3,
    targets=TARGETS,
)

if __name__ == "__main__":
    run_case(CASE)
