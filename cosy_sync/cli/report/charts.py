"""The pictures of a run: pure functions from numbers to SVG."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from cosy_sync.cli.report.axes import (
    TOP,
    WIDTH,
    Frame,
    empty,
    finite,
    line,
    place,
    svg,
    text,
    ticks,
)
from cosy_sync.cli.report.figures import count, duration, number, ratio, time_unit

__all__ = ["Span", "batches_in_flight", "latency_histogram", "peak", "serial_or_many", "throughput"]

BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
MOST_BUCKETS = 60
BINS = 28


@dataclass(frozen=True, kw_only=True)
class Span:
    """One batch call, in seconds since the run's start."""

    batch: int
    start: float
    end: float
    texts: int
    failed: int


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
    counts = _counted(values, xs[0], width, BINS)
    frame = Frame(
        xs=xs,
        ys=ticks(0, max(counts), most=4, whole=True),
        x_title=f"latency ({unit})",
        y_title="texts",
    )
    bars = [
        _bar(frame, (xs[0] + i * width, xs[0] + (i + 1) * width), n, f"{count(n)} texts")
        for i, n in enumerate(counts)
        if n
    ]
    marks = _marks(frame, [("p50", p50 * factor), ("p99", p99 * factor)])
    words = f"{count(len(values))} texts; p50 {duration(p50)}, p99 {duration(p99)}."
    return svg(name, title, words, frame.drawn() + "".join(bars) + marks)


def _counted(values: Iterable[float], low: float, width: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / width)))] += 1
    return counts


def _bar(frame: Frame, edges: tuple[float, float], height: float, tip: str) -> str:
    x, top = frame.x(edges[0]), frame.y(height)
    wide, tall = max(0.5, frame.x(edges[1]) - x - 1), frame.bottom - top
    box = f'x="{place(x + 0.5)}" y="{place(top)}" width="{place(wide)}" height="{place(tall)}"'
    return f'<rect class="bar" {box}><title>{escape(tip)}</title></rect>'


def _marks(frame: Frame, marks: Sequence[tuple[str, float]]) -> str:
    shown = [(label, v) for label, v in marks if frame.xs[0] <= v <= frame.xs[-1]]
    parts = []
    for row, (label, value) in enumerate(shown):
        x, y = frame.x(value), TOP - 8 + row * 16
        near_right = x > WIDTH - frame.right - 44
        parts.append(line((x, TOP - 16), (x, frame.bottom), "mark"))
        parts.append(
            text(
                x + (-5 if near_right else 5),
                y,
                label,
                "mark-label",
                "end" if near_right else "start",
            )
        )
    return "".join(parts)


def bucket_for(span: float) -> float:
    """Choose the finest bucket (seconds) that cuts `span` seconds into a readable number."""
    fits = (bucket for bucket in BUCKETS if span / bucket <= MOST_BUCKETS)
    return next(fits, math.ceil(span / MOST_BUCKETS))


def bucket_name(bucket: float) -> str:
    """Write the length of a bucket."""
    return f"{bucket * 1000:g} ms" if bucket < 1 else f"{bucket:g} s"


def throughput(finished: Sequence[float]) -> str:
    """Draw texts finished in each bucket of time, and their sum.

    Args:
        finished: seconds since the run's start at which each text was answered.
    """
    name, title = "throughput", "Texts finished over time"
    times = sorted(finite(finished))
    if not times:
        return empty(name, title, "No text was finished.")
    bucket = bucket_for(times[-1])
    counts = _counted(times, 0.0, bucket, max(1, math.ceil(times[-1] / bucket)))
    frame = Frame(
        xs=ticks(0, len(counts) * bucket, most=6),
        ys=ticks(0, max(counts), most=4, whole=True),
        x_title="seconds since the start",
        y_title=f"texts per {bucket_name(bucket)}",
        right=54,
    )
    bars = [
        _bar(frame, (i * bucket, (i + 1) * bucket), n, f"{number(i * bucket)} s: {count(n)} texts")
        for i, n in enumerate(counts)
        if n
    ]
    words = f"{count(len(times))} texts within {duration(times[-1])}."
    return svg(name, title, words, frame.drawn() + "".join(bars) + _sum_curve(frame, times))


