"""What CosyVoice's models want to read around texts, transcripts and instructions."""

from __future__ import annotations

import re

__all__ = ["cross_lingual_text", "generation", "instruction", "is_third", "zero_shot_prompt"]

_END = "<|endofprompt|>"
_PREFIX = "You are a helpful assistant."
# CosyVoice-300M is the first generation, not the third: a figure must stand for itself.
_FIGURE = re.compile(r"cosyvoice[-_ ]?(?:v?([123])(?!\d)|300m)", re.IGNORECASE)


def generation(model: str | None) -> int | None:
    """Return which CosyVoice a model's name means, 1 to 3; None where it does not say."""
    found = _FIGURE.search(model or "")
    if found is None:
        return None
    return int(found[1] or 1)


def is_third(model: str | None) -> bool:
    """Return whether this is the name of a CosyVoice 3 model, which demands the marker."""
    return generation(model) == 3


def zero_shot_prompt(transcript: str, model: str | None) -> str:
    """Return what a model reads as the words of its reference recording."""
    return f"{_PREFIX}{_END}{transcript}" if _needs(transcript, model) else transcript


def cross_lingual_text(text: str, model: str | None) -> str:
    """Return what a model reads as the text where there is no transcript."""
    return f"{_PREFIX}{_END}{text}" if _needs(text, model) else text


def instruction(words: str, model: str | None) -> str:
    """Return what a model reads as an instruction; CosyVoice 2 and 3 want its end marked."""
    if _END in words:
        return words
    return f"{_PREFIX} {words}{_END}" if is_third(model) else f"{words}{_END}"


def _needs(text: str, model: str | None) -> bool:
    return is_third(model) and _END not in text
