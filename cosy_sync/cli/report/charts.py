"""Every picture of every page: pure functions from numbers to SVG."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from cosy_sync.cli.report.axes import (
    TOP,
    WIDTH,
    Frame,
    empty,
    finite,
    line,
    place,
    shape,
    svg,
    text,
    ticks,
)
from cosy_sync.cli.report.figures import count, duration, number, time_unit

__all__ = [
    "Curve",
    "Dot",
    "Mark",
    "Picture",
    "Span",
    "batches_in_flight",
    "bucket_for",
    "curves",
    "dots",
    "latency_histogram",
    "peak",
    "throughput",
]

BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
MOST_BUCKETS = 60
BINS = 28
# Room for the names of curves at their ends, and between two of them; between two below the axis.
_RIGHT, _LABEL_GAP, _NAME_GAP = 44.0, 16.0, 36.0
# Share of the limit from which the picture has room for it.
_NEAR = 0.5


# -- bars ----------------------------------------------------------------------------------------


def latency_histogram(latencies: Sequence[float], p50: float, p99: float) -> str:
    """Draw how many texts waited how long for the reply to their call. Times are seconds."""
    name, title = "latency", "Latency of the call that carried each text"
    values = finite(latencies)
    if not values:
        return empty(name, title, "No text was answered.")
    factor, unit = time_unit(max(values))
    values = [value * factor for value in values]
    xs = ticks(min(values), max(values), most=6)
    width = (xs[-1] - xs[0]) / BINS
    counts = counted(values, xs[0], width, BINS)
    frame = _frame_of(counts, xs, f"latency ({unit})", "texts")
    marks = [Mark(at=p50 * factor, name="p50"), Mark(at=p99 * factor, name="p99")]
    drawn = _bars(frame, counts, width, "texts")
    drawn += "".join(_mark(frame, mark, row) for row, mark in enumerate(marks))
    words = f"{count(len(values))} texts; p50 {duration(p50)}, p99 {duration(p99)}."
    return svg(name, title, words, frame.drawn() + drawn)


def throughput(counts: Sequence[int], bucket: float, words: str) -> str:
    """Draw how many texts were finished in each bucket of time, which is so many seconds long."""
    name, title = "throughput", "Texts finished over time"
    if not any(counts):
        return empty(name, title, "No text was finished.")
    length = f"{bucket * 1000:g} ms" if bucket < 1 else f"{bucket:g} s"
    xs = ticks(0, len(counts) * bucket, most=6)
    frame = _frame_of(counts, xs, "seconds of work", f"texts per {length}")
    return svg(name, title, words, frame.drawn() + _bars(frame, counts, bucket, "texts"))


def bucket_for(span: float) -> float:
    """Choose the finest bucket (seconds) that cuts `span` seconds into a readable number."""
    fits = (bucket for bucket in BUCKETS if span / bucket <= MOST_BUCKETS)
    return next(fits, math.ceil(span / MOST_BUCKETS))


def counted(values: Iterable[float], low: float, width: float, bins: int) -> list[int]:
    """Count the values of each bin from `low` on; what is outside counts at the ends."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / width)))] += 1
    return counts


def _frame_of(counts: Sequence[int], xs: Sequence[float], x_title: str, y_title: str) -> Frame:
    ys = ticks(0, max(counts), most=4, whole=True)
    return Frame(xs=xs, ys=ys, x_title=x_title, y_title=y_title)


def _bars(frame: Frame, counts: Sequence[int], width: float, unit: str) -> str:
    parts = []
    for i, n in enumerate(counts):
        start = frame.xs[0] + i * width
        x, y = frame.x(start), frame.y(n)
        wide = max(0.5, frame.x(start + width) - x - 1)
        tip = f"{number(start)}: {count(n)} {unit}"
        box = {"x": x + 0.5, "y": y, "width": wide, "height": frame.bottom - y}
        parts += [shape("rect", "bar", tip, **box)] if n else []
    return "".join(parts)


# -- calls side by side --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Span:
    """One batch call, in seconds since the run's start."""

    batch: int
    start: float
    end: float
    texts: int
    failed: int


