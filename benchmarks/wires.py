"""Benchmark `wires`: the wire openai through the whole client, against the openai SDK."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.target import Target, ratios, share_of
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE", "TARGETS"]

OURS = "cosy_sync, synth_many"
BASELINE = "openai SDK, threads"

_CONTENDERS = (
    Contender(OURS, "cosy"),
    Contender(BASELINE, "openai_peer"),
    Contender("openai SDK, AsyncOpenAI", "openai_peer", "async"),
)


def _settings(options: Options) -> Sequence[Setting]:
    # With 40 ms the clients end before the ideal rate does.
    pinned = [_setting(count, latency, options) for latency in (0.2, 0.04) for count in (50, 200)]
    return [*pinned, pinned[-1].freed()]


def _setting(in_flight: int, latency: float, options: Options) -> Setting:
    wait = round(latency * 1000)
    return Setting(
        key=f"openai-{in_flight}-{wait}ms",
        title=f"{in_flight} in flight, {wait} ms latency, a WAV file of 16 KB",
        place=Place(form="speech", size=16_000, latency=latency),
        task=Task(in_flight=in_flight, warm=1.0, seconds=options.seconds),
        contenders=_CONTENDERS,
        unit="texts",
    )


def _targets(wait: int) -> Sequence[Target]:
    few, many = f"openai-50-{wait}ms", f"openai-200-{wait}ms"
    cpu = ratios("wires", few, OURS, BASELINE, "cpu_us")
    rate = ratios("wires", many, OURS, BASELINE, "rate")
    share = share_of("wires", many, OURS)
    named = f"{wait} ms latency, to the openai SDK"
    return (
        Target(f"openai, 50 in flight, {named}: CPU", 0.5, 0.25, cpu, "x", False),
        Target(f"openai, 200 in flight, {named}: rate", 3, 4, rate, share=share),
    )


TARGETS = (*_targets(200), *_targets(40))

CASE = Case(
    name="wires",
    title="One text a call to /v1/audio/speech: retries, limits; ours with every policy and "
    "verification",
    settings=_settings,
    baseline=BASELINE,
    seconds=2.0,
    targets=TARGETS,
)

if __name__ == "__main__":
    run_case(CASE)
