"""Long texts in pieces: at sentences, then at clauses, then between words, never inside one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import accumulate

from .atoms import ends_character, find_atoms, is_ideograph
from .cuts import Cut, find_sentence_ends, judge_cuts

__all__ = ["Piece", "measure", "split_at_limit", "split_lazily", "split_text"]

# What a letter of a script with short letters is worth: saying it takes a third of the time that a
# Chinese character takes.
_NARROW = 1 / 3
# Characters that are as wide as they are high (Unicode's East Asian Width, W and F): most of them.
_WIDE = re.compile(
    r"[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f"
    r"\uff01-\uff60\uffe0-\uffe6\U0001f300-\U0001faff\U00020000-\U0003fffd]+"
)
# A sentence shorter than this is spoken with its neighbour: models babble at a single word.
_SHORT = 10.0
# What a cut costs, as the share of a piece's length by which the piece may be uneven for a better.
_COSTS = {Cut.CHARACTER: 1.0, Cut.WORD: 0.5, Cut.CLAUSE: 0.0, Cut.SENTENCE: 0.0}
# The shares of an even length that a piece of a long sentence may have.
_SHORTEST, _LONGEST = 0.5, 1.5

# A piece, and what kind of cut comes after it.
Piece = tuple[str, Cut]


def split_text(text: str, *, target: float = 80.0, max_chars: int = 2000) -> list[Piece]:
    """Split a paragraph into pieces, each with the kind of cut after it.

    A sentence of at most `target` in length stays whole, and very short ones are put together; a
    longer one is cut into even pieces at its clauses, between words where it has none. A Chinese,
    Japanese or Korean character counts as 1 of length, any other as a third: 80 are some 20 s of
    speech. No piece has more than `max_chars` characters. Nothing but white space is lost.
    """
    return list(split_lazily(text, target, max_chars))


def split_lazily(text: str, target: float, max_chars: int) -> Iterator[Piece]:
    """Yield the same pieces one by one.

    What a sentence is made of is only looked at if it is too long: most are not.
    """
    first = end = 0
    length = 0.0
    quoted = False
    for last in find_sentence_ends(text):
        size = measure(text[end:last])
        if first < end:
            fits = length + size <= target and last - first <= max_chars
            # Two are spoken in one if one of them is very short.
            if not (fits and min(length, size) < _SHORT):
                yield from _split_sentence(text[first:end], length, target, max_chars, quoted)
                quoted ^= text.count('"', first, end) % 2 == 1
                first, length = end, 0.0
        end = last
        length += size
    yield from _split_sentence(text[first:end], length, target, max_chars, quoted)


def split_at_limit(text: str, target: float, max_chars: int) -> Iterator[Piece]:
    """Yield a paragraph whole, or in pieces of sentences, each as long as it may be."""
    if len(text) <= max_chars:
        if said := _one_line(text):
            yield said, Cut.SENTENCE
        return
    said, kind = "", Cut.SENTENCE
    for piece, cut in split_lazily(text, target, max_chars):
        gap = " " if said and said[-1].isascii() and not is_ideograph(piece[0]) else ""
        if said and len(said) + len(gap) + len(piece) > max_chars:
            yield said, kind
            said, gap = "", ""
        said, kind = f"{said}{gap}{piece}", cut
    if said:
        yield said, kind


def measure(text: str) -> float:
    """Return the length of a text, in Chinese characters."""
    if text.isascii():
        return len(text) * _NARROW
    narrow = len(_WIDE.sub("", text))
    return len(text) - narrow + narrow * _NARROW


def _split_sentence(
    text: str, length: float, target: float, max_chars: int, quoted: bool
) -> Iterator[Piece]:
    if length <= target and len(text) <= max_chars:
        said = _one_line(text)
        if said:
            yield said, Cut.SENTENCE
    else:
        yield from _Sentence(text, target, max_chars, quoted).split()


def _one_line(text: str) -> str:
    """Return a text whose lines were wrapped in one."""
    return " ".join(text.split())


class _Sentence:
    """A sentence that is too long, as atoms, with the sums of their lengths and characters."""

    def __init__(self, text: str, target: float, max_chars: int, quoted: bool) -> None:
        self._atoms = _shorten(find_atoms(text), max_chars)
        self._cuts = judge_cuts(self._atoms, quoted)
        self._lengths = [0.0, *accumulate(map(measure, self._atoms))]
        self._chars = [0, *accumulate(map(len, self._atoms))]
        self._target = target
        self._max_chars = max_chars

    def split(self) -> Iterator[Piece]:
        """Yield its pieces."""
        first, last = 0, len(self._atoms)
        while first < last:
            end = last if self._fits(first, last) else self._best_cut(first, last)
            text = _one_line("".join(self._atoms[first:end]))
            if text:
                yield text, self._cuts[end - 1]
            first = end

    def _length(self, first: int, last: int) -> float:
        return self._lengths[last] - self._lengths[first]

    def _fits(self, first: int, last: int) -> bool:
        chars = self._chars[last] - self._chars[first]
        return self._length(first, last) <= self._target and chars <= self._max_chars

    def _best_cut(self, first: int, last: int) -> int:
        """Return where the first of several pieces ends."""
        whole = self._length(first, last)
        chars = self._chars[last] - self._chars[first]
        count = max(math.ceil(whole / self._target), math.ceil(chars / self._max_chars), 2)
        even = whole / count
        best, cheapest = 0, math.inf
        for place in range(first, last - 1):
            length = self._length(first, place + 1)
            if best and length > _LONGEST * even:
                break
            if self._chars[place + 1] - self._chars[first] > self._max_chars:
                break
            cost = self._cost(place, length / even)
            if cost < cheapest:
                best, cheapest = place + 1, cost
        return best or self._longest(first, last)

    def _longest(self, first: int, last: int) -> int:
        """Return where a piece ends that may not be cut: as far as it may go."""
        end = first + 1
        while end < last and self._chars[end + 1] - self._chars[first] <= self._max_chars:
            end += 1
        return end

    def _cost(self, place: int, share: float) -> float:
        cut = self._cuts[place]
        if cut is Cut.NEVER:
            return math.inf
        outside = 10.0 if share < _SHORTEST else 0.0
        return _COSTS[cut] + abs(share - 1.0) + outside


def _shorten(atoms: list[str], max_chars: int) -> list[str]:
    """Cut atoms that no piece can hold: addresses and words without an end."""
    if all(len(atom) <= max_chars for atom in atoms):
        return atoms
    return [part for atom in atoms for part in _cut_atom(atom, max_chars)]


def _cut_atom(atom: str, max_chars: int) -> Iterator[str]:
    """Yield an atom's parts: cut between two characters, unless one of these is too long itself."""
    start = 0
    while start < len(atom):
        end = most = min(start + max_chars, len(atom))
        while end > start and not ends_character(atom, end):
            end -= 1
        yield atom[start : end if end > start else most]
        start = end if end > start else most