def lanes(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """Give each batch the lowest lane that is free when it starts."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    placed = []
    for span in sorted(spans, key=lambda s: (s.start, s.batch)):
        while busy and busy[0][0] <= span.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (span.end, lane))
        placed.append((lane, span))
    return placed


def peak(spans: Sequence[Span]) -> int:
    """Count how many batches were in flight together at most."""
    return max((lane + 1 for lane, _ in lanes(spans)), default=0)


def batches_in_flight(spans: Sequence[Span]) -> str:
    """Draw every batch call as a bar from sending to reply; bars above one another overlap."""
    name, title = "flight", "Batches in flight"
    drawable = [s for s in spans if math.isfinite(s.start) and math.isfinite(s.end)]
    if not drawable:
        return empty(name, title, "No batch was sent.")
    most = peak(drawable)
    frame = Frame(
        xs=ticks(0, max(s.end for s in drawable), most=6),
        ys=ticks(0, max(most, 4), most=4, whole=True),
        x_title="seconds since the start",
        y_title="in flight",
    )
    body = frame.drawn() + "".join(_flight(frame, lane, span) for lane, span in lanes(drawable))
    words = f"{count(len(drawable))} batches; at most {count(most)} in flight together."
    return svg(name, title, words, body)


def _flight(frame: Frame, lane: int, span: Span) -> str:
    x, top = frame.x(span.start), frame.y(lane + 1)
    width, height = max(1.0, frame.x(span.end) - x), frame.y(lane) - top
    gap = min(2.0, height * 0.2)
    kind = "flight failed" if span.failed == span.texts else "flight"
    failed = f", {count(span.failed)} failed" if span.failed else ""
    took = duration(span.end - span.start)
    tip = f"batch {span.batch}: {count(span.texts)} texts, {took}{failed}"
    box = {"x": x, "y": top + gap / 2, "width": width, "height": height - gap}
    return shape("rect", kind, tip, **box, rx=min(2.0, height / 4))


# -- dots ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A sound: the characters of its text, its seconds, and an address if it can be opened."""

    x: float
    y: float
    tip: str
    address: str = ""


def dots(points: Sequence[Dot], words: str) -> str:
    """Draw seconds of sound over characters of text."""
    name, title = "lengths", "Seconds of sound by characters of text"
    if not points:
        return empty(name, title, "No text was spoken.")
    frame = Frame(
        xs=ticks(0, max(dot.x for dot in points), most=6, whole=True),
        ys=ticks(0, max(dot.y for dot in points), most=4),
        x_title="characters",
        y_title="seconds",
    )
    return svg(name, title, words, frame.drawn() + "".join(_dot(frame, dot) for dot in points))


def _dot(frame: Frame, dot: Dot) -> str:
    drawn = shape("circle", "point", dot.tip, cx=frame.x(dot.x), cy=frame.y(dot.y), r=3)
    return f"<a href={quoteattr(dot.address)}>{drawn}</a>" if dot.address else drawn


# -- curves --------------------------------------------------------------------------------------


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
    places = sorted({*picture.in_flight, *(int(mark.at) for mark in picture.marks)})
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
    parts = [frame.drawn()]
    if limit:
        y = frame.y(limit[0])
        parts.append(line((frame.left, y), (WIDTH - frame.right, y), "limit"))
        parts.append(text(frame.left + 6, y + 14, limit[1], "tick", "start"))
    marks = [replace(mark, at=math.log2(mark.at)) for mark in picture.marks]
    parts += [_mark(frame, mark, row) for row, mark in enumerate(marks)]
    parts += [_curve(frame, picture, curve) for curve in picture.curves]
    parts += _names(frame, picture)
    return svg(picture.name, picture.title, picture.description, "".join(parts))


def _spaced(frame: Frame, places: Sequence[int]) -> list[str]:
    """Name the places, but not one that the next is too near to: the last is always named."""
    at = [frame.x(math.log2(each)) for each in places]
    gaps = [right - left for left, right in pairwise(at)] + [math.inf]
    return [count(each) if gap >= _NAME_GAP else "" for each, gap in zip(places, gaps, strict=True)]


def _mark(frame: Frame, mark: Mark, row: int) -> str:
    """Draw a line from the axis up, its name beside it; each of several a row lower."""
    if not frame.xs[0] <= mark.at <= frame.xs[-1]:
        return ""
    x = frame.x(mark.at)
    near_right = x > WIDTH - frame.right - 44
    side, anchor = (-5, "end") if near_right else (5, "start")
    label = text(x + side, TOP - 8 + row * 16, mark.name, f"mark-label {mark.kind}", anchor)
    return line((x, TOP - 16), (x, frame.bottom), f"mark {mark.kind}".rstrip()) + label


def _curve(frame: Frame, picture: Picture, curve: Curve) -> str:
    places = zip(picture.in_flight, curve.values, strict=True)
    points = [(frame.x(math.log2(n)), frame.y(value), n, value) for n, value in places]
    path = "L".join(f"{place(x)} {place(y)}" for x, y, _, _ in points)
    name = curve.name or picture.title
    drawn = [
        shape("circle", f"dot {curve.kind}", f"{count(n)} in flight: {name} {value:,.4g}",
              cx=x, cy=y, r=4)
        for x, y, n, value in points
    ]  # fmt: skip
    return f'<path class="{escape(f"curve {curve.kind}".rstrip())}" d="M{path}"/>' + "".join(drawn)


def _names(frame: Frame, picture: Picture) -> list[str]:
    """Write the names of several curves at their ends, apart from each other."""
    if len(picture.curves) < 2:
        return []
    x = frame.x(math.log2(picture.in_flight[-1])) + 10
    parts, lowest = [], -math.inf
    for curve in sorted(picture.curves, key=lambda each: -each.values[-1]):
        lowest = y = max(frame.y(curve.values[-1]) + 4, lowest + _LABEL_GAP)
        parts.append(text(x, y, curve.name, f"curve-label {curve.kind}".rstrip(), "start"))
    return parts
