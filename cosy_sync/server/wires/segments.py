"""Texts to segments, about as the text front end of CosyVoice's runtimes cuts them."""

from __future__ import annotations

import unicodedata

__all__ = ["split_segments"]

_ENDS = frozenset("。？！；：、.?!;:")
_CLOSING = frozenset('"”')
# Characters of a segment: at most, before it may end, and of a rest that joins the one before.
_MOST = 80
_LEAST = 60
_REST = 20


def split_segments(text: str) -> list[str]:
    """Return what is spoken one after the other; nothing for punctuation alone.

    A text with both `<|` and `|>` stays whole. Lengths count characters: the real front end
    counts a language model's tokens where the text is English.
    """
    if "<|" in text and "|>" in text:
        return [text]
    return [segment for segment in _joined(_sentences(text.strip())) if not _is_silent(segment)]


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    start = 0
    for place, char in enumerate(text):
        if char in _ENDS:
            end = place + 1
            end += text[end : end + 1] in _CLOSING
            if place > start:
                sentences.append(text[start:end])
            start = end
    return [*sentences, text[start:]] if start < len(text) else sentences


def _joined(sentences: list[str]) -> list[str]:
    segments: list[str] = []
    current = ""
    for sentence in sentences:
        if len(current) > _LEAST and len(current) + len(sentence) > _MOST:
            segments.append(current)
            current = ""
        current += sentence
    if segments and len(current) < _REST:
        segments[-1] += current
    elif current:
        segments.append(current)
    return segments


def _is_silent(segment: str) -> bool:
    return all(unicodedata.category(char)[0] in "PS" for char in segment)
