"""The frame of a benchmark against an upstream: options, runs, table, JSON."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.runs import Measured, measure_setting, median, ratio
from benchmarks.table import Table, number, spread
from benchmarks.target import Target, judged
from benchmarks.task import Place, Setting
from benchmarks.upstream import Upstream, open_upstream
from benchmarks.upstream.alone import measure_alone

__all__ = ["Case", "Options", "parse_options", "run_case", "write_result"]

RESULTS = Path(__file__).resolve().parent / "results"
_ALONE_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    runs: int
    seconds: float
    texts: int
    only: str
    embedded: bool


@dataclass(frozen=True, kw_only=True)
class Case:
    """A benchmark: its settings, and the contender that the others are compared with.

    `function` is what it calls of each peer, where that is not named like the benchmark; `targets`
    are judged at its end.
    """

    name: str
    title: str
    settings: Callable[[Options], Sequence[Setting]]
    baseline: str
    seconds: float = 2.0
    texts: int = 0
    function: str = ""
    targets: Sequence[Target] = ()


def run_case(case: Case, argv: Sequence[str] | None = None) -> None:
    """Run a benchmark, print its table, write its JSON."""
    # Ended from outside it stops its upstream, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = parse_options(case.title, argv, seconds=case.seconds, texts=case.texts)
    settings = [each for each in case.settings(options) if options.only in each.key]
    machine = describe_machine()
    tables, shown = [], []
    with open_upstream(_places(settings), embedded=options.embedded) as upstream:
        for setting in settings:
            alone = _alone(setting, upstream)
            measured = measure_setting(
                case.function or case.name, setting, upstream.urls, options.runs
            )
            table = _table(case, setting, measured, alone)
            print(table.markdown(), end="\n\n", flush=True)
            tables.append(table)
            shown.append({"key": setting.key, "alone": alone, "runs": measured})
    result = {"upstream": upstream.kind, "paired_runs": options.runs, "settings": shown}
    if case.targets:
        tables.append(judged("Targets", case.targets, {case.name: result}))
        print(tables[-1].markdown(), end="\n\n")
    write_result(case.name, case.title, {**result, "machine": machine}, tables)


def parse_options(
    title: str, argv: Sequence[str] | None, *, seconds: float, texts: int, runs: int = 5
) -> Options:
    """Read the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--runs", type=int, default=runs, help="paired runs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=seconds, help="window (%(default)s)")
    parser.add_argument("--texts", type=int, default=texts, help="finite work (%(default)s)")
    parser.add_argument("--only", default="", help="settings whose key contains this")
    parser.add_argument("--embedded", action="store_true", help="do without nginx")
    return Options(**vars(parser.parse_args(argv)))


def write_result(name: str, title: str, data: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Write results/NAME.json: the tables as printed, and every number behind them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    whole = {"case": name, "title": title, "tables": [asdict(t) for t in tables], **data}
    path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    print(f"wrote {path}", file=sys.stderr)


def _places(settings: Sequence[Setting]) -> list[Place]:
    found: dict[str, Place] = {}
    for setting in settings:
        for contender in setting.contenders:
            place = replace(setting.place, form=contender.form or setting.place.form)
            found[place.name] = place
        quick = _quick(setting.place)
        found.setdefault(quick.name, quick)
    return list(found.values())


def _alone(setting: Setting, upstream: Upstream) -> dict[str, Any]:
    url = upstream.urls[_quick(setting.place).name][0]
    capacity = measure_alone(url, setting.task.in_flight, _ALONE_SECONDS, setting.place.texts)
    latency = setting.place.latency
    return {
        "rate": capacity.rate * setting.place.texts,
        "by": capacity.by,
        "ideal": setting.task.in_flight / latency if latency else math.nan,
    }


def _quick(place: Place) -> Place:
    """Return the same way through the server with almost no latency: what it can do at most."""
    return replace(place, latency=min(place.latency, 0.001), ports=1)


def _table(case: Case, setting: Setting, measured: Measured, alone: dict[str, Any]) -> Table:
    per = "text" if setting.unit == "texts" else "request"
    columns = ["client", f"{setting.unit}/s", "x", f"CPU us/{per}", "x", "p50 ms", "p99 ms"]
    columns += ["kernel", "RSS MB", "threads", "errors"]
    blank = [""] * (len(columns) - 2)
    rows = [_row(label, measured, case.baseline) for label in measured]
    rows.append([f"server alone ({alone['by']})", number(alone["rate"]), *blank])
    if not math.isnan(alone["ideal"]):
        rows.append(["ideal: connections / latency", number(alone["ideal"]), *blank])
    return Table(setting.heading, columns, rows)


def _row(label: str, measured: Measured, baseline: str) -> list[str]:
    reports = measured[label]
    failed = next((report["failed"] for report in reports if "failed" in report), None)
    if failed is not None and all("failed" in report for report in reports):
        return [label, f"failed: {failed[:80]}", *[""] * 9]
    errors = sum(report.get("errors", 0) for report in reports)
    return [
        label,
        spread(reports, "rate"),
        _times(measured, label, baseline, "rate"),
        spread(reports, "cpu_us"),
        _times(measured, label, baseline, "cpu_us"),
        number(median(reports, "p50_ms")),
        spread(reports, "p99_ms"),
        f"{median(reports, 'kernel_share'):.0%}",
        number(median(reports, "rss_mb")),
        number(median(reports, "threads")).partition(".")[0],
        str(errors + sum("failed" in report for report in reports)),
    ]


def _times(measured: Measured, label: str, baseline: str, name: str) -> str:
    if label == baseline:
        return "1"
    ratios = [{"x": x} for x in ratio(measured, label, baseline, name) if not math.isnan(x)]
    return number(median(ratios, "x"))
