"""What may be sent as a text, and what is refused before it costs anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .errors import InvalidTextError
from .models import Outcome, Utterance, text_hash

__all__ = ["check_text", "check_texts"]


def check_text(index: int, text: Any, max_chars: int) -> Utterance:
    """Make an utterance of a text. Raises InvalidTextError, which says what to do about it."""
    if not isinstance(text, str):
        raise InvalidTextError(f"expected a text, got {type(text).__name__}", index=index)
    if type(text) is not str:
        text = str.__str__(text)  # its characters: methods of a subclass may do anything
    if not text or text.isspace():
        raise InvalidTextError("the text is empty; leave it out", index=index)
    if len(text) > max_chars:
        raise InvalidTextError(
            f"the text has {len(text)} characters, more than {max_chars}; split it, or raise "
            "BatchConfig(max_text_chars=...) if the service takes it",
            index=index,
            text_hash=text_hash(text),
        )
    if not text.isascii():
        _check_encodable(index, text)
    return Utterance(index, text)


def check_texts(texts: Iterable[Any], max_chars: int) -> Iterator[Utterance | Outcome]:
    """Yield an utterance for each good text and a failed outcome for each bad one, as pulled.

    Raises InvalidTextError at once when it is given one text instead of many.
    """
    if isinstance(texts, (str, bytes)):
        raise InvalidTextError("expected several texts, got one; put it in a list or use synth()")
    if not isinstance(texts, Iterable):
        kind = type(texts).__name__
        raise InvalidTextError(f"expected a list or another iterable of texts, got {kind}")
    return _each(texts, max_chars)


def _each(texts: Iterable[Any], max_chars: int) -> Iterator[Utterance | Outcome]:
    for index, text in enumerate(texts):
        try:
            yield check_text(index, text, max_chars)
        except InvalidTextError as error:
            yield Outcome(index, text, None, error)


def _check_encodable(index: int, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidTextError(
            f"character {error.start} of the text is half of a surrogate pair, which UTF-8 cannot "
            "hold; it was probably decoded wrongly (errors='surrogateescape')",
            index=index,
            text_hash=text_hash(text),
        ) from None
