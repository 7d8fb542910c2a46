"""Texts as plain values, as a broker carries them, and the keys of their sounds."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from cosy_sync import ConfigError, CosyClient, Utterance
from cosy_sync.jobs.names import key_of

__all__ = ["as_item", "item_key", "split"]

_FIELDS = ("text", "id", "voice", "speed")


def as_item(text: Any) -> dict[str, Any]:
    """Return a text, (id, text), Utterance or mapping as plain values for JSON.

    Raises ConfigError for what is none of them.
    """
    if isinstance(text, str):
        return {"text": text}
    if isinstance(text, (tuple, list)) and len(text) == 2:
        return {"text": text[1], "id": _plain(text[0])}
    if isinstance(text, Mapping) and "text" in text and not set(text) - set(_FIELDS):
        return dict(text)
    if isinstance(text, Utterance):
        given = {name: getattr(text, name) for name in _FIELDS}
        if not isinstance(text.voice, (str, type(None))):
            raise ConfigError("voice: of a text that is sent to a worker, give a speaker's name")
        given["id"] = _plain(text.id)
        return {name: value for name, value in given.items() if value is not None}
    shown = sorted(map(str, text)) if isinstance(text, Mapping) else type(text).__name__
    raise ConfigError(
        f"texts: expected texts, ('id', 'text'), or {', '.join(_FIELDS)} as a mapping; got {shown}"
    )


def _plain(id: Any) -> Any:
    """Return an id as JSON has it: numpy's numbers are no int."""
    return operator.index(id) if hasattr(id, "__index__") else id


def item_key(item: Mapping[str, Any], client: CosyClient) -> str:
    """Return the key for an item's sound: of its id, and of what is spoken and how."""
    config, voice = client.config, client.config.voice
    spoken = [
        *(item["text"], item.get("voice"), item.get("speed")),
        *(config.wire, config.model, config.format, config.quality, config.sample_rate),
        *(config.speed, repr(sorted(config.extra.items()))),
    ]
    if voice is not None:
        spoken += [voice.name, voice.instruction, voice.transcript]
        spoken.append(getattr(voice.reference, "digest", None))
    digest = hashlib.blake2b(json.dumps(spoken).encode(), digest_size=16).hexdigest()
    id = item.get("id")
    return key_of(digest if id is None else f"{id}-{digest[:8]}", config.format)


def split(texts: Iterable[Any], size: int = 256) -> Iterator[list[dict[str, Any]]]:
    """Yield the arguments of `speak_to_storage`: lists of so many texts, as plain values.

    Args:
        texts: texts, (id, text) tuples, Utterances, or mappings with text, id, voice and speed.

    Raises ConfigError for another item, and for an id that comes twice.
    """
    if isinstance(texts, (str, bytes, Mapping)):
        raise ConfigError("texts: expected several; of one text make a list: [text]")
    if size < 1:
        raise ConfigError(f"size: must be at least 1, got {size}")
    items = _distinct(map(as_item, texts))
    while chunk := list(islice(items, size)):
        yield chunk


def _distinct(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    places: dict[Any, int] = {}
    for index, item in enumerate(items):
        id = item.get("id")
        before = index if id is None else places.setdefault(str(id), index)
        if before != index:
            raise ConfigError(
                f"id: texts {before} and {index} have the same, {id!r}; ids tell sounds apart, so "
                "give each its own"
            )
        yield item
