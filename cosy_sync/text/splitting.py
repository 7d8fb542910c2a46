"""Long texts in pieces: at sentences, then at clauses, then between words, never inside one."""

from __future__ import annotations

import math
import unicodedata
from itertools import accumulate

from .atoms import find_atoms
from .cuts import Cut, judge_cuts

__all__ = ["Piece", "measure", "split_text"]

# What a letter of a script with short letters is worth: saying it takes a third of the time that a
# Chinese character takes.
_NARROW = 1 / 3
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
    return _Splitter(text, target, max_chars).split()


def measure(text: str) -> float:
    """Return the length of a text, in Chinese characters."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else _NARROW for char in text)


class _Splitter:
    """One text as atoms, with the sums of their lengths and characters before each."""

    def __init__(self, text: str, target: float, max_chars: int) -> None:
        self._atoms = _shorten(find_atoms(text), max_chars)
        self._cuts = judge_cuts(self._atoms)
        self._lengths = [0.0, *accumulate(map(measure, self._atoms))]
        self._chars = [0, *accumulate(map(len, self._atoms))]
        self._target = target
        self._max_chars = max_chars

    def split(self) -> list[Piece]:
        pieces: list[Piece] = []
        first = end = 0
        for last in self._sentence_ends():
            if end > first and not self._belong_together(first, end, last):
                pieces += self._split_sentence(first, end)
                first = end
            end = last
        return pieces + self._split_sentence(first, end)

    def _sentence_ends(self) -> list[int]:
        ends = [place + 1 for place, cut in enumerate(self._cuts) if cut is Cut.SENTENCE]
        if self._atoms and (not ends or ends[-1] != len(self._atoms)):
            ends.append(len(self._atoms))
        return ends

    def _belong_together(self, first: int, middle: int, last: int) -> bool:
        """Return whether two sentences are spoken in one: one of them is very short."""
        shorter = min(self._length(first, middle), self._length(middle, last))
        return shorter < _SHORT and self._fits(first, last)

    def _length(self, first: int, last: int) -> float:
        return self._lengths[last] - self._lengths[first]

    def _fits(self, first: int, last: int) -> bool:
        chars = self._chars[last] - self._chars[first]
        return self._length(first, last) <= self._target and chars <= self._max_chars

    def _split_sentence(self, first: int, last: int) -> list[Piece]:
        pieces: list[Piece] = []
        while first < last:
            end = last if self._fits(first, last) else self._best_cut(first, last)
            text = " ".join("".join(self._atoms[first:end]).split())  # lines that were wrapped
            if text:
                pieces.append((text, self._cuts[end - 1]))
            first = end
        return pieces

    def _best_cut(self, first: int, last: int) -> int:
        """Return where the first piece of a sentence that is too long ends."""
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
    return [
        atom[start : start + max_chars]
        for atom in atoms
        for start in range(0, len(atom), max_chars)
    ]