def _sum_curve(frame: Frame, times: Sequence[float]) -> str:
    tops = ticks(0, len(times), most=4, whole=True)
    axis = Frame(xs=frame.xs, ys=tops, x_title="", y_title="", right=frame.right)
    every = max(1, len(times) // 400)
    steps = [(t, i + 1) for i, t in enumerate(times) if i % every == 0 or i == len(times) - 1]
    path = f"M{place(axis.x(0))} {place(axis.y(0))}" + "".join(
        f"H{place(axis.x(t))}V{place(axis.y(n))}" for t, n in steps
    )
    edge = WIDTH - frame.right
    marks = [text(edge + 8, axis.y(v) + 4, count(int(v)), "tick sum-tick", "start") for v in tops]
    heading = text(WIDTH, 14, "total", "axis-title sum-tick", "end")
    return f'<path class="sum" d="{path}"/>' + "".join(marks) + heading


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
    placed = lanes(drawable)
    most = max(lane for lane, _ in placed) + 1
    frame = Frame(
        xs=ticks(0, max(s.end for s in drawable), most=6),
        ys=ticks(0, max(most, 4), most=4, whole=True),
        x_title="seconds since the start",
        y_title="in flight",
    )
    body = frame.drawn() + "".join(_flight(frame, lane, span) for lane, span in placed)
    words = f"{count(len(drawable))} batches; at most {count(most)} in flight together."
    return svg(name, title, words, body)


def _flight(frame: Frame, lane: int, span: Span) -> str:
    x, width = frame.x(span.start), frame.x(span.end) - frame.x(span.start)
    top, height = frame.y(lane + 1), frame.y(lane) - frame.y(lane + 1)
    gap = min(2.0, height * 0.2)
    kind = "flight failed" if span.failed == span.texts else "flight"
    failed = f", {count(span.failed)} failed" if span.failed else ""
    tip = (
        f"batch {span.batch}: {count(span.texts)} texts, {duration(span.end - span.start)}{failed}"
    )
    box = f'x="{place(x)}" y="{place(top + gap / 2)}" width="{place(max(1.0, width))}"'
    tall = f'height="{place(height - gap)}" rx="{place(min(2.0, height / 4))}"'
    return f'<rect class="{kind}" {box} {tall}><title>{escape(tip)}</title></rect>'


def serial_or_many(serial: float, many: float) -> str:
    """Draw two bars: texts per second one after another, and with synth_many."""
    name, title = "speedup", "Texts per second: one by one, and with synth_many"
    bars = [("one by one", serial, "bar quiet"), ("synth_many", many, "bar")]
    bars = [(label, rate if math.isfinite(rate) else 0.0, kind) for label, rate, kind in bars]
    top = max(rate for _, rate, _ in bars)
    if top <= 0:
        return empty(name, title, "Nothing was measured.")
    frame = Frame(
        xs=ticks(0, top * 1.12, most=5),
        ys=[],
        x_title="texts per second",
        y_title="",
        left=96,
        right=24,
    )
    body = "".join(
        _rate(frame, row, label, rate, kind) for row, (label, rate, kind) in enumerate(bars)
    )
    times = f" {ratio(many / serial)} as many." if serial > 0 else ""
    words = f"One by one {number(serial)}, synth_many {number(many)} texts per second.{times}"
    return svg(name, title, words, frame.drawn() + body)


def _rate(frame: Frame, row: int, label: str, rate: float, kind: str) -> str:
    top = 58 + 92 * row
    x, width = frame.x(0), max(1.0, frame.x(rate) - frame.x(0))
    figure = number(rate) if rate > 0 or row else "not measured"
    box = f'x="{place(x)}" y="{place(top)}" width="{place(width)}" height="60" rx="3"'
    inside = width > (WIDTH - frame.left) * 0.75
    at, anchor = (x + width - 10, "end") if inside else (x + width + 8, "start")
    value = text(at, top + 36, figure, "value inside" if inside else "value", anchor)
    name = text(x - 10, top + 35, label, "bar-name", "end")
    return f'<rect class="{kind}" {box}/>{name}{value}'
