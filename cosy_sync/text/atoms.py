"""What of a text must not be cut: words, numbers, addresses, short quotations, emoji."""

from __future__ import annotations

import itertools
import re
import unicodedata

__all__ = ["SPACELESS", "ends_character", "find_atoms", "find_phrases", "is_ideograph"]

# Scripts that are written without spaces: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W\d_{SPACELESS}]"
_ADDRESS_END = r"[^\s<>\"'“”‘’，。；：！？、（）【】《》「」『』)\],.;:!?]"
_ADDRESS = rf"[^\s<>\"“”，。；！？、（）【】《》「」『』]*{_ADDRESS_END}"
_WORD = rf"{_LETTER}+(?:['’\-_&]{_LETTER}+|\d+)*"
# Starts of addresses are looked for where a word begins only: within a long one, each letter would
# be tried, in time that grows with the square of its length.
_ATOM = "|".join(
    (
        # Tags that CosyVoice acts on, alone or around words.
        r"<(?P<tag>[a-z]{1,20})>[^<>]{1,60}</(?P=tag)>",
        r"</?[a-z]{1,20}>|<\|[^<>|]{1,40}\|>|\[[^\[\]\n]{1,30}\]",
        rf"(?:https?|ftp)://{_ADDRESS}|www\.{_ADDRESS}",
        r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
        rf"(?<![A-Za-z0-9-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}[a-z]{{2,6}}(?:/{_ADDRESS}|\b)",
        r"(?:[A-Za-z]\.){2,}",
        # Quotations of one to three characters.
        r"“[^“”\s]{1,3}”|‘[^‘’\s]{1,3}’|「[^「」\s]{1,3}」|『[^『』\s]{1,3}』|《[^《》\s]{1,3}》",
        r"\"[^\"\s]{1,3}\"",
        # Numbers with their signs, dates and times among them; 1 000 000; 三千五百.
        r"[+\-−±]?[$€£¥￥]?\d{1,3}(?:[\u00a0\u202f ]\d{3})+(?!\d)",
        r"[+\-−±]?[$€£¥￥]?\d+(?:[.,:：/\-–~～×^．，]\d+)*(?:\s?[%‰℃℉°])?[A-Za-z]{0,4}",
        r"[〇零一二三四五六七八九十百千万亿两]{2,24}(?:点[〇零一二三四五六七八九]+)?",
        _WORD,
        r"\s+",
        r"\.{2,}|…+|—+|–+|-{2,}|～+|[。！？!?؟]+",
        r".",
    )
)
_ATOMS = re.compile(_ATOM, re.DOTALL)
# Phrases are as good as words where only the ends of sentences are looked for.
_WORDS = rf"(?:{_LETTER}+(?:['’]{_LETTER}+)?,? )+(?={_LETTER})"
_PHRASES = re.compile(rf"[{SPACELESS}，、；：]+|{_WORDS}|{_ATOM}", re.DOTALL)
_IDEOGRAPH = re.compile(rf"[{SPACELESS}]")
_JOINERS = frozenset("\u200d\u20e3\ufe0e\ufe0f")


def is_ideograph(char: str) -> bool:
    """Return whether a character is of a script that is written without spaces."""
    return _IDEOGRAPH.match(char) is not None


def find_atoms(text: str) -> list[str]:
    """Cut a text into pieces that must stay whole. Together they are the text."""
    return _join(_ATOMS, text)


def find_phrases(text: str) -> list[str]:
    """Cut a text into atoms, and runs of them within which no sentence ends: there are fewer."""
    return _join(_PHRASES, text)


def ends_character(text: str, place: int) -> bool:
    """Return whether a character, with its accents and joined emoji, ends before a place."""
    if place >= len(text):
        return True
    flags = 0
    while flags < place and _is_flag(text[place - 1 - flags]):
        flags += 1
    return not _goes_on(text[place - 1], text[place], flags)


def _join(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return what the pattern finds, with what goes on in one."""
    starts = []
    flags, last = 0, " "
    for match in pattern.finditer(text):
        start = match.start()
        first = text[start]
        # Nothing below joins anything: most texts never go further.
        plain = first < "\u0300" and last < "\u0300"
        if plain or not _goes_on(last, first, flags):
            starts.append(start)
        flags = flags + 1 if _is_flag(first) else 0
        last = text[match.end() - 1]
    return [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]


def _goes_on(last: str, first: str, flags: int) -> bool:
    """Return whether a character is none of its own, but goes on with the one before it.

    Args:
        last: The one before it.
        first: The character.
        flags: How many halves of flags stand before it without anything between.
    """
    if last == "\u200d":
        return not first.isspace()
    if "\u4e00" <= first <= "\u9fff":  # most characters of Chinese: a short cut
        return False
    if first in _JOINERS or unicodedata.category(first)[0] == "M" or "🏻" <= first <= "🏿":
        return not last.isspace()
    if flags and _is_flag(first):
        return flags % 2 == 1
    # A letter after a mark: Indic vowels, accents that were written apart.
    marked = unicodedata.category(last)[0] == "M" and not is_ideograph(last)
    return marked and first.isalpha() and not is_ideograph(first)


def _is_flag(char: str) -> bool:
    return "🇦" <= char <= "🇿"
