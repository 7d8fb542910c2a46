"""Tables: how numbers are shown, in a terminal and in Markdown alike."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runs import median

__all__ = ["Table", "number", "spread"]


@dataclass(frozen=True)
class Table:
    """A title, columns, rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table as aligned Markdown."""
        lines = [self.columns, *self.rows]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        shown = [
            "| " + " | ".join(_padded(x, w) for x, w in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([f"**{self.title}**", "", shown[0], rule, *shown[1:]])


def number(value: float) -> str:
    """Show a number with three digits that count."""
    if math.isnan(value):
        return "-"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def spread(reports: Sequence[Mapping[str, Any]], name: str) -> str:
    """Show the median over the runs, and the least and the most of them."""
    values = [r[name] for r in reports if name in r and not math.isnan(r[name])]
    if not values:
        return "-"
    middle = number(median(reports, name))
    return f"{middle} ({number(min(values))}..{number(max(values))})" if len(values) > 1 else middle


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
