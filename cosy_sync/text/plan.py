"""The pieces of a long text, and the silence behind each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..config import NarrationConfig
from ..config.narration import Splitter
from ..errors import InvalidTextError
from ..models import Utterance
from .cuts import Cut
from .script import Part, read_script
from .splitting import Piece, split_at_limit, split_lazily
from .tags import keep_tags_whole, strip_tags

__all__ = ["Plan", "plan_narration"]


class _Words(NamedTuple):
    """A piece, and the seconds of silence behind it if another one follows."""

    text: str
    pause: float


class _Mark(NamedTuple):
    """A marked pause, in seconds."""

    seconds: float


class _ParagraphEnd(NamedTuple):
    """Where a paragraph ends, and the seconds of silence there."""

    pause: float


# Pieces that are cut before the first is sent.
_FEW = 64

_Step = _Words | _Mark | _ParagraphEnd


class Plan:
    """What is spoken piece by piece, and the seconds of silence after each, and before all.

    The text is cut while its first pieces are being spoken: `texts` and `pauses` grow as pieces are
    asked for, on one thread. A marked pause takes the place of the one between two sentences; of a
    marked pause and the end of a paragraph the longer one counts. What is behind the last piece is
    silent only if marked.
    """

    def __init__(self, steps: Iterator[_Step]) -> None:
        self.texts: list[str] = []
        self.pauses: list[float] = []
        self.lead = 0.0
        self._steps: Iterator[_Step] | None = steps
        self._usual = 0.0
        self._marked = 0.0
        # Whether the first piece was spoken.
        self._placed = False

    def before(self, index: int, now: float) -> float:
        """Return the seconds of silence before a piece."""
        return self.lead if index == 0 else 0.0

    def after(self, index: int) -> float:
        """Return the seconds of silence after a piece that was spoken: they are known when the next
        one is."""
        self._placed = True
        self.reach(index + 1)
        return self.pauses[index]

    def overrun(self, index: int, end: float) -> float:
        """Return 0: the next piece waits for the one before it."""
        return 0.0

    def utterances(self, first: int | None = None) -> list[Utterance] | Iterator[Utterance | None]:
        """Return the pieces as the texts of a call: a list where they are few, as few texts share
        requests with other calls; else the text is cut as they are taken. After `first` of them it
        yields None, for what there is to go, until one was spoken."""
        if self.reach(_FEW):
            return self._take(first)
        return [Utterance(text, index=index) for index, text in enumerate(self.texts)]

    def _take(self, first: int | None) -> Iterator[Utterance | None]:
        index = 0
        while self.reach(index):
            while index == first and not self._placed:
                yield None
            yield Utterance(self.texts[index], index=index)
            index += 1

    def finish(self) -> Plan:
        """Cut what is left of the text, and return the plan."""
        while self._go_on():
            pass
        return self

    def count(self) -> int:
        """Return how many pieces there are."""
        return len(self.finish().texts)

    def reach(self, index: int) -> bool:
        """Cut the text up to a piece. Returns whether there is one."""
        while len(self.texts) <= index:
            if not self._go_on():
                return False
        return True

    def _go_on(self) -> bool:
        """Take the next step. Returns whether there was one."""
        if self._steps is None:
            return False
        step = next(self._steps, None)
        if step is None:
            self._steps = None
            self._rest(self._marked)
            return False
        if isinstance(step, _Words):
            self._rest(max(self._usual, self._marked))
            self.texts.append(step.text)
            self.pauses.append(0.0)
            self._usual, self._marked = step.pause, 0.0
        elif isinstance(step, _Mark):  # several add up
            self._usual = 0.0
            self._marked += step.seconds
        elif self.texts:
            self._usual = max(self._usual, step.pause)
        return True

    def _rest(self, seconds: float) -> None:
        if self.pauses:
            self.pauses[-1] = seconds
        else:
            self.lead = seconds


def plan_narration(text: str, config: NarrationConfig, max_chars: int) -> Plan:
    """Cut a text into pieces of at most `max_chars` characters, so far the first of them.

    Pieces without a letter or digit are left out: there is nothing to say, and services refuse
    them. Raises InvalidTextError when nothing is left, and for a piece of the user's own splitter
    that is no text or too long: that one cuts the whole text at once.
    """
    plan = Plan(_steps(read_script(text), config, max_chars))
    if config.split is not None:
        plan.finish()
    if not plan.reach(0):
        raise InvalidTextError("the text has nothing to say: it has no letter and no digit")
    return plan


def _steps(parts: Iterable[Part], config: NarrationConfig, max_chars: int) -> Iterator[_Step]:
    for part in parts:
        for piece, cut in _split(part.text, config, max_chars):
            if any(map(str.isalnum, strip_tags(piece))):
                sentence = cut is Cut.SENTENCE
                yield _Words(piece, config.sentence_pause if sentence else config.clause_pause)
        yield _ParagraphEnd(config.paragraph_pause) if part.pause is None else _Mark(part.pause)


def _split(text: str, config: NarrationConfig, max_chars: int) -> Iterable[Piece]:
    if not text:
        return ()
    if config.split is not None:
        return _check_pieces(_split_by(config.split, text), max_chars)
    cut = split_at_limit if config.whole_paragraphs else split_lazily
    pieces = cut(text, config.segment_length, max_chars)
    return _keep_tags(list(pieces), max_chars) if "</" in text else pieces


def _keep_tags(pieces: list[Piece], max_chars: int) -> list[Piece]:
    whole = keep_tags_whole(text for text, _ in pieces)
    if max(map(len, whole), default=0) > max_chars:  # the limit counts for more
        return pieces
    return [(text, cut) for text, (_, cut) in zip(whole, pieces, strict=True)]


def _split_by(split: Splitter, text: str) -> Iterable[str]:
    """Return the pieces of a user's own splitter. Raises InvalidTextError where it fails."""
    name = getattr(split, "__qualname__", type(split).__qualname__)
    try:
        pieces = split(text)
        if not isinstance(pieces, str):
            return list(pieces)
    except Exception as error:
        kind = type(error).__name__
        raise InvalidTextError(
            f"split: {name} raised {kind}, or returned no pieces: see the cause"
        ) from error
    raise InvalidTextError(f"split: {name} returned a text; return its pieces: [text]")


def _check_pieces(pieces: Iterable[str], max_chars: int) -> Iterator[Piece]:
    for piece in pieces:
        if not isinstance(piece, str):
            raise InvalidTextError(f"split: expected pieces of text, got {type(piece).__name__}")
        if len(piece) > max_chars:
            raise InvalidTextError(
                f"split: a piece has {len(piece)} characters, and the service takes at most "
                f"{max_chars}; cut it further"
            )
        yield piece.strip(), Cut.SENTENCE
