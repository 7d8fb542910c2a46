"""The frame of a chart: nice ticks, scales from values to places, grid and labels as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 520, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 30, 48
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def ticks(low: float, high: float, *, most: int = 5, whole: bool = False) -> list[float]:
    """Choose round, evenly spaced values from at or below `low` to at or above `high`.

    Args:
        most: about how many intervals are wanted.
        whole: only whole numbers, for counts.
    """
    if high <= low:
        high = low + (abs(low) * 0.1 or 1.0)
    step = _nice((high - low) / most)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _nice(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in STEPS if step * power >= raw * (1 - 1e-9))


def labels(values: Sequence[float]) -> list[str]:
    """Write ticks with as many decimals as tell them apart."""
    step = values[1] - values[0]
    decimals = next((d for d in range(7) if abs(step - round(step, d)) < step * 1e-6), 7)
    return [f"{value:,.{decimals}f}" for value in values]


def finite(values: Sequence[float]) -> list[float]:
    """Leave out what cannot be drawn."""
    return [value for value in values if math.isfinite(value)]


def place(value: float) -> str:
    """Write a coordinate in as few characters as a picture needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The plot area between two axes; `xs` and `ys` are their ticks, or empty for none.

    `names` are written below the ticks from left to right in place of their values.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    x_title: str
    y_title: str
    left: float = LEFT
    right: float = RIGHT
    names: Sequence[str] = ()

    @property
    def bottom(self) -> float:
        """The height at which the horizontal axis lies."""
        return HEIGHT - BOTTOM

    def x(self, value: float) -> float:
        """Turn a value into a place from left to right."""
        low, high = self.xs[0], self.xs[-1]
        return self.left + (value - low) / (high - low) * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        """Turn a value into a place from the bottom up."""
        low, high = self.ys[0], self.ys[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)

    def drawn(self) -> str:
        """Draw grid, tick labels and axis titles."""
        titles = [
            text(0, 14, self.y_title, "axis-title", "start"),
            text(WIDTH - self.right, HEIGHT - 6, self.x_title, "axis-title", "end"),
        ]
        return "".join([*self._rows(), *self._columns(), *titles])

    def _rows(self) -> list[str]:
        parts = []
        for value, label in zip(self.ys, labels(self.ys) if self.ys else [], strict=True):
            y = self.y(value)
            parts.append(line((self.left, y), (WIDTH - self.right, y), "grid"))
            parts.append(text(self.left - 8, y + 4, label, "tick", "end"))
        return parts

    def _columns(self) -> list[str]:
        parts = [line((self.left, self.bottom), (WIDTH - self.right, self.bottom), "axis")]
        names = self.names or (labels(self.xs) if self.xs else [])
        for value, label in zip(self.xs, names, strict=True):
            x = self.x(value)
            parts.append(line((x, self.bottom), (x, self.bottom + 4), "axis"))
            parts.append(text(x, self.bottom + 19, label, "tick", "middle"))
        return parts


def line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    """Draw a straight line of a class that the style sheet knows."""
    (x1, y1), (x2, y2) = start, end
    ends = f'x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"'
    return f'<line class="{kind}" {ends}/>'


def shape(name: str, kind: str, tip: str, **sizes: float) -> str:
    """Draw a shape of a class that the style sheet knows; `tip` is told where it is pointed at."""
    told = " ".join(f'{key}="{place(value)}"' for key, value in sizes.items())
    return f'<{name} class="{kind.rstrip()}" {told}><title>{escape(tip)}</title></{name}>'


def text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    """Write words at a place; they are escaped."""
    where = f'x="{place(x)}" y="{place(y)}" text-anchor="{anchor}"'
    return f'<text class="{kind.rstrip()}" {where}>{escape(words)}</text>'


def svg(name: str, title: str, description: str, body: str) -> str:
    """Wrap a drawing in an accessible picture; `name` makes its ids unique in the page."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{body}</svg>'
    )


def empty(name: str, title: str, words: str) -> str:
    """Draw the picture of a chart that has nothing to show."""
    return svg(name, title, words, text(WIDTH / 2, HEIGHT / 2, words, "nothing", "middle"))
