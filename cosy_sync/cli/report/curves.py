"""The pictures of a bench: curves over the calls in flight, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from xml.sax.saxutils import escape

from cosy_sync.cli.report.axes import (
    TOP,
    WIDTH,
    Frame,
    empty,
    line,
    place,
    svg,
    text,
    ticks,
)
from cosy_sync.cli.report.figures import count

__all__ = ["Curve", "Mark", "Picture", "curves"]

# Room for the names of curves at their ends.
_RIGHT = 44.0
# Share of the limit from which the picture has room for it.
_NEAR = 0.5
# Units between two labels at the end of curves, so that both can be read.
_LABEL_GAP = 16.0
# Units between two names below the axis, likewise.
_NAME_GAP = 36.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a picture: its name, and its values from left to right."""

    name: str
    values: Sequence[float]
    # A class of the style sheet beside those of every curve.
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place on the horizontal axis that matters, such as the knee."""

    at: float
    name: str
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is drawn. `limit` is a height that nothing exceeds; shown when a curve comes near."""

    name: str
    title: str
    unit: str
    description: str
    in_flight: Sequence[int]
    curves: Sequence[Curve]
    marks: Sequence[Mark] = ()
    limit: tuple[float, str] | None = None


def curves(picture: Picture) -> str:
    """Draw values over the calls in flight; each doubling is as wide as the others."""
    if not picture.in_flight:
        return empty(picture.name, picture.title, "No step was measured in full.")
    top = max(value for curve in picture.curves for value in curve.values)
    limit = picture.limit if picture.limit and top >= _NEAR * picture.limit[0] else None
    marked = [mark.at for mark in picture.marks]
    places = sorted({*picture.in_flight, *map(int, marked)})
    # Half a doubling of air at both ends; a single step stands in the middle.
    xs = [math.log2(places[0]) - 0.5, *map(math.log2, places), math.log2(places[-1]) + 0.5]
    frame = Frame(
        xs=xs,
        ys=ticks(0, max(top, limit[0] if limit else 0.0), most=4),
        x_title="calls in flight",
        y_title=picture.unit,
        right=_RIGHT,
    )
    frame = replace(frame, names=["", *_spaced(frame, places), ""])
    parts = [frame.drawn(), _limit(frame, limit)]
    parts += [_mark(frame, mark, row) for row, mark in enumerate(picture.marks)]
    parts += [_curve(frame, picture, curve) for curve in picture.curves]
    parts += _names(frame, picture)
    return svg(picture.name, picture.title, picture.description, "".join(parts))


def _spaced(frame: Frame, places: Sequence[int]) -> list[str]:
    """Name the places, but not one that the next is too near to: the last is always named."""
    at = [frame.x(math.log2(each)) for each in places]
    gaps = [right - left for left, right in pairwise(at)] + [math.inf]
    return [count(each) if gap >= _NAME_GAP else "" for each, gap in zip(places, gaps, strict=True)]


def _limit(frame: Frame, limit: tuple[float, str] | None) -> str:
    if limit is None:
        return ""
    y = frame.y(limit[0])
    words = text(frame.left + 6, y + 14, limit[1], "tick", "start")
    return line((frame.left, y), (WIDTH - frame.right, y), "limit") + words


def _mark(frame: Frame, mark: Mark, row: int) -> str:
    x = frame.x(math.log2(mark.at))
    label = text(x, TOP - 18, mark.name, f"mark-label {mark.kind}".rstrip(), "middle")
    return line((x, TOP - 12), (x, frame.bottom), f"mark {mark.kind}".rstrip()) + label


def _curve(frame: Frame, picture: Picture, curve: Curve) -> str:
    kind = f" {curve.kind}" if curve.kind else ""
    points = [
        (frame.x(math.log2(n)), frame.y(value))
        for n, value in zip(picture.in_flight, curve.values, strict=True)
    ]
    path = "L".join(f"{place(x)} {place(y)}" for x, y in points)
    dots = [
        f'<circle class="dot{kind}" cx="{place(x)}" cy="{place(y)}" r="4"><title>'
        f"{escape(f'{count(n)} in flight: {curve.name or picture.title} {value:,.4g}')}"
        "</title></circle>"
        for (x, y), n, value in zip(points, picture.in_flight, curve.values, strict=True)
    ]
    return f'<path class="curve{kind}" d="M{path}"/>{"".join(dots)}'


def _names(frame: Frame, picture: Picture) -> list[str]:
    """Write the names of several curves at their ends, apart from each other."""
    if len(picture.curves) < 2:
        return []
    x = frame.x(math.log2(picture.in_flight[-1])) + 10
    parts, lowest = [], -math.inf
    for curve in sorted(picture.curves, key=lambda each: -each.values[-1]):
        y = max(frame.y(curve.values[-1]) + 4, lowest + _LABEL_GAP)
        lowest = y
        parts.append(text(x, y, curve.name, f"curve-label {curve.kind}".rstrip(), "start"))
    return parts
