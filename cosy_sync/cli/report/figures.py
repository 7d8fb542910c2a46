"""Numbers as people read them: durations, counts, sizes, ratios."""

import math
from collections.abc import Sequence

__all__ = ["count", "duration", "number", "quantile", "ratio", "speech", "time_unit"]

NOTHING = "–"


def count(value: int) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,}"


def number(value: float) -> str:
    """Write a number with about three significant digits."""
    if not math.isfinite(value):
        return NOTHING
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def duration(seconds: float) -> str:
    """Write a short time: milliseconds below one second, seconds above, minutes from two on."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 0.9995:
        return f"{number(seconds * 1000)} ms"
    return f"{number(seconds)} s" if seconds < 120 else speech(seconds)


def speech(seconds: float) -> str:
    """Write a length of speech in hours, minutes and seconds."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 100 else f"{hours:,} h"


def ratio(value: float) -> str:
    """Write how many times; nothing if it was not measured."""
    if not math.isfinite(value) or value <= 0:
        return NOTHING
    return f"{value:,.0f}×" if value >= 20 else f"{value:.1f}×"


def time_unit(top: float) -> tuple[float, str]:
    """Choose the unit in which an axis up to `top` seconds reads best.

    Returns: factor from seconds, and the unit's name.
    """
    return (1000.0, "ms") if top < 1.5 else (1.0, "s")


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which this share of the sorted values lies; 0 without values."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
