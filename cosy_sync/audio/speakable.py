"""How much there is to say in a text: counts that durations are compared with."""

from __future__ import annotations

import re
import unicodedata

__all__ = [
    "count_signs",
    "fewest_spoken",
    "has_pauses",
    "has_symbols",
    "most_spoken",
    "sounds_like",
    "spoken_chars",
    "spoken_part",
]

_WORDS = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")
_DIGITS = re.compile(r"\d+")
# Inline tags that CosyVoice acts on instead of speaking: <strong>, <|zh|>, [laughter].
_TAGS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_PAUSES = re.compile(r"[<\[…—\n]|\.\.\.|--")
_RUNS = re.compile(r"(.)\1{2,}", re.DOTALL)
_SPELLED = re.compile(r"[A-Z]{2,}")
_SILENT = re.compile(r"""[\s,.!?;:'"()\-，。！？；：、…—·“”‘’（）《》「」『』【】]+""")
# In English 777 is "seven hundred seventy-seven", WWW has nine syllables, and an emoji may be
# read as "grinning face".
_LONGEST_DIGIT = 4
_LONGEST_CAPITAL = 4
_LONGEST_SYMBOL = 4
# A long number may be two syllables, as 100000000 is in Mandarin.
_SHORTEST_NUMBER = 2


def spoken_chars(text: str) -> int:
    """Count the letters of a text; a digit counts as two. Punctuation is not spoken."""
    return sum(map(len, _WORDS.findall(text))) + len(_DIGIT.findall(text))


def count_signs(text: str) -> int:
    """Count letters, digits and symbols: all but punctuation and spaces."""
    return len(_SILENT.sub("", text))


def most_spoken(text: str) -> int:
    """Count as generously as any reader could speak: symbols by name, acronyms letter by letter."""
    chars = count_signs(text)
    letters = sum(map(len, _WORDS.findall(text)))
    digits = len(_DIGIT.findall(text))
    capitals = sum(map(len, _SPELLED.findall(text)))
    return (
        letters
        + (_LONGEST_DIGIT - 1) * digits
        + (_LONGEST_CAPITAL - 1) * capitals
        + _LONGEST_SYMBOL * max(0, chars - letters)
    )


def fewest_spoken(text: str) -> int:
    """Count as little as any reader could speak: no tags, numbers as wholes, runs cut short."""
    plain = _RUNS.sub(r"\1\1", spoken_part(text))
    plain, numbers = _DIGITS.subn("", plain)
    return sum(map(len, _WORDS.findall(plain))) + _SHORTEST_NUMBER * numbers


def spoken_part(text: str) -> str:
    """Return a text without tags, and without what stands before `<|endofprompt|>`: that tells the
    model how to speak."""
    return _TAGS.sub("", text.rpartition("<|endofprompt|>")[2])


def has_symbols(text: str) -> bool:
    """Return whether it holds what is neither letters nor digits nor punctuation, such as %."""
    return bool(_WORDS.sub("", _SILENT.sub("", spoken_part(text))))


def has_pauses(text: str) -> bool:
    """Return whether it may ask for silence: by a tag, a dash, dots, or a new line."""
    return bool(_PAUSES.search(text))


def sounds_like(text: str) -> str:
    """Return what remains of a text without tags, case, width, punctuation and spaces."""
    plain = unicodedata.normalize("NFKC", spoken_part(text)).casefold()
    return "".join(_WORDS.findall(plain))
