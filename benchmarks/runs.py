"""Paired runs: every contender in a process of its own, one after the other, several times."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.task import Contender, Setting, Task

__all__ = ["Measured", "measure_setting", "median", "ratio", "run_worker"]

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT = 300.0

# One contender's numbers in each of the runs.
Measured = dict[str, list[dict[str, Any]]]


def measure_setting(
    case: str, setting: Setting, urls: Mapping[str, tuple[str, ...]], runs: int
) -> Measured:
    """Run A B C, A B C, ... and return each contender's reports by its label."""
    measured: Measured = {contender.label: [] for contender in setting.contenders}
    for number in range(runs):
        for contender in setting.contenders:
            task = replace(
                setting.task,
                urls=urls[place_name(setting, contender)],
                variant=contender.variant,
                latency=setting.place.latency,
            )
            print(f"  {setting.key} {number + 1}/{runs} {contender.label}", file=sys.stderr)
            measured[contender.label].append(run_worker(case, contender.peer, task))
    return measured


def place_name(setting: Setting, contender: Contender) -> str:
    """Name the place where a contender is sent."""
    return replace(setting.place, form=contender.form or setting.place.form).name


def run_worker(case: str, peer: str, task: Task) -> dict[str, Any]:
    """Run one measurement; return its report, or {"failed": why}."""
    command = [sys.executable, "-m", "benchmarks.worker", case, peer]
    try:
        done = subprocess.run(
            [*command, "--json", json.dumps(asdict(task))],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end within {_TIMEOUT:g} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        return {"failed": said[-1] if said else f"exit code {done.returncode}"}
    report: dict[str, Any] = json.loads(lines[-1])
    return report


def median(reports: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the median of a number over the runs; NaN where all failed."""
    values = [report[name] for report in reports if name in report]
    values = [value for value in values if not math.isnan(value)]
    return statistics.median(values) if values else math.nan


def ratio(measured: Measured, ours: str, theirs: str, name: str) -> list[float]:
    """Return the ratio of each paired run in which both worked."""
    pairs = zip(measured[ours], measured[theirs], strict=True)
    return [a[name] / b[name] for a, b in pairs if name in a and b.get(name)]
