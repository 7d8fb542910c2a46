"""What a long text asks for beside its words: paragraphs, and marked pauses."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InvalidTextError
from .cuts import split_loose_end
from .tags import keep_tags_whole

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

    Punctuation behind a mark belongs to the words before it, and tags that a mark stands between
    are closed before it and opened again behind it. Other brackets are words as any. Raises
    InvalidTextError for a pause of more than 60 s.
    """
    parts: list[Part] = []
    for paragraph in _BLANK_LINES.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        spoken, *marked = _MARK.split(paragraph)
        if not marked:
            if spoken.strip():
                parts.append(Part(spoken.strip(), None))
            continue
        words = keep_tags_whole(_join_punctuation([spoken, *marked[2::3]]))
        pauses = map(_read_pause, marked[::3], marked[1::3])
        parts += map(Part, words, [*pauses, None])
    return parts


def _join_punctuation(words: list[str]) -> list[str]:
    """Return what stands between marks, none of it beginning with punctuation: a sentence that goes
    on behind a mark with a comma would be spoken with a stumble."""
    joined = [words[0].strip()]
    said = 0  # the last place with words
    for place, following in enumerate(words[1:], 1):
        loose, rest = split_loose_end(following)
        joined[said] += loose
        joined.append(rest.strip())
        said = place if rest.strip() else said
    return joined


def _read_pause(number: str, unit: str) -> float:
    seconds = float(number) / (1000.0 if unit.lower() == "ms" else 1.0)
    if seconds > _LONGEST_PAUSE:
        raise InvalidTextError(
            f"[pause:{number}{unit}]: a pause lasts at most {_LONGEST_PAUSE:.0f} s; "
            "write several of them for more"
        )
    return seconds
