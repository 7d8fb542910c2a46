"""What of a text must not be cut: words, numbers, addresses, short quotations, emoji."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["find_atoms", "is_ideograph"]

# Scripts that are written without spaces: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
_SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W\d_{_SPACELESS}]"
_ADDRESS_END = r"[^\s<>\"'“”‘’，。；：！？、（）【】《》「」『』)\],.;:!?]"
_ADDRESS = rf"[^\s<>\"“”，。；！？、（）【】《》「」『』]*{_ADDRESS_END}"
_ATOMS = re.compile(
    "|".join(
        (
            # Tags that CosyVoice acts on, alone or around words.
            r"<(?P<tag>[a-z]{1,20})>[^<>]{1,60}</(?P=tag)>",
            r"</?[a-z]{1,20}>|<\|[^<>|]{1,40}\|>|\[[^\[\]\n]{1,30}\]",
            rf"(?:https?|ftp)://{_ADDRESS}|www\.{_ADDRESS}",
            r"[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
            rf"(?:[A-Za-z0-9-]+\.)+[a-z]{{2,6}}/{_ADDRESS}|(?:[A-Za-z0-9-]+\.)+[a-z]{{2,6}}\b",
            r"(?:[A-Za-z]\.){2,}",
            # Quotations of one to three characters.
            r"“[^“”\s]{1,3}”|‘[^‘’\s]{1,3}’|「[^「」\s]{1,3}」|『[^『』\s]{1,3}』|《[^《》\s]{1,3}》",
            r"\"[^\"\s]{1,3}\"",
            # Numbers with their signs, dates and times among them; 1 000 000; 三千五百.
            r"[+\-−±]?[$€£¥￥]?\d{1,3}(?:[\u00a0\u202f ]\d{3})+(?!\d)",
            r"[+\-−±]?[$€£¥￥]?\d+(?:[.,:：/\-–~～×^．，]\d+)*(?:\s?[%‰℃℉°])?[A-Za-z]{0,4}",
            r"[〇零一二三四五六七八九十百千万亿两]{2,24}(?:点[〇零一二三四五六七八九]+)?",
            rf"{_LETTER}+(?:['’\-_&]{_LETTER}+|\d+)*",
            r"\s+",
            r"\.{2,}|…+|—+|–+|-{2,}|～+|[。！？!?؟]+",
            r".",
        )
    ),
    re.DOTALL,
)
_IDEOGRAPH = re.compile(rf"[{_SPACELESS}]")
_JOINERS = frozenset("\u200d\u20e3\ufe0e\ufe0f")


def is_ideograph(char: str) -> bool:
    """Return whether a character is of a script that is written without spaces."""
    return _IDEOGRAPH.match(char) is not None


def find_atoms(text: str) -> list[str]:
    """Cut a text into pieces that must stay whole. Together they are the text."""
    atoms: list[str] = []
    for match in _ATOMS.finditer(text):
        atom = match.group()
        if atoms and _belongs(atoms[-1], atom):
            atoms[-1] += atom
        else:
            atoms.append(atom)
    return atoms


def _belongs(before: str, atom: str) -> bool:
    """Return whether an atom is no character of its own, but goes on with the one before it."""
    first, last = atom[0], before[-1]
    if first in _JOINERS or unicodedata.category(first)[0] == "M" or "🏻" <= first <= "🏿":
        return not before.isspace()
    if last == "\u200d":
        return True
    if _is_flag(first) and _is_flag(last):
        return sum(map(_is_flag, before)) % 2 == 1
    # A letter after a mark: Indic vowels, accents that were written apart.
    marked = unicodedata.category(last)[0] == "M" and not is_ideograph(last)
    return marked and first.isalpha() and not is_ideograph(first)


def _is_flag(char: str) -> bool:
    return "🇦" <= char <= "🇿"
