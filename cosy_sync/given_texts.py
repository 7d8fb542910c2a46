"""The texts of a call of many as the user gave them, and as they are sent."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .config import CallSettings, ClientConfig
from .errors import ConfigError, CosyError, InvalidTextError
from .models import Outcome, Utterance, Voice
from .texts import as_text, check_several, check_text, prepare_text

__all__ = ["GivenTexts", "Item", "as_item"]

Id = str | int
# What a call of many texts takes.
Item = str | tuple[Id, str] | Utterance

# What to do with an item that is none.
_INSTEAD = {
    "list": "; a text with its id is a tuple, ('id', 'text'), or an Utterance",
    "dict": "; write Utterance(text, id=...)",
    "mappingproxy": "; write Utterance(text, id=...)",
}


class GivenTexts:
    """Checks and prepares texts as they are pulled; gives their outcomes the ids and the texts that
    they came with.

    Items are texts, (id, text) tuples, or Utterances. The engine knows nothing of ids.

    Args:
        texts: The items. Raises InvalidTextError at once for one text in place of several, and for
            what has no order.
        config: The call's settings.
        settle: Makes the engine's settings of an item's own. Raises ConfigError.
        distinct: Whether an id that comes twice is refused; else none is remembered for longer than
            its outcome is awaited.
    """

    def __init__(
        self,
        texts: Iterable[Any],
        config: ClientConfig,
        settle: Callable[[CallSettings], ClientConfig],
        *,
        distinct: bool,
    ) -> None:
        check_several(texts)
        self._texts = texts
        self._config = config
        self._settle = settle
        # What the outcomes of items bear, by their place.
        self.items: dict[int, Utterance] = {}
        # The places of ids.
        self._places: dict[Id, int] | None = {} if distinct else None

    def __iter__(self) -> Iterator[Utterance | Outcome]:
        """Yield an utterance for each good text, and a failed outcome for each bad one."""
        most, plain = self._config.batch.max_text_chars, not self._config.prepare
        for index, given in enumerate(self._texts):
            item: Utterance | None = None
            try:
                if plain and isinstance(given, str):
                    utterance = check_text(index, given, most)
                else:
                    item = as_item(index, given)
                    utterance = self._read(index, item)
            except (InvalidTextError, ConfigError) as error:
                yield self._refuse(index, given, item, error)
            else:
                yield utterance

    def restore(self, outcome: Outcome) -> Outcome:
        """Return an outcome as that of the item which the user gave.

        They come in input order: what belongs to those before is forgotten.
        """
        self.items.pop(outcome.index - 1, None)
        item = self.items.get(outcome.index)
        if item is None:
            return outcome
        error = outcome.error
        if error is not None and item.id is not None:
            error = error.with_details(id=item.id)
        return Outcome(outcome.index, item.text, outcome.audio, error, item.id)

    def _read(self, index: int, item: Utterance) -> Utterance:
        text = given = as_text(index, item.text)
        if self._config.prepare:
            text = prepare_text(index, given, self._config.prepare)
        utterance = check_text(index, text, self._config.batch.max_text_chars)
        if item.id is not None or text != given:
            id = None if item.id is None else _as_id(item.id)
            item = Utterance(given, id=id, voice=item.voice, speed=item.speed)
            self._note_id(index, item)
            self.items[index] = item
        own = self._own(item)
        if own:
            utterance.settings = self._settle(own)
        return utterance

    def _note_id(self, index: int, item: Utterance) -> None:
        if self._places is None or item.id is None:
            return
        before = self._places.setdefault(item.id, index)
        if before != index:
            raise InvalidTextError(
                f"text {before} has the same id; ids tell outcomes apart, so give each its own"
            )

    def _own(self, item: Utterance) -> CallSettings:
        """Return what an item wants otherwise than its call: those that want the same share
        batches."""
        own = CallSettings()
        voice, speed = item.voice, item.speed
        if voice is not None:
            voice = voice if isinstance(voice, Voice) else Voice(voice)
            if voice != self._config.voice:
                own["voice"] = voice
        if speed is not None and speed != self._config.speed:
            own["speed"] = speed
        return own

    def _refuse(self, index: int, given: Any, item: Utterance | None, error: CosyError) -> Outcome:
        """Return the outcome of an item that cannot be sent."""
        if item is None:
            return Outcome(index, given, None, error.with_details(index=index))
        if item.id is not None:
            error = error.with_details(id=item.id)
        return Outcome(index, item.text, None, error.with_details(index=index), item.id)


def as_item(index: int, given: Any) -> Utterance:
    """Return what is to be spoken, with its id and voice if it has any. Raises InvalidTextError."""
    if isinstance(given, Utterance):
        return given
    if not isinstance(given, tuple):
        kind = type(given).__name__
        if kind in _INSTEAD:
            raise InvalidTextError(f"expected a text, got {kind}{_INSTEAD[kind]}", index=index)
        return Utterance(given)
    if len(given) != 2:
        raise InvalidTextError(
            f"expected ('id', 'text'), got a tuple of {len(given)}; write Utterance(text, id=..., "
            "voice=..., speed=...) for more",
            index=index,
        )
    return Utterance(given[1], id=given[0])


def _as_id(given: Any) -> Id:
    if isinstance(given, str):
        return given
    if not isinstance(given, bool) and hasattr(given, "__index__"):
        return operator.index(given)  # numpy's numbers are no int
    kind = type(given).__name__
    raise InvalidTextError(f"id: expected a str or an int, got {kind}; write str(...)")
