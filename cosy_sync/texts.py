"""What may be sent as a text, and what is refused before it costs anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import ConfigError, CosyError, InvalidTextError
from .models import Utterance, text_hash

__all__ = [
    "as_text",
    "check_order",
    "check_read_ahead",
    "check_several",
    "check_text",
    "is_several",
    "prepare_text",
    "refuse_surrogates",
]

# What to do with what is no text.
_INSTEAD = {
    "bytes": "; decode it: text.decode('utf-8')",
    "list": "; for several texts use synth_many",
    "tuple": "; for several texts use synth_many",
    "Utterance": "; give its text, and its voice beside it: synth(text, voice=...)",
    "NoneType": "; leave it out",
    "PosixPath": "; read the file first: path.read_text('utf-8')",
    "WindowsPath": "; read the file first: path.read_text('utf-8')",
}


def check_text(index: int, text: Any, max_chars: int) -> Utterance:
    """Make an utterance of a text. Raises InvalidTextError, which says what to do about it."""
    if not isinstance(text, str):
        text = as_text(index, text)
    elif type(text) is not str:
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
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _not_encodable(index, text, error.start) from None
    return Utterance(text, index=index)


def as_text(index: int | None, given: Any) -> str:
    """Return the text that an object stands for, such as a translation that is looked up late.

    Raises InvalidTextError for what stands for none.
    """
    if isinstance(given, str):
        return given
    if not _stands_for_text(given):
        kind = type(given).__name__
        instead = _INSTEAD.get(kind, "")
        raise InvalidTextError(f"expected a text, got {kind}{instead}", index=index)
    try:
        return str(given)
    except Exception as error:
        raise InvalidTextError(
            f"a {type(given).__name__} was given that cannot be read as a text "
            f"({type(error).__name__})",
            index=index,
        ) from error


def prepare_text(index: int | None, given: Any, functions: Sequence[Callable[[str], str]]) -> str:
    """Return what the functions of `prepare=` make of a text, one after the other.

    Raises InvalidTextError where one fails or returns no text; it never quotes the text.
    """
    text = whole = as_text(index, given)
    if not text.strip():
        return text  # it is refused anyway
    for function in functions:
        try:
            text = function(text)
        except Exception as error:
            known = error.message if isinstance(error, CosyError) else "see the cause"
            raise _unprepared(
                index, whole, function, f"raised {type(error).__name__}: {known}"
            ) from error
        if not isinstance(text, str):
            kind = type(text).__name__
            missing = "; does it lack its return?" if text is None else ""
            raise _unprepared(index, whole, function, f"returned {kind}, not a text{missing}")
    if not text.strip():
        raise _unprepared(index, whole, functions[-1], "left nothing of it; leave it out")
    return text


def _unprepared(index: int | None, text: str, function: Any, what: str) -> InvalidTextError:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return InvalidTextError(f"prepare: {name} {what}", index=index, text_hash=text_hash(text))


def _stands_for_text(given: Any) -> bool:
    """Tell whether an object that is no str behaves like one: Django's gettext_lazy, say."""
    try:
        encode = getattr(given, "encode", None)
        # Mocks have every method; what they return shows them.
        return callable(encode) and isinstance(encode("utf-8", "surrogatepass"), bytes)
    except Exception:
        return False


def is_several(given: Any) -> bool:
    """Tell whether these are several texts or pieces, and not one."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return False
    return not _stands_for_text(given)


def check_several(texts: Any) -> None:
    """Raise InvalidTextError for one text instead of many, and for texts that have no order."""
    if not isinstance(texts, Iterable):
        kind = type(texts).__name__
        raise InvalidTextError(f"expected a list or another iterable of texts, got {kind}")
    if not is_several(texts):
        raise InvalidTextError("expected several texts, got one; put it in a list or use synth()")
    check_order(texts)


def check_order(texts: Any) -> None:
    """Raise InvalidTextError for a dict, whose keys would be spoken, and for a set: results come
    in the order of the texts."""
    if isinstance(texts, Mapping):
        raise InvalidTextError(
            f"expected a list of texts, got a {type(texts).__name__}, of which only the keys would "
            "be spoken; give list(texts.items()), whose keys are the ids of the results, or "
            "list(texts.values())"
        )
    if isinstance(texts, (set, frozenset)):
        raise InvalidTextError(
            f"expected a list of texts, got a {type(texts).__name__}, which has no order for the "
            "results to follow; give sorted(texts)"
        )


def check_read_ahead(texts: Any) -> None:
    """Raise ConfigError unless this is a number of texts, or None."""
    if texts is not None and not (type(texts) is int and texts > 0):
        raise ConfigError(f"read_ahead: must be a whole number of texts above 0, got {texts!r}")


def refuse_surrogates(text: str) -> None:
    """Raise InvalidTextError for a text that UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _not_encodable(None, text, error.start) from None


def _not_encodable(index: int | None, text: str, place: int) -> InvalidTextError:
    return InvalidTextError(
        f"character {place} of the text is half of a surrogate pair, which UTF-8 cannot hold; it "
        "was probably decoded wrongly (errors='surrogateescape')",
        index=index,
        text_hash=text_hash(text),
    )
