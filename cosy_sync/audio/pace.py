"""How fast a voice speaks, by kind of character: learned from its recordings."""

from __future__ import annotations

import math
import re
from operator import mul
from typing import NamedTuple

from .speakable import count_signs, spoken_part

__all__ = ["Kinds", "Pace", "Range", "count_kinds", "range_of"]

# Seconds that a usual voice takes for a character of each kind: Chinese (and kana, hangul), a
# letter of another script, a digit, any other sign that is read by name. Only their proportions
# matter once the voice is known.
_USUAL = (0.24, 0.065, 0.32, 0.25)
_WIDE = re.compile(
    "[\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af\U00020000-\U0003ffff]"
)
_LETTER = re.compile(r"[^\W\d]")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+")
_RUN = re.compile(r"(.)\1{2,}", re.DOTALL)
_CAPITALS = re.compile(r"[A-Z]{2,}")
# A long number may be two syllables, as 100000000 is in Mandarin; in English a digit may take as
# long as two of ours do, a capital that is spelled as four letters.
_SHORTEST_NUMBER, _LONGEST_DIGIT, _LONGEST_CAPITAL = 0.5, 3, 4

# Texts after which a voice is known, and how many of them a kind must have had.
_KNOWN = 50
_KNOWN_KIND = 15.0
# Share of a text's time that kinds may take which were hardly met: more, and nobody knows how long
# it takes. And so many times longer than the others they may take.
_STRANGE, _STRANGER = 0.5, 3.0
# Share of digits and signs up to which a text shows how much this voice's pace varies.
_PLAIN = 0.1
# How far one text moves what was learned, and how far off it may be to count in full.
_STEP = 0.02
_LEAST_CLIP = 0.04

# How far from what is expected a text may be, as a logarithm: so many times what the voice's texts
# usually are off, within these; more for few characters, and for digits and signs, which can be
# read in several ways.
_TIMES, _LEAST, _MOST = 5.0, 0.42, 1.25
_FEW, _MANY_WAYS = 1.5, 0.8
# How far off a text of words hardly ever is: so many times what this voice's texts usually are, and
# a part that sinks with the root of its characters; so much at least.
_HARDLY, _OF_FEW, _ALWAYS = 4.2, 0.95, 0.25


class Kinds(NamedTuple):
    """How many characters of each kind are spoken."""

    wide: float
    letters: float
    digits: float
    others: float


class Range(NamedTuple):
    """What is spoken of a text, as it is usually read, at least, and at most."""

    usual: Kinds
    least: Kinds
    most: Kinds


