"""Rows of a benchmark that judges: a measure, the bound that it must keep, the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.table import number

__all__ = ["COLUMNS", "Row"]

COLUMNS = ("situation", "measure", "must be", "is", "verdict")


@dataclass(frozen=True)
class Row:
    """A measure with its bound: at least `bound`, or at most where `most`."""

    situation: str
    measure: str
    bound: float
    value: float
    most: bool = False
    unit: str = ""

    def cells(self) -> list[str]:
        """Return the row as shown."""
        good = self.value <= self.bound if self.most else self.value >= self.bound
        bound = f"{'<=' if self.most else '>='} {self.bound:g} {self.unit}".strip()
        shown = f"{number(self.value)} {self.unit}".strip()
        return [self.situation, self.measure, bound, shown, "holds" if good else "**FAILS**"]
