"""What a long text asks for beside its words: paragraphs, and marked pauses."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InvalidTextError

__all__ = ["Part", "read_script"]

_MARK = re.compile(r"\[pause:\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s)\]", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*|\f+")
_LONGEST_PAUSE = 60.0


class Part(NamedTuple):
    """Words up to a pause, and the seconds of a marked pause behind them, if one was marked;
    `None` is the end of a paragraph."""

    text: str
    pause: float | None


def read_script(text: str) -> list[Part]:
    """Cut a text at blank lines and at marks such as [pause:1.5s] or [pause:300ms].

    Other brackets are words as any. Raises InvalidTextError for a pause of more than 60 s.
    """
    parts: list[Part] = []
    for paragraph in _BLANK_LINES.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        spoken, *marked = _MARK.split(paragraph)
        for number, unit, following in zip(marked[::3], marked[1::3], marked[2::3], strict=True):
            parts.append(Part(spoken.strip(), _read_pause(number, unit)))
            spoken = following
        if spoken.strip() or marked:
            parts.append(Part(spoken.strip(), None))
    return parts


def _read_pause(number: str, unit: str) -> float:
    seconds = float(number) / (1000.0 if unit.lower() == "ms" else 1.0)
    if seconds > _LONGEST_PAUSE:
        raise InvalidTextError(
            f"[pause:{number}{unit}]: a pause lasts at most {_LONGEST_PAUSE:.0f} s; "
            "write several of them for more"
        )
    return seconds
