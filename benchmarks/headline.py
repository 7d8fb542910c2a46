"""Benchmark `headline`: the peak that this library was made for, before and after."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.runs import run_worker
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number, spread
from benchmarks.task import Contender, Task
from benchmarks.upstream.limited import serve_limited, stats_of

__all__ = ["OURS", "main"]

_TITLE = "3 000 texts/s for 60 s at a service of 50 connections and 100 requests/s"
OURS = "cosy_sync, submit()"
BEFORE = "before: 5 connections, blind retries"
_RATE = 3_000.0
_WIDE = "before, wider: 200 connections, blind retries"
_CONTENDERS = (
    (Contender(BEFORE, "naive"), 5),
    (Contender(_WIDE, "naive"), 200),
    (Contender(OURS, "cosy"), 50),
)
# Half a second of audio, enough for 20 characters, so that the server is not what is measured.
_SERVER = ("--audio-bytes", "24000", "--latency", "0.2", "--overrun", "502")
_COLUMNS = ("client", "goodput, texts/s", "peak second", "mean ms", "p99 ms", "errors")
_MORE_COLUMNS = ("threads", "CPU us/text", "requests", "refused")


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=60.0, texts=0, runs=1)
    machine = describe_machine()
    measured: dict[str, list[dict[str, Any]]] = {who.label: [] for who, _ in _CONTENDERS}
    for run in range(options.runs):
        for who, connections in _CONTENDERS:
            print(f"  headline {run + 1}/{options.runs} {who.label}", file=sys.stderr)
            measured[who.label].append(_measure(who, connections, options.seconds))
    rows = [_row(label, reports) for label, reports in measured.items()]
    rows.append(_change(measured))
    table = Table(_TITLE, [*_COLUMNS, *_MORE_COLUMNS], rows)
    print(table.markdown(), end="\n\n")
    upstream = "the embedded server in a process of its own, 200 ms latency"
    data = {"upstream": upstream, "machine": machine, "runs": measured}
    write_result("headline", _TITLE, data, [table])


def _measure(who: Contender, connections: int, seconds: float) -> dict[str, Any]:
    with serve_limited(*_SERVER) as url:
        task = Task(urls=(url,), in_flight=connections, rate=_RATE, seconds=seconds)
        report = run_worker("headline", who.peer, task)
        stats = stats_of(url)
    report["requests"] = stats["requests"]
    report["refused"] = stats["overrun"]
    return report


def _row(label: str, reports: list[dict[str, Any]]) -> list[str]:
    if all("failed" in report for report in reports):
        return [label, f"failed: {reports[0]['failed'][:80]}", *[""] * 8]
    shares = [{"share": 100 * r["error_share"]} for r in reports if "error_share" in r]
    cells = [spread(reports, name) for name in ("goodput", "peak_goodput", "mean_ms", "p99_ms")]
    cells.append(f"{spread(shares, 'share')} %")
    rest = ("threads", "cpu_us", "requests", "refused")
    return [label, *cells, *(spread(reports, name) for name in rest)]


def _change(measured: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Compare ours with the story's client, run by run; show the middle."""
    cells = ["**change**"]
    for name in ("goodput", "peak_goodput", "mean_ms", "p99_ms", "error_share"):
        pairs = zip(measured[OURS], measured[BEFORE], strict=True)
        changes = sorted(100 * (a[name] / b[name] - 1) for a, b in pairs if name in a and b[name])
        cells.append(f"{number(changes[len(changes) // 2])} %" if changes else "-")
    return [*cells, *[""] * 4]


if __name__ == "__main__":
    main()
