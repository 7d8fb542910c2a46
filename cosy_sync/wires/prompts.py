"""What CosyVoice's models want to read around texts, transcripts and instructions."""

from __future__ import annotations

import re

from ..errors import ConfigError, TextError
from . import item_errors
from .base import VOICES, SpeechOptions

__all__ = [
    "check_model",
    "cross_lingual_text",
    "generation",
    "instruction",
    "is_third",
    "nothing_spoken",
    "zero_shot_prompt",
]

_END = "<|endofprompt|>"
_PREFIX = "You are a helpful assistant."
# CosyVoice-300M is the first generation, not the third: a figure must stand for itself.
_FIGURE = re.compile(r"cosyvoice[-_ ]?(?:v?([123])(?!\d)|300m)", re.IGNORECASE)

# Of a model's generation: what it speaks at, in Hz.
_RATES = {1: 22_050, 2: 24_000, 3: 24_000}


def generation(model: str | None) -> int | None:
    """Return which CosyVoice a model's name means, 1 to 3; None where it does not say."""
    found = _FIGURE.search(model or "")
    if found is None:
        return None
    return int(found[1] or 1)


def is_third(model: str | None) -> bool:
    """Return whether this is the name of a CosyVoice 3 model, which demands the marker."""
    return generation(model) == 3


def check_model(options: SpeechOptions, *, tells_rate: bool) -> None:
    """Raise ConfigError for what this generation of models is known not to have.

    Args:
        options: What is asked for. A model whose name does not say its generation passes.
        tells_rate: The service says at which rate it speaks. Where it does not, its sound would
            play too fast or too slow at any other.
    """
    known = generation(options.model)
    if known is None:
        return
    model, rate, voice = options.model, _RATES[known], options.voice
    if not tells_rate and options.sample_rate != rate:
        raise ConfigError(f"sample_rate: {model} speaks at {rate} Hz; set sample_rate={rate}")
    if voice is None or voice.instruction is None:
        return
    if (voice.name is not None) != (known == 1):
        right = VOICES["name" if known == 1 else "reference"]
        raise ConfigError(f"voice: {model} takes an instruction only with {right}")


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


def nothing_spoken(model: str | None, request_id: str | None = None) -> TextError:
    """Return the error of a text whose reply ended well and empty: it will be so again."""
    hint = "" if model else "; if its model is CosyVoice 3, say model='CosyVoice3'"
    return TextError(
        "the service found nothing to speak in this text (it drops what is punctuation alone); "
        f"change or drop it{hint}",
        status=200,
        code="empty",
        blames=item_errors.TEXT if model else None,  # else the model may be to blame
        request_id=request_id,
    )


def _needs(text: str, model: str | None) -> bool:
    return is_third(model) and _END not in text
