"""Benchmark `job`: a finite job of one text a call, from its first request to its last reply."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stage import Case, Options, run_case
from benchmarks.target import Target, ratios
from benchmarks.task import Contender, Place, Setting, Task

__all__ = ["CASE", "TARGETS"]

OURS = "cosy_sync, synth_many"
BASELINE = "aiohttp"
_KEY = "job-800"
_CONTENDERS = (
    Contender(OURS, "cosy"),
    Contender(BASELINE, "aiohttp_peer"),
    Contender("aiohttp on uvloop", "aiohttp_peer", "uvloop"),
)


def _settings(options: Options) -> Sequence[Setting]:
    pinned = Setting(
        key=_KEY,
        title=f"{options.texts} texts, one a call, connections not open yet; 800 in flight, "
        "200 ms latency, 16 KB of audio as JSON with base64",
        place=Place(form="json", size=16_000, latency=0.2),
        task=Task(in_flight=800, texts=options.texts),
        contenders=_CONTENDERS,
        unit="texts",
    )
    return [pinned, pinned.freed()]


def _target(key: str, where: str) -> Target:
    wall = ratios("job", key, OURS, BASELINE, "wall_s")
    return Target(f"finite job, one text a call, {where}: wall time", 0.9, 0.8, wall, "x", False)


TARGETS = (_target(_KEY, "on one core"), _target(f"{_KEY}-free", "free on all cores"))

CASE = Case(
    name="job",
    title="A finite job through synth_many, and through gather",
    settings=_settings,
    baseline=BASELINE,
    texts=4_000,
    targets=TARGETS,
)

if __name__ == "__main__":
    run_case(CASE)
