"""The pieces of a long text, and the silence behind each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..config import NarrationConfig
from ..errors import InvalidTextError
from ..models import Utterance
from .cuts import Cut
from .script import read_script
from .splitting import Piece, split_text

__all__ = ["Plan", "plan_narration"]


class Plan:
    """What is spoken piece by piece, and the seconds of silence after each, and before all.

    A marked pause takes the place of the one between two sentences; of a marked pause and the end
    of a paragraph the longer one counts. What is behind the last piece is silent only if marked.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.pauses: list[float] = []
        self.lead = 0.0
        self._usual = 0.0
        self._marked = 0.0

    def say(self, text: str, usual_pause: float) -> None:
        """Add a piece, behind which there is silence as usual if another one follows."""
        self._rest(max(self._usual, self._marked))
        self.texts.append(text)
        self.pauses.append(0.0)
        self._usual, self._marked = usual_pause, 0.0

    def mark(self, seconds: float) -> None:
        """Add a marked pause; several of them add up."""
        self._usual = 0.0
        self._marked += seconds

    def end_paragraph(self, pause: float) -> None:
        """Have so much silence before what follows, if anything was said before."""
        if self.texts:
            self._usual = max(self._usual, pause)

    def end(self) -> None:
        """Keep a marked pause behind the last piece."""
        self._rest(self._marked)

    def before(self, index: int, now: float) -> float:
        """Return the seconds of silence before a piece."""
        return self.lead if index == 0 else 0.0

    def after(self, index: int) -> float:
        """Return the seconds of silence after a piece."""
        return self.pauses[index]

    def overrun(self, index: int, end: float) -> float:
        """Return 0: the next piece waits for the one before it."""
        return 0.0

    def utterances(self) -> list[Utterance]:
        """Return the pieces as the texts of a call."""
        return [Utterance(text, index=index) for index, text in enumerate(self.texts)]

    def _rest(self, seconds: float) -> None:
        if self.pauses:
            self.pauses[-1] = seconds
        else:
            self.lead = seconds


def plan_narration(text: str, config: NarrationConfig, max_chars: int) -> Plan:
    """Cut a text into pieces of at most `max_chars` characters.

    Pieces without a letter or digit are left out: there is nothing to say, and services refuse
    them. Raises InvalidTextError when nothing is left, and for a piece of the user's own splitter
    that is no text or too long.
    """
    plan = Plan()
    for part in read_script(text):
        for piece, cut in _split(part.text, config, max_chars):
            if any(map(str.isalnum, piece)):
                sentence = cut is Cut.SENTENCE
                plan.say(piece, config.sentence_pause if sentence else config.clause_pause)
        if part.pause is None:
            plan.end_paragraph(config.paragraph_pause)
        else:
            plan.mark(part.pause)
    plan.end()
    if not plan.texts:
        raise InvalidTextError("the text has nothing to say: it has no letter and no digit")
    return plan


def _split(text: str, config: NarrationConfig, max_chars: int) -> Iterable[Piece]:
    if not text:
        return ()
    if config.split is None:
        return split_text(text, target=config.segment_length, max_chars=max_chars)
    return _check_pieces(config.split(text), max_chars)


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
