"""Whether two texts may be spoken alike, as far as their spelling tells: there is no dictionary."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from .speakable import has_symbols, spoken_part

__all__ = ["may_sound_alike"]

_HAN = "\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA, _HANGUL = "\u3040-\u30ff", "\uac00-\ud7af"
_TOKEN = re.compile(
    rf"\d+|[{_HAN}]|[{_KANA}]+|[{_HANGUL}]+|(?:(?![{_HAN}{_KANA}{_HANGUL}])[^\W\d_])+"
)
_KINDS = {
    "han": re.compile(f"[{_HAN}]"),
    "digits": re.compile(r"\d"),
    "kana": re.compile(f"[{_KANA}]"),
    "hangul": re.compile(f"[{_HANGUL}]"),
}
# Words of numbers; of the first ones the value is their place.
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_OTHER_NUMBERS = (
    "oh nought twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
    "billion and point half minus percent first second third fourth fifth sixth seventh eighth "
    "ninth tenth eleventh twelfth st nd rd th"
)
_VALUES = {
    **{word: value for value, word in enumerate(_COUNTED.split())},
    **{sign: value for value, sign in enumerate("零一二三四五六七八九十")},
    "两": 2,
}
_NUMERALS = frozenset("〇幺百千万亿兆廿卅点半第分之负").union(_VALUES, _OTHER_NUMBERS.split())
# What digits the words of a number stand for, but for 1, which 十 leaves out, and 0.
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "second third fourth fifth sixth seventh eighth ninth"
_DIGITS = {
    **{word: str(value) for word, value in _VALUES.items() if word not in ("十", "ten")},
    **{word: str(value) for value, word in enumerate(_TENS.split(), 2)},
    **{word: str(value) for value, word in enumerate(_ORDINALS.split(), 2)},
    **{"廿": "2", "卅": "3", "twelfth": "2"},
}
# GB 2312 lists its 3 755 common characters by their reading: of those that are read alike, 98.6 %
# stand within so many places, of any two 2 %. For the rarer ones it has no such order.
_READ_ALIKE = 40
_COMMON = range(0xB0, 0xD8)
# A unit, behind a number; and the most that an abbreviation has.
_LONGEST_UNIT, _LONGEST_SPOKEN_UNIT = 3, 4
_LONGEST_SHORT_FORM = 4

# English as it is heard, roughly: first what letters are silent, then what they sound like.
_HEARD = (
    (re.compile(r"\b[kgp](?=[ns])|\bw(?=r)|(?<=m)b\b|gh(?!o)"), ""),
    (re.compile(r"ph|v"), "f"),
    (re.compile(r"s?c(?=[eiy])|z"), "s"),
    (re.compile(r"ck|c|q"), "k"),
    (re.compile(r"x"), "ks"),
    (re.compile(r"dg|j"), "g"),
    (re.compile(r"[aeiouhwy]"), ""),
    (re.compile(r"(.)\1+"), r"\1"),
)


def may_sound_alike(first: str, second: str) -> bool:
    """Return whether one recording may be right for both texts.

    True where they are spelled with characters that are read alike (张三, 章三), with digits or
    number words (12, twelve), short forms (Dr., Doctor), or with the same consonants (their,
    there). What cannot be told from the spelling is taken for different, except for characters
    that are rare.
    """
    one, other = _tokens(first), _tokens(second)
    before = _common(one, other)
    one, other = one[before:], other[before:]
    after = _common(one[::-1], other[::-1])
    one, other = one[: len(one) - after], other[: len(other) - after]
    behind_number = before > 0 and _TOKEN.findall(_folded(first))[before - 1].isdigit()
    if not one and not other:
        return True
    if not one or not other:
        # What one text says with a word, the other may say with a symbol.
        return has_symbols(second if one else first)
    if _has(one, "digits") or _has(other, "digits"):
        return _are_numbers(one, other, has_symbols(first) or has_symbols(second))
    return _are_words(one, other) or (behind_number and _are_units(one, other))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", spoken_part(text)).casefold()


def _tokens(text: str) -> list[str]:
    found: list[str] = _TOKEN.findall(_folded(text))
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            break
        count += 1
    return count


def _has(tokens: Sequence[str], kind: str) -> bool:
    return any(_KINDS[kind].match(token) for token in tokens)


def _are_numbers(one: Sequence[str], other: Sequence[str], symbols: bool) -> bool:
    """Return whether one side may be the other's digits in words."""
    if _has(one, "digits") and _has(other, "digits"):
        return False  # other digits are another number
    digits, words = (one, other) if _has(one, "digits") else (other, one)
    if _has(words, "kana") or _has(words, "hangul"):
        return True  # their numbers are not known here
    beside = [token for token in digits if not token.isdigit()]
    spoken = [word for word in words if word not in _NUMERALS]
    if len(spoken) == len(words):
        return False
    if len(digits) == len(words) == 1 and words[0] in _VALUES:
        return int(digits[0]) == _VALUES[words[0]]
    if not spoken or spoken == beside:
        return _are_same_digits(digits, words)
    return _are_units(beside, spoken) or (symbols and not beside)


