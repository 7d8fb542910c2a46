"""Speech that fits subtitles: each cue at its time, faster where it would last too long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from .errors import ConfigError, InvalidTextError
from .models import Outcome
from .text import Cue, read_subtitles

__all__ = ["CueSchedule", "Speaker", "fit_cues", "read_cues"]

# Speeds are tried in steps, so that cues of one speed share requests.
_STEP = 0.05
# A second try aims at this share of the room: a speed is not kept exactly.
_AIM = 0.97


class Speaker(Protocol):
    """Speaks texts at a speed; returns their outcomes in order."""

    def __call__(self, texts: Sequence[str], speed: float) -> list[Outcome]: ...


def read_cues(subtitles: str | Iterable[Cue]) -> list[Cue]:
    """Return cues in the order of their times, of the contents of an SRT or WebVTT file, or as they
    are given. Raises InvalidTextError."""
    if isinstance(subtitles, str):
        cues = read_subtitles(subtitles)
    else:
        cues = [_check_cue(number, cue) for number, cue in enumerate(_list_cues(subtitles))]
    said = [cue for cue in cues if any(map(str.isalnum, cue.text))]
    if not said:
        raise InvalidTextError("subtitles: there is no cue with something to say")
    return sorted(said, key=lambda cue: cue.start)


def _list_cues(subtitles: Any) -> list[Any]:
    if not isinstance(subtitles, (list, tuple)):
        kind = type(subtitles).__name__
        hint = "; read the file first: path.read_text('utf-8')" if "Path" in kind else ""
        raise InvalidTextError(
            f"subtitles: expected the contents of an SRT or WebVTT file, or a list of (start, end, "
            f"text), got {kind}{hint}"
        )
    return list(subtitles)


def _check_cue(number: int, cue: Any) -> Cue:
    good = isinstance(cue, (list, tuple)) and len(cue) == 3 and isinstance(cue[2], str)
    times = cue[:2] if good else ()
    numbers = all(isinstance(each, (int, float)) and math.isfinite(each) for each in times)
    if not (good and numbers and 0 <= cue[0] <= cue[1]):
        raise InvalidTextError(
            f"subtitles: cue {number} must be (start, end, text), with 0 <= start <= end in seconds"
        )
    return Cue(float(cue[0]), float(cue[1]), cue[2])


class CueSchedule:
    """Each cue begins at its time, or when the one before it ends."""

    def __init__(self, cues: Sequence[Cue]) -> None:
        self._starts = [cue.start for cue in cues] + [math.inf]

    def before(self, index: int, now: float) -> float:
        """Return the seconds of silence until a cue begins."""
        return max(0.0, self._starts[index] - now)

    def after(self, index: int) -> float:
        """Return 0: the silence stands before the next cue."""
        return 0.0

    def overrun(self, index: int, end: float) -> float:
        """Return for how long a cue that ends then is heard in the next one's time."""
        return max(0.0, end - self._starts[index + 1])


def fit_cues(
    cues: Sequence[Cue], speak: Speaker, speed: float, max_speed: float
) -> Iterator[Outcome]:
    """Speak each cue so that it ends before the next one begins; nothing is sent before the first
    outcome is asked for.

    What lasts longer at `speed` is spoken again, as fast as it must be, at most at `max_speed`.
    """
    if not (isinstance(max_speed, (int, float)) and speed <= max_speed <= 4):
        raise ConfigError(
            f"max_speed: must be {speed:g} (the client's speed) to 4, got {max_speed!r}"
        )
    ends = [cue.start for cue in cues[1:]] + [math.inf]
    outcomes = speak([cue.text for cue in cues], speed)
    faster: dict[float, list[int]] = {}
    for place, (cue, end) in enumerate(zip(cues, ends, strict=True)):
        audio, room = outcomes[place].audio, end - cue.start
        if audio is not None and audio.duration > room:
            needed = speed * audio.duration / max(room * _AIM, 1e-3)
            faster.setdefault(min(_step_up(needed), max_speed), []).append(place)
    for quick, places in sorted(faster.items()):
        again = speak([cues[place].text for place in places], quick)
        for place, outcome in zip(places, again, strict=True):
            if outcome.audio is not None:  # else the slow one is better than none
                outcomes[place] = replace(outcome, index=place)
    yield from outcomes


def _step_up(speed: float) -> float:
    return math.ceil(speed / _STEP - 1e-9) * _STEP
