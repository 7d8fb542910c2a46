"""Where a text may be cut, and how well."""

from __future__ import annotations

import re
from enum import IntEnum

from .atoms import is_ideograph

__all__ = ["Cut", "judge_cuts"]


class Cut(IntEnum):
    """How good a place is for a cut: the greater, the better."""

    NEVER = 0
    CHARACTER = 1
    WORD = 2
    CLAUSE = 3
    SENTENCE = 4


_OPENING = frozenset("([{（［｛【〔「『《〈“‘¿¡$€£¥￥#@")
_CLOSING = frozenset(")]}）］｝】〕」』》〉”’%‰℃℉°")
_ENDING = frozenset("。！？!?….．｡‥।॥؟۔")
_PAUSING = frozenset("，、；：,;:—–～·､،؛")
_STRAIGHT = frozenset("\"'")
# Full stops after these end no sentence.
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms dr prof sr jr st mt rev hon gen col capt lt sgt gov sen rep fr mme mlle messrs "
        "inc ltd corp dept univ est vs fig figs eq nos vol pp ed eds approx ca cf al viz "
        "jan feb mar apr jun jul aug sep sept oct nov dec",
    )
)
# Full stops after these end none if a number follows.
_COUNTED = frozenset(("no", "p", "art", "sec", "ch"))
_LINE = re.compile(r"\s*\n\s*")
# After these a Chinese phrase is cut rather than elsewhere.
_PARTICLES = frozenset("的了着过地得吗呢吧啊呀嘛")


def judge_cuts(atoms: list[str]) -> list[Cut]:
    """Return for each atom how good a cut after it is; after the last one always the best."""
    judge = _Judge(atoms)
    return [judge.after(place) for place in range(len(atoms))]


class _Judge:
    """Tells what stands before and after a place, past white space and closing quotes."""

    def __init__(self, atoms: list[str]) -> None:
        self._atoms = atoms
        self._closes = _find_closing(atoms)

    def after(self, place: int) -> Cut:
        """Return how good a cut is after an atom: white space belongs to what stands before."""
        if place + 1 >= len(self._atoms):
            return Cut.SENTENCE
        atom, following = self._atoms[place], self._atoms[place + 1]
        if following.isspace() or self._must_follow(place + 1):
            return Cut.NEVER
        gap = atom if atom.isspace() else ""
        end = place - 1 if gap else place
        if end < 0 or (self._opens(end)):
            return Cut.NEVER
        said = end
        while said > 0 and self._closes[said]:
            said -= 1
        return self._judge(said, end, gap, following)

    def _judge(self, said: int, end: int, gap: str, following: str) -> Cut:
        last = self._atoms[said][-1]
        if last in _ENDING and self._ends_sentence(said, gap, following):
            return Cut.SENTENCE
        if last in _ENDING and last not in "." and not gap:
            return Cut.CLAUSE
        if _LINE.fullmatch(gap):
            return self._judge_line(last, following)
        if last in _PAUSING or (end > said and self._atoms[end][-1] in ")）]】"):
            return Cut.CLAUSE
        if gap:
            return Cut.WORD
        return _between_characters(self._atoms[end], following)

    def _ends_sentence(self, said: int, gap: str, following: str) -> bool:
        if following[0].islower():
            return False  # "Stop!" he said
        atom = self._atoms[said]
        if atom != ".":
            # e.g., U.S., and three dots in the middle of a sentence of letters
            return not (atom[0].isalpha() and atom[-1] == ".") and not (atom[-1] == "." and not gap)
        before = self._atoms[said - 1] if said else ""
        if not gap and not is_ideograph(following[0]) and following[0] not in _OPENING:
            return False
        initial = len(before) == 1 and before.isupper() and before.isascii() and before != "I"
        listed = before.isdigit() and (said < 2 or "\n" in self._atoms[said - 2])
        counted = before.lower() in _COUNTED and following[0].isdigit()
        return not (initial or listed or counted or before.lower() in _ABBREVIATIONS)

    def _judge_line(self, last: str, following: str) -> Cut:
        if following[0].islower():
            return Cut.WORD  # lines of an even width
        return Cut.SENTENCE if is_ideograph(last) or is_ideograph(following[0]) else Cut.CLAUSE

    def _must_follow(self, place: int) -> bool:
        """Return whether an atom may begin no piece: punctuation, and what closes."""
        first = self._atoms[place][0]
        return self._closes[place] or first in _ENDING or first in _PAUSING or first == "-"

    def _opens(self, place: int) -> bool:
        atom = self._atoms[place]
        return atom in _OPENING or (atom in _STRAIGHT and not self._closes[place])


def _find_closing(atoms: list[str]) -> list[bool]:
    """Tell of each atom whether it closes a bracket or a quotation; straight quotes by turns."""
    closing = []
    quoted = False
    for atom in atoms:
        if "\n\n" in atom:
            quoted = False
        if atom == '"':
            closing.append(quoted)
            quoted = not quoted
        else:
            closing.append(atom in _CLOSING)
    return closing


def _between_characters(before: str, following: str) -> Cut:
    ideographs = is_ideograph(before[-1]), is_ideograph(following[0])
    if not any(ideographs):
        return Cut.NEVER if before[-1].isalnum() and following[0].isalnum() else Cut.CHARACTER
    if not all(ideographs) or before[-1] in _PARTICLES:
        return Cut.WORD
    # Japanese: a word mostly begins where its particles, in hiragana, end.
    if "\u3041" <= before[-1] <= "\u309f" and not "\u3041" <= following[0] <= "\u309f":
        return Cut.WORD
    return Cut.CHARACTER