def _are_same_digits(digits: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether the words of a number hold the digits of the other, 0 and 1 left out."""
    if "半" in words or "half" in words:
        return True
    named = "".join(_DIGITS.get(word, "") for word in words)
    written = "".join(token for token in digits if token.isdigit())
    return re.sub("[01]", "", named) == re.sub("[01]", "", written)


def _are_units(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether one side may be the other's unit, such as kg and 公斤, or kg and kilograms."""
    if not one or not other:
        return False
    short, long = sorted(("".join(one), "".join(other)), key=str.isascii, reverse=True)
    if long.isascii():
        return _is_short_form(*sorted((short, long), key=len))
    return short.isascii() and len(short) <= _LONGEST_UNIT and len(long) <= _LONGEST_SPOKEN_UNIT


def _are_words(one: Sequence[str], other: Sequence[str]) -> bool:
    if len(one) == len(other) > 1 and all(map(_are_word, one, other)):
        return True
    kinds = {_kind(token) for token in (*one, *other)}
    if kinds == {"han"}:
        return len(one) == len(other) and all(map(_read_alike, one, other))
    if kinds <= {"han", "kana"}:
        return kinds == {"han", "kana"} or _hiragana(one) == _hiragana(other)
    if kinds == {"hangul"}:
        return _vowels(one) == _vowels(other)
    if kinds != {"letters"}:
        return False
    short, long = sorted(("".join(one), "".join(other)), key=len)
    return _heard(short) == _heard(long) or _is_short_form(short, long)


def _are_word(one: str, other: str) -> bool:
    return one == other or _are_words([one], [other])


def _kind(token: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if pattern.match(token)), "letters")


def _read_alike(one: str, other: str) -> bool:
    mine, its = _place(one), _place(other)
    return one == other or mine is None or its is None or abs(mine - its) <= _READ_ALIKE


def _place(character: str) -> int | None:
    """Return a character's place among the common ones, which are ordered by their reading."""
    try:
        row, column = character.encode("gb2312")
    except (ValueError, LookupError):  # not in it, or a Python without it
        return None
    return row * 94 + column if row in _COMMON else None


def _hiragana(tokens: Sequence[str]) -> str:
    plain = "".join(chr(ord(c) - 0x60) if "ァ" <= c <= "ヶ" else c for c in "".join(tokens))
    return plain.translate(str.maketrans("はへをぢづ", "わえおじず"))


def _vowels(tokens: Sequence[str]) -> str:
    apart = unicodedata.normalize("NFD", "".join(tokens))
    return "".join(jamo for jamo in apart if "\u1161" <= jamo <= "\u1175")


def _heard(word: str) -> str:
    apart = unicodedata.normalize("NFD", word)
    heard = "".join(char for char in apart if not unicodedata.combining(char))
    first = heard[:1]
    for pattern, sound in _HEARD:
        heard = pattern.sub(sound, heard)
    return heard or first  # of vowels alone, the first one tells most


def _is_short_form(short: str, long: str) -> bool:
    """Return whether a word may be written shorter so, as Dr for Doctor."""
    rest = iter(long)
    whole = short[:1] == long[:1] and all(letter in rest for letter in short)
    return whole and 1 < len(short) <= _LONGEST_SHORT_FORM and len(short) < len(long)
