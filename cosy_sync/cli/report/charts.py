"""Every picture of every page: boxes, dots and rules between two axes, as SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from cosy_sync.cli.report.figures import count, number

__all__ = ["Box", "Chart", "Dot", "Rule", "bars", "bucket_for", "counted"]

_WIDTH, _HEIGHT = 380, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 370, 34, 190
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_MOST_BUCKETS = 60
# Names that have room below the axis.
_MOST_NAMES = 8


# -- marks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle between two values of each axis; `tip` is shown where it is pointed at."""

    left: float
    right: float
    low: float
    high: float
    tip: str
    # A class of the style sheet.
    kind: str = ""

    def drawn(self, x: "_Axis", y: "_Axis") -> str:
        """Draw it apart from its neighbours, and thin as it may be."""
        left, top = x.at(self.left), y.at(self.high)
        wide, tall = max(x.at(self.right) - left, 2) - 1, max(y.at(self.low) - top, 2) - 1
        sizes = f'x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
        return f'<rect class="{self.kind}" {sizes}><title>{escape(self.tip)}</title></rect>'


@dataclass(frozen=True, slots=True)
class Dot:
    """One thing with a value on each axis."""

    x: float
    y: float
    tip: str
    kind: str = ""

    def drawn(self, x: "_Axis", y: "_Axis") -> str:
        """Draw it."""
        at = f'cx="{x.at(self.x):.1f}" cy="{y.at(self.y):.1f}" r="3"'
        return f'<circle class="{self.kind}" {at}><title>{escape(self.tip)}</title></circle>'


@dataclass(frozen=True, slots=True)
class Rule:
    """A value of the horizontal axis that matters, such as the knee. No two have one `row`."""

    x: float
    name: str
    row: int = 0

    def drawn(self, x: "_Axis", y: "_Axis") -> str:
        """Draw a line from the axis up, its name beside it on the side that has room."""
        at, height = x.at(self.x), _TOP - 5 + self.row * 14
        beside, anchor = (5, "start") if at < (_LEFT + _RIGHT) / 2 else (-5, "end")
        line = f'<path class="rule" d="M{at:.1f} {height - 9}V{_BOTTOM}"/>'
        return line + _text(at + beside, height, self.name, anchor)


Mark = Box | Dot | Rule


def bars(counts: Iterable[int], start: float, width: float) -> list[Box]:
    """Make a box of each count of texts from `start` on, each `width` wide."""
    places = ((start + i * width, texts) for i, texts in enumerate(counts) if texts)
    return [Box(at, at + width, 0, n, f"{number(at)}: {count(n)} texts") for at, n in places]


def counted(values: Iterable[float], low: float, width: float, bins: int) -> list[int]:
    """Count the values of each bin from `low` on; what is outside counts at the ends."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / width)))] += 1
    return counts


def bucket_for(span: float) -> float:
    """Choose the finest bucket (seconds) that cuts `span` seconds into a readable number."""
    fits = (bucket for bucket in _BUCKETS if span / bucket <= _MOST_BUCKETS)
    return next(fits, math.ceil(span / _MOST_BUCKETS))


# -- the picture ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture with its heading and caption. What is not finite is left out."""

    title: str
    caption: str
    x_title: str
    y_title: str
    marks: Sequence[Mark]
    # Names of 0 to 1, 1 to 2 ... on the horizontal axis, in place of its values.
    names: Sequence[str] = ()

    def html(self) -> str:
        """Draw it in its frame; a picture without a box or a dot says so."""
        marks = [mark for mark in self.marks if all(map(math.isfinite, sum(_places(mark), ())))]
        head = f"<h3>{escape(self.title)}</h3><figcaption>{escape(self.caption)}</figcaption>"
        drawn = self._svg(marks) if any(not isinstance(mark, Rule) for mark in marks) else ""
        return f'<figure class="card">{head}{drawn or "<p>There is nothing to draw.</p>"}</figure>'

    def _svg(self, marks: Sequence[Mark]) -> str:
        across = [value for mark in marks for value in _places(mark)[0]]
        most = max(value for mark in marks for value in _places(mark)[1])
        xs = [0.0, len(self.names)] if self.names else ticks(min(across), max(across))
        x, y = _Axis(xs, _LEFT, _RIGHT), _Axis(ticks(0, most), _BOTTOM, _TOP)
        body = [
            *(f'<path d="M{_LEFT} {y.at(value):.1f}H{_RIGHT}"/>' for value in y.ticks),
            *(_text(_LEFT - 7, y.at(v) + 4, name, "end") for v, name in _labels(y.ticks)),
            *(_text(x.at(v), _BOTTOM + 17, name, "middle") for v, name in self._names(xs)),
            _text(0, 12, self.y_title, "start"),
            _text(_RIGHT, _HEIGHT - 5, self.x_title, "end"),
            *(mark.drawn(x, y) for mark in marks),
        ]
        label = escape(f"{self.title}. {self.caption}")
        frame = f'role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        return f"<svg {frame}>{''.join(body)}</svg>"

    def _names(self, xs: Sequence[float]) -> Iterable[tuple[float, str]]:
        if not self.names:
            return _labels(xs)
        apart = 1 + len(self.names) // _MOST_NAMES
        places = [(i + 0.5, name) for i, name in enumerate(self.names)]
        return places[::-1][::apart]  # the last is always named


@dataclass(frozen=True)
class _Axis:
    """Turns a value between the first and the last tick into a place between two edges."""

    ticks: Sequence[float]
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def ticks(low: float, high: float) -> list[float]:
    """Choose round, evenly spaced values from at or below `low` to at or above `high`.

    Between int they are whole numbers.
    """
    if high <= low:
        high = low + (abs(low) * 0.1 or 1.0)
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in _STEPS if step * power >= raw * (1 - 1e-9))
    step = max(step, 1.0) if isinstance(high, int) else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _labels(values: Sequence[float]) -> Iterable[tuple[float, str]]:
    """Write ticks with as many decimals as tell them apart."""
    step = values[1] - values[0]
    decimals = next((d for d in range(7) if abs(step - round(step, d)) < step * 1e-6), 7)
    return ((value, f"{value:,.{decimals}f}") for value in values)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _places(mark: Mark) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return where a mark lies on either axis."""
    if isinstance(mark, Box):
        return (mark.left, mark.right), (mark.low, mark.high)
    return (mark.x,), () if isinstance(mark, Rule) else (mark.y,)
