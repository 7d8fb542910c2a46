"""Speech that fits subtitles: each cue at its time, faster where it would last too long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

from .batch_errors import take_along
from .config import ClientConfig
from .errors import ConfigError, InvalidTextError
from .models import Outcome, Utterance
from .text import Cue, read_subtitles
from .texts import check_text, is_several, prepare_text

__all__ = ["CueSchedule", "Speaker", "check_cues", "fit_cues", "read_cues"]

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
        if subtitles.lower().endswith((".srt", ".vtt")) and "\n" not in subtitles:
            raise InvalidTextError(
                "subtitles: expected what an SRT or WebVTT file holds, got a file's name; read it "
                "first: Path(...).read_text('utf-8')"
            )
        cues = read_subtitles(subtitles)
    else:
        cues = [_check_cue(number, cue) for number, cue in enumerate(_list_cues(subtitles))]
    said = [cue for cue in cues if any(map(str.isalnum, cue.text))]
    if not said:
        raise InvalidTextError("subtitles: there is no cue with something to say")
    return sorted(said, key=lambda cue: cue.start)


def _list_cues(subtitles: Any) -> list[Any]:
    if not is_several(subtitles) or isinstance(subtitles, (Mapping, Set)):
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


def check_cues(cues: Sequence[Cue], config: ClientConfig) -> list[Utterance | Outcome]:
    """Prepare the text of each cue, once; return a failed outcome for each that cannot be sent."""
    return [_check_text(place, cue.text, config) for place, cue in enumerate(cues)]


def _check_text(place: int, given: str, config: ClientConfig) -> Utterance | Outcome:
    try:
        text = prepare_text(place, given, config.prepare) if config.prepare else given
        return check_text(place, text, config.batch.max_text_chars)
    except InvalidTextError as error:
        return Outcome(place, given, None, error)


def fit_cues(
    cues: Sequence[Cue],
    checked: Sequence[Utterance | Outcome],
    speak: Speaker,
    speed: float,
    max_speed: float,
) -> Iterator[Outcome]:
    """Speak each cue so that it ends before the next one begins; nothing is sent before the first
    outcome is asked for.

    What lasts longer at `speed` is spoken again, as fast as it must be, at most at `max_speed`.

    Args:
        cues: What is said, and when.
        checked: What is sent for each, as `check_cues` returns it.
        speak: Speaks them.
        speed: The usual one.
        max_speed: The highest one.
    """
    if not (isinstance(max_speed, (int, float)) and speed <= max_speed <= 4):
        raise ConfigError(
            f"max_speed: must be {speed:g} (the client's speed) to 4, got {max_speed!r}"
        )
    return _fit(_SpokenCues(cues, checked, speak), cues, speed, max_speed)


def _fit(
    spoken: _SpokenCues, cues: Sequence[Cue], speed: float, max_speed: float
) -> Iterator[Outcome]:
    spoken.speak(list(spoken.texts), speed)
    ends = [cue.start for cue in cues[1:]] + [math.inf]
    faster: dict[float, list[int]] = {}
    for place, (cue, end) in enumerate(zip(cues, ends, strict=True)):
        audio, room = spoken.outcomes[place].audio, end - cue.start
        if audio is not None and audio.duration > room and speed < max_speed:
            needed = speed * audio.duration / max(room * _AIM, 1e-3)
            faster.setdefault(min(_step_up(needed), max_speed), []).append(place)
    for quick, places in sorted(faster.items()):
        spoken.speak(places, quick)
    yield from spoken.in_order()


class _SpokenCues:
    """What became of each cue, by its place; the texts are what is sent."""

    def __init__(
        self, cues: Sequence[Cue], checked: Sequence[Utterance | Outcome], speak: Speaker
    ) -> None:
        self.texts = {each.index: each.text for each in checked if isinstance(each, Utterance)}
        self.outcomes = {each.index: each for each in checked if isinstance(each, Outcome)}
        self._cues, self._speak = cues, speak

    def speak(self, places: Sequence[int], speed: float) -> None:
        """Speak some of the cues, maybe again. What ends it carries all that was spoken so far."""
        if not places:
            return
        try:
            outcomes = self._speak([self.texts[place] for place in places], speed)
        except BaseException as error:
            for outcome in getattr(error, "outcomes", ()):
                self._keep(places[outcome.index], outcome)
            take_along(error, self.in_order())
            raise
        for place, outcome in zip(places, outcomes, strict=True):
            self._keep(place, outcome)

    def in_order(self) -> list[Outcome]:
        """Return what is known, in the order of the cues."""
        return [self.outcomes[place] for place in sorted(self.outcomes)]

    def _keep(self, place: int, outcome: Outcome) -> None:
        error, before = outcome.error, self.outcomes.get(place)
        if error is not None:
            if before is not None and before.ok:
                return  # the slow one is better than none
            error = error.with_details(index=place)
        self.outcomes[place] = Outcome(place, self._cues[place].text, outcome.audio, error)


def _step_up(speed: float) -> float:
    return math.ceil(speed / _STEP - 1e-9) * _STEP
