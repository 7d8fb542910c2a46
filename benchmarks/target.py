"""A target: a measure, its bounds, and the verdict on what was measured."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runs import Measured, ratio
from benchmarks.table import Table, number

__all__ = ["Results", "Target", "Values", "judged", "own", "ratios", "runs_of", "share_of"]

# What each case has measured, by its name.
Results = Mapping[str, Any]
Values = list[float]
# From this share of the ideal rate on, a ratio says nothing about the clients.
_AT_THE_IDEAL = 0.99
_COLUMNS = ("measure", "at least", "beyond", "measured: median (least..most)", "verdict")


@dataclass(frozen=True)
class Target:
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


def ratios(case: str, key: str, ours: str, theirs: str, name: str) -> Callable[[Results], Values]:
    """Take the ratios of a number of ours to that of a peer."""
    return lambda results: ratio(runs_of(results, case, key), ours, theirs, name)


def runs_of(results: Results, case: str, key: str) -> Measured:
    """Find what the contenders of a setting measured. Raises KeyError."""
    for setting in results[case]["settings"]:
        if setting["key"] == key:
            runs: Measured = setting["runs"]
            return runs
    raise KeyError(key)


def own(case: str, name: str) -> Callable[[Results], Values]:
    """Take a number of each run of a case without contenders."""
    return lambda results: [run[name] for run in results[case]["runs"] if name in run]


def share_of(case: str, key: str, ours: str) -> Callable[[Results], float]:
    """Take our share of the rate that an ideal client has."""

    def share(results: Results) -> float:
        setting = next(s for s in results[case]["settings"] if s["key"] == key)
        rates = [run["rate"] for run in setting["runs"][ours] if "rate" in run]
        return float(statistics.median(rates) / setting["alone"]["ideal"])

    return share


def judged(title: str, targets: Sequence[Target], results: Results) -> Table:
    """Compare what was measured with the targets."""
    return Table(title, _COLUMNS, [target.row(results) for target in targets])
