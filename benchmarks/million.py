"""Benchmark `million`: a million texts through synth_iter on a network without sockets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.corpus import whole_batches
from benchmarks.machine import describe_machine
from benchmarks.runs import run_worker
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number, spread
from benchmarks.task import Task

__all__ = ["main"]

_TITLE = "A million texts through synth_iter, 16 KB of audio each, in-process network"
_COLUMNS = (
    "run",
    "texts",
    "CPU us/text (slices of 50 000)",
    "highest RSS MB: first 50 000",
    "last 50 000",
)
_MORE_COLUMNS = ("growth MB", "growth of the last MB", "texts/s", "failed")


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=1_000_000)
    machine = describe_machine()
    task = Task(texts=whole_batches(options.texts))
    reports = []
    for run in range(options.runs):
        print(f"  million {run + 1}/{options.runs}", file=sys.stderr)
        reports.append(run_worker("million", "cosy_stub", task))
    rows = [_row(number, report) for number, report in enumerate(reports, 1)]
    rows.append(_summary(reports))
    table = Table(_TITLE, [*_COLUMNS, *_MORE_COLUMNS], rows)
    print(table.markdown(), end="\n\n")
    data = {"upstream": "none: a stub in the process", "machine": machine, "runs": reports}
    write_result("million", _TITLE, data, [table])


def _row(run: int, report: dict[str, Any]) -> list[str]:
    if "failed" in report:
        return [str(run), f"failed: {report['failed']}", *[""] * 7]
    slices = [{"us": value} for value in report["slice_cpu_us"]]
    memory = report["memory_mb"] or [float("nan")]
    return [
        str(run),
        str(report["units"]),
        spread(slices, "us"),
        number(memory[0]),
        number(memory[-1]),
        number(report["growth_mb"]),
        number(report["net_growth_mb"]),
        number(report["rate"]),
        str(report["failed_texts"]),
    ]


def _summary(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Show the median over the runs, and the least and the most of them."""
    edges = [
        {"first": memory[0], "last": memory[-1]}
        for memory in (report.get("memory_mb") for report in reports)
        if memory
    ]
    return [
        "median",
        "",
        spread(reports, "cpu_us"),
        spread(edges, "first"),
        spread(edges, "last"),
        *(spread(reports, name) for name in ("growth_mb", "net_growth_mb", "rate")),
        str(sum(report.get("failed_texts", 0) for report in reports)),
    ]


if __name__ == "__main__":
    main()
