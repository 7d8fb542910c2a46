"""Where a text may be cut, and how well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from .atoms import find_phrases, is_ideograph

__all__ = ["Cut", "find_sentence_ends", "judge_cuts", "split_loose_end"]


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
# Quotation marks that open in one language and close in another: „so“, »so«, «so», »so».
_CLOSED_BY = {"„": "“”", "«": "»", "»": "«»"}
_LOOSE = (_CLOSING | _ENDING | _PAUSING) - frozenset("%‰℃℉°")
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
_COUNTED = frozenset(("no", "nr", "p", "art", "sec", "ch"))
_LINE = re.compile(r"\s*\n\s*")
# After these a Chinese phrase is cut rather than elsewhere.
_PARTICLES = frozenset("的了着过地得吗呢吧啊呀嘛")


# What ends an atom after which no sentence does: letters, digits, and these.
_WITHIN = frozenset("，、；：,;:-")


def judge_cuts(atoms: list[str], quoted: bool = False) -> list[Cut]:
    """Return for each atom how good a cut after it is; after the last one always the best.

    Args:
        atoms: The text.
        quoted: Whether it begins within straight quotes.
    """
    judge = _Judge(atoms, quoted)
    return [judge.after(place) for place in range(len(atoms))]


def find_sentence_ends(text: str) -> Iterator[int]:
    """Yield where the sentences of a text end, white space behind them included."""
    atoms = find_phrases(text)
    judge = _Judge(atoms)
    end = 0
    for place, atom in enumerate(atoms):
        end += len(atom)
        last = atom[-1]
        within = last.isalnum() or last in _WITHIN
        if end == len(text) or (not within and judge.after(place) is Cut.SENTENCE):
            yield end


def split_loose_end(text: str) -> tuple[str, str]:
    """Return the punctuation that a text begins with, and what follows it: it belongs to what
    stands before. Quotes and brackets that open something stay."""
    size = 0
    while size < len(text) and (text[size] in _LOOSE or text[size].isspace()):
        size += 1
    return text[:size].strip(), text[size:]


class _Judge:
    """Tells what stands before and after a place, past white space and closing quotes."""

    def __init__(self, atoms: list[str], quoted: bool = False) -> None:
        self._atoms = atoms
        self._closes = _find_closing(atoms, quoted)

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
        while said > 0 and (self._closes[said] or self._atoms[said].isspace()):
            said -= 1
        return self._judge(said, end, gap, following)

    def _judge(self, said: int, end: int, gap: str, following: str) -> Cut:
        last = _last(self._atoms[said])
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
        if atom[0] == "<":  # a tag stands before what it is about
            return len(atom) > 2 and "/" not in atom and atom[-1] == ">"
        quotes = atom in _OPENING or atom in _STRAIGHT or atom in _CLOSED_BY
        return quotes and not self._closes[place]


def _last(atom: str) -> str:
    """Return an atom's last character; of words within tags, the last of these."""
    words = atom[: atom.rindex("</")] if atom[0] == "<" and atom.find("</") > 0 else atom
    return words[-1]


def _find_closing(atoms: list[str], quoted: bool) -> list[bool]:
    """Tell of each atom whether it closes a bracket or a quotation; straight quotes by turns."""
    closing = []
    ends = ""  # what closes the quotation that is open
    for atom in atoms:
        if "\n\n" in atom:
            quoted, ends = False, ""
        if atom == '"':
            closing.append(quoted)
            quoted = not quoted
        elif ends and atom in ends:
            closing.append(True)
            ends = ""
        elif atom in _CLOSED_BY:
            closing.append(False)
            ends = _CLOSED_BY[atom]
        else:
            closing.append(atom in _CLOSING or atom.startswith("</"))
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