class Pace:
    """Seconds for a character of each kind, and how far texts are off.

    It is read without a lock: numbers that are one text old serve as well.
    """

    def __init__(self) -> None:
        self.texts = 0
        # Those of them that can be read in one way only.
        self.plain = 0
        # The logarithm of how much slower than usual, and the texts that each kind has had.
        self._slower = [0.0] * len(_USUAL)
        self._met = [0.0] * len(_USUAL)
        self.deviation = 0.3
        # Seconds for a character of each kind; of unknown ones, as the others are.
        self.seconds = Kinds(*_USUAL)

    def __repr__(self) -> str:
        shown = zip(Kinds._fields, self.seconds, self._met, strict=True)
        known = ", ".join(f"{value:.3f} s for {name}" for name, value, met in shown if met >= 1)
        return f"<Pace of {self.texts} texts: {known or 'nothing'}>"

    @property
    def known(self) -> bool:
        """Return whether enough texts were met."""
        return self.texts >= _KNOWN

    def expected(self, kinds: Kinds) -> float:
        """Return how many seconds these characters take this voice."""
        wide, letter, digit, other = self.seconds
        return (
            wide * kinds.wide + letter * kinds.letters + digit * kinds.digits + other * kinds.others
        )

    def tolerance(self, kinds: Kinds) -> float | None:
        """Return the logarithm of how many times longer or shorter than expected may be right.

        None where nobody knows: of few texts, and of kinds of characters that were hardly met.
        """
        every = sum(kinds)
        if not every or not self.known:
            return None
        if self.strange(kinds) > _STRANGE:
            return None
        many_ways = _MANY_WAYS * (kinds.digits + kinds.others) / every
        steady = min(max(_LEAST, _TIMES * self.deviation), _MOST)
        return steady + _FEW / every + many_ways + self._unknown(kinds)

    def spread(self, kinds: Kinds) -> float:
        """Return the logarithm of how many times longer or shorter than expected a text of words
        hardly ever is: less than what may be right."""
        few = _OF_FEW / math.sqrt(max(1.0, sum(kinds)))
        return max(_ALWAYS, math.hypot(_HARDLY * self.deviation, few)) + self._unknown(kinds)

    def _unknown(self, kinds: Kinds) -> float:
        return math.log(1 + (_STRANGER - 1) * self.strange(kinds))

    def strange(self, kinds: Kinds) -> float:
        """Return the share of the time that kinds take which were hardly met."""
        if min(self._met) >= _KNOWN_KIND:
            return 0.0
        parts = [each * count for each, count in zip(self.seconds, kinds, strict=True)]
        unknown = [max(0.0, 1 - met / _KNOWN_KIND) for met in self._met]
        strange: float = sum(map(mul, parts, unknown))
        return strange / (sum(parts) or 1.0)

    def learn(self, kinds: Kinds, seconds: float) -> None:
        """Learn how long a text took; what is far off counts little."""
        expected = [each * count for each, count in zip(self.seconds, kinds, strict=True)]
        whole = sum(expected)
        if not whole or not seconds:
            return
        off = math.log(seconds / whole)
        self.texts += 1
        clip = max(2 * self.deviation, _LEAST_CLIP)
        for kind, part in enumerate(expected):
            share = part / whole
            if not share:
                continue
            met = self._met[kind]
            if met < _KNOWN_KIND:
                self._slower[kind] += (
                    share / (met + 1) * (off + self._common() - self._slower[kind])
                )
            else:
                self._slower[kind] += max(_STEP, 1 / (met + 1)) * share * min(max(off, -clip), clip)
            self._met[kind] = met + share
        self.seconds = self._learned()
        if kinds.digits + kinds.others > _PLAIN * sum(kinds):
            return
        self.plain += 1
        step = max(_STEP, 1 / (self.plain + 1))
        self.deviation += step * (min(abs(off), 1.0) - self.deviation)

    def _learned(self) -> Kinds:
        common = self._common()
        known = [
            slower if met >= _KNOWN_KIND else common
            for slower, met in zip(self._slower, self._met, strict=True)
        ]
        return Kinds(*map(mul, _USUAL, map(math.exp, known)))

    def _common(self) -> float:
        met = sum(self._met)
        common: float = sum(map(mul, self._slower, self._met))
        return common / met if met else 0.0


def count_kinds(text: str) -> Kinds:
    """Count the characters of a text that are spoken, by kind."""
    wide = len(_WIDE.findall(text))
    letters = len(_LETTER.findall(text)) - wide
    digits = len(_DIGIT.findall(text))
    return Kinds(wide, letters, digits, max(0, count_signs(text) - wide - letters - digits))


def range_of(text: str) -> Range:
    """Count a text as it is usually read, as little as any reader could speak, and as much."""
    plain = spoken_part(text)
    usual = count_kinds(plain)
    every = usual if plain is text else count_kinds(text)
    short = _RUN.sub(r"\1\1", plain)
    numbers = len(_NUMBER.findall(short))
    wide = len(_WIDE.findall(short))
    letters = len(_LETTER.findall(short)) - wide
    least = Kinds(wide, letters, _SHORTEST_NUMBER * numbers, 0)
    capitals = sum(map(len, _CAPITALS.findall(text)))
    most = Kinds(
        every.wide,
        every.letters + (_LONGEST_CAPITAL - 1) * capitals,
        _LONGEST_DIGIT * every.digits,
        every.others * 2,
    )
    return Range(usual, least, most)
