"""The targets, and whether the results meet them."""

from __future__ import annotations

import json
import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import paced, single, texts, transport
from .stage import RESULTS, ratio
from .table import Table, number

__all__ = ["judge"]

Results = Mapping[str, Any]
Values = list[float]
_OURS, _AIOHTTP = transport.OURS, transport.BASELINE
# From this share of the ideal rate on, a ratio says nothing about the clients.
_AT_THE_IDEAL = 0.99


@dataclass(frozen=True)
class _Target:
    """A measure with its bounds; `values` takes each run's value out of the results."""

    measure: str
    least: float
    beyond: float
    values: Callable[[Results], Values]
    unit: str = "x"
    more_is_better: bool = True
    # Where nobody can be faster: our share of the ideal rate.
    share: Callable[[Results], float] | None = None

    def row(self, results: Results) -> list[str]:
        """Judge the median; say how far it is."""
        try:
            values = [value for value in self.values(results) if not math.isnan(value)]
        except KeyError:
            values = []
        passes = operator.ge if self.more_is_better else operator.le
        sign = ">=" if self.more_is_better else "<="
        bounds = [f"{sign} {bound:g} {self.unit}" for bound in (self.least, self.beyond)]
        if not values:
            return [self.measure, *bounds, "-", "not measured"]
        middle = statistics.median(values)
        shown = f"{number(middle)} ({number(min(values))}..{number(max(values))}) {self.unit}"
        if passes(middle, self.beyond):
            return [self.measure, *bounds, shown, "beyond"]
        if passes(middle, self.least):
            return [self.measure, *bounds, shown, "pass"]
        share = 0.0 if self.share is None else self.share(results)
        if share >= _AT_THE_IDEAL:
            return [self.measure, *bounds, shown, f"ours is at {share:.1%} of the ideal rate"]
        return [self.measure, *bounds, shown, "**FAIL**"]


def _ratio(case: str, key: str, ours: str, theirs: str, name: str) -> Callable[[Results], Values]:
    return lambda results: ratio(_runs(results, case, key), ours, theirs, name)


def _runs(results: Results, case: str, key: str) -> dict[str, list[dict[str, Any]]]:
    for setting in results[case]["settings"]:
        if setting["key"] == key:
            runs: dict[str, list[dict[str, Any]]] = setting["runs"]
            return runs
    raise KeyError(key)


def _own(case: str, name: str) -> Callable[[Results], Values]:
    return lambda results: [run[name] for run in results[case]["runs"] if name in run]


def _single(in_flight: int, theirs: str, name: str) -> Callable[[Results], Values]:
    """Compare synth_many, the face made for it, with a peer."""
    return _ratio("single", f"single-{in_flight}", single.OURS, theirs, name)


def _texts(size: str, ours: str) -> Callable[[Results], Values]:
    return _ratio("texts", f"audio-{size}", ours, texts.BASELINE, "cpu_us")


def _transport(connections: int, theirs: str, name: str) -> Callable[[Results], Values]:
    return _ratio("transport", f"small-{connections}", _OURS, theirs, name)


def _share(case: str, key: str, ours: str) -> Callable[[Results], float]:
    def share(results: Results) -> float:
        setting = next(s for s in results[case]["settings"] if s["key"] == key)
        rates = [run["rate"] for run in setting["runs"][ours] if "rate" in run]
        return float(statistics.median(rates) / setting["alone"]["ideal"])

    return share


def _paced_share(results: Results) -> Values:
    return [
        100 * run["rate"] / paced.WANTED
        for run in _runs(results, "paced", "paced")[paced.OURS]
        if "rate" in run
    ]


def _paced_added(results: Results) -> Values:
    return [
        run["p99_ms"] - 1000 * paced.LATENCY
        for run in _runs(results, "paced", "paced")[paced.OURS]
        if "p99_ms" in run
    ]


_HTTPX = "httpx + threads"

_TARGETS: Sequence[_Target] = (
    _Target(
        "transport, 800 connections: rate",
        *(1.1, 1.4, _transport(800, _AIOHTTP, "rate")),
        share=_share("transport", "small-800", _OURS),
    ),
    _Target(
        "transport, 800 connections, 40 ms latency: rate",
        *(1.1, 1.4, _ratio("transport", "hurried-800", _OURS, _AIOHTTP, "rate")),
    ),
    _Target(
        "transport, 200 connections: CPU", 1.1, 0.8, _transport(200, _AIOHTTP, "cpu_us"), "x", False
    ),
    *(
        _Target(
            f"whole client, {count} in flight: rate",
            *(1.0, beyond, _single(count, single.BASELINE, "rate")),
            share=_share("single", f"single-{count}", single.OURS),
        )
        for count, beyond in ((200, 1.1), (800, 1.2))
    ),
    _Target(
        "whole client, 200 in flight: p99",
        *(1.0, 0.8, _single(200, single.BASELINE, "p99_ms"), "x", False),
    ),
    _Target(
        "whole client, 800 in flight: p99",
        *(1.0, 0.8, _single(800, single.BASELINE, "p99_ms"), "x", False),
    ),
    _Target("texts, multipart, 16 KB: CPU", 0.5, 0.3, _texts("16k", texts.MULTIPART), "x", False),
    _Target("texts, multipart, 190 KB: CPU", 0.5, 0.3, _texts("190k", texts.MULTIPART), "x", False),
    _Target("texts, JSON, 16 KB: CPU", 0.9, 0.5, _texts("16k", texts.JSON), "x", False),
    _Target("texts, JSON, 190 KB: CPU", 0.9, 0.5, _texts("190k", texts.JSON), "x", False),
    _Target("paced: share of 1 600/s", 99, 99, _paced_share, "%"),
    _Target("paced: p99 added by the client", 20, 20, _paced_added, "ms", False),
    _Target("transport against httpx + threads, 800", 15, 30, _transport(800, _HTTPX, "rate")),
    _Target("whole client against httpx + threads, 800", 15, 30, _single(800, _HTTPX, "rate")),
    _Target("policies: CPU per call", 60, 30, _own("policies", "policies_call_us"), "us", False),
    _Target(
        "policies: CPU per call on the main thread",
        *(60, 30, _own("policies", "policies_main_call_us"), "us", False),
    ),
    _Target(
        "policies: CPU per text of a batch",
        *(15, 8, _own("policies", "policies_text_threads_us"), "us", False),
    ),
    _Target("million: memory growth after 50 000", 5, 0, _own("million", "growth_mb"), "MB", False),
)


def judge() -> Table:
    """Compare what lies in results/ with the targets."""
    results = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))
    }
    rows = [target.row(results) for target in _TARGETS]
    columns = ["measure", "at least", "beyond", "measured: median (least..most)", "verdict"]
    return Table("Targets; ratios are ours to the aiohttp peer unless they say else", columns, rows)
