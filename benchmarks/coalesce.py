"""Benchmark `coalesce`: 200 threads that synth() one text at a time, sharing requests or not."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.runs import median, ratio, run_worker
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number, spread
from benchmarks.task import Place, Task
from benchmarks.upstream.embedded import serve_embedded

__all__ = ["main"]

_TITLE = "200 threads, one text at a time, 200 ms a request: requests shared or not"
_THREADS = 200
_PLACE = Place(form="multipart", size=16_000, latency=0.2)
_BASELINE = "off"
# The label of a row, and what the peer is told: within the service's limits, or without any.
_ROWS = (
    ("on", "50 connections, 100 requests/s"),
    (_BASELINE, "50 connections, 100 requests/s"),
    ("on, free", "200 connections, no rate limit"),
    ("off, free", "200 connections, no rate limit"),
)
_COLUMNS = ("coalesce", "limits", "texts/s", "x", "texts/request", "p50 ms", "p99 ms")


def main(argv: Sequence[str] | None = None) -> None:
    """Run A B C D, A B C D, ..., print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=5.0, texts=0, runs=3)
    machine = describe_machine()
    measured: dict[str, list[dict[str, Any]]] = {label: [] for label, _ in _ROWS}
    with serve_embedded([_PLACE]) as urls:
        # The threads begin spread over one latency; they fall into step within a few seconds.
        task = Task(urls=urls[_PLACE.name], in_flight=_THREADS, warm=6.0, latency=_PLACE.latency)
        for run in range(options.runs):
            for label, _ in _ROWS:
                print(f"  coalesce {run + 1}/{options.runs} {label}", file=sys.stderr)
                each = replace(task, seconds=options.seconds, variant=label)
                measured[label].append(run_worker("coalesce", "cosy", each))
    rows = [_row(label, limits, measured) for label, limits in _ROWS]
    table = Table(_TITLE, [*_COLUMNS, "CPU us/text", "errors"], rows)
    print(table.markdown(), end="\n\n")
    result = {"upstream": "the embedded server", "paired_runs": options.runs, "runs": measured}
    write_result("coalesce", _TITLE, {**result, "machine": machine}, [table])


def _row(label: str, limits: str, measured: dict[str, list[dict[str, Any]]]) -> list[str]:
    reports = measured[label]
    failed = [report["failed"] for report in reports if "failed" in report]
    if failed:
        return [label, limits, f"failed: {failed[0][:80]}", *[""] * 6]
    times = [x for x in ratio(measured, label, _BASELINE, "rate") if not math.isnan(x)]
    return [
        label,
        limits,
        spread(reports, "rate"),
        number(median([{"x": x} for x in times], "x")),
        spread(reports, "texts_per_request"),
        number(median(reports, "p50_ms")),
        spread(reports, "p99_ms"),
        spread(reports, "cpu_us"),
        str(sum(report["errors"] for report in reports)),
    ]


if __name__ == "__main__":
    main()
