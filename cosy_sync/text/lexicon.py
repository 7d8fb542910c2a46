"""How words are said that a model reads wrongly: other words in their place, or pinyin."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .atoms import SPACELESS

__all__ = ["Lexicon"]

_PINYIN = re.compile(r"[a-zü:]+[1-5](?: [a-zü:]+[1-5])*", re.IGNORECASE)
# What a word of letters must not touch. Chinese may stand beside it, and Korean adds particles.
_LETTER = re.compile(rf"[^\W{SPACELESS}\u1100-\u11ff\uac00-\ud7af]")
_ACCENTS = r"\u0300-\u036f"


class Lexicon:
    """Words, and what is said for each: a function from text to text, for `prepare=`.

    The longest word that fits counts; words of letters only fit whole words. What was put in is
    not looked at again.

    Args:
        words: What stands in the text, and what is said in its place: other words
            ({"SQL": "sequel", "重庆": "崇庆"}), or pinyin with tones ({"重庆": "chong2 qing4"}),
            which only DashScope takes (see `hot_fix`).

    Raises ConfigError for a word or a replacement that is empty.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        if not isinstance(words, Mapping):
            raise ConfigError(
                f"lexicon: expected a dict of words such as {{'SQL': 'sequel'}}, got "
                f"{type(words).__name__}; Lexicon.from_file reads a file"
            )
        for word, said in words.items():
            both = isinstance(word, str) and isinstance(said, str)
            if not (both and word.strip() and said.strip()):
                raise ConfigError(f"lexicon: expected words as text, got {word!r}: {said!r}")
        self._pinyin = {word: said for word, said in words.items() if _is_pinyin(word, said)}
        self._words = {word: said for word, said in words.items() if word not in self._pinyin}
        longest = sorted(self._words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_pattern, longest)) or r"(?!)")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Lexicon:
        """Read a UTF-8 file with a word and what is said on each line, a tab between them; blank
        lines and lines that begin with # are left out.

        Raises OSError, and ConfigError which names the line.
        """
        words: dict[str, str] = {}
        try:
            lines = Path(path).read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ConfigError(f"lexicon: {path} is not UTF-8; save it as such") from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            word, tab, said = line.partition("\t")
            if not tab or not word.strip() or not said.strip():
                raise ConfigError(
                    f"lexicon: {path}, line {number}: expected a word, a tab and what is said"
                )
            if word.strip() in words:
                raise ConfigError(f"lexicon: {path}, line {number}: the word is there twice")
            words[word.strip()] = said.strip()
        return cls(words)

    def __call__(self, text: str) -> str:
        """Return the text with words replaced.

        Raises ConfigError where a word of it has pinyin only: no text can say that.
        """
        for word in self._pinyin:
            if word in text:
                raise ConfigError(
                    f"lexicon: {word!r} has pinyin, which only DashScope takes "
                    "(extra={'hot_fix': lexicon.hot_fix()}); give characters that sound like it"
                )
        return self._pattern.sub(lambda found: self._words[found.group()], text)

    def hot_fix(self) -> dict[str, Any]:
        """Return it as the field `hot_fix` of DashScope's wires, which say it themselves:
        extra={"hot_fix": lexicon.hot_fix()}."""
        fields = {
            "pronunciation": [{word: said} for word, said in self._pinyin.items()],
            "replace": [{word: said} for word, said in self._words.items()],
        }
        return {name: rows for name, rows in fields.items() if rows}

    def __len__(self) -> int:
        return len(self._words) + len(self._pinyin)


def _is_pinyin(word: str, said: str) -> bool:
    return not word.isascii() and _PINYIN.fullmatch(said) is not None


def _pattern(word: str) -> str:
    # Words of letters are not replaced within others: "SQL" not in "MySQL".
    before = f"(?<!{_LETTER.pattern})" if _LETTER.match(word) else ""
    behind = f"(?!{_LETTER.pattern}|[{_ACCENTS}])" if _LETTER.match(word[-1]) else ""
    return f"{before}{re.escape(word)}{behind}"
