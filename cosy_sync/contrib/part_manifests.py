"""Manifests of chunks, each put beside the sounds, and joined into one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from cosy_sync import CosyError
from cosy_sync.storage import Sink

__all__ = [
    "count_parts",
    "error_line",
    "join_parts",
    "part_key",
    "put_part",
    "read_end",
]

_META = {"content-type": "application/jsonl"}
# Of an error, in its line.
_TOLD = ("type", "message", "status", "code")


def part_key(run: str, number: int) -> str:
    """Return where the manifest of a run's chunk is put."""
    return f".cosy-parts/{run}/{number:06d}.jsonl"


def put_part(store: Sink, key: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Put a chunk's manifest into the store. Raises OSError."""
    said = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    store.put(key, said.encode("utf-8", "replace"), _META, if_absent=False)


def error_line(item: Any, error: BaseException) -> dict[str, Any]:
    """Return the line of a text that has no sound."""
    told = error.to_dict() if isinstance(error, CosyError) else {"message": str(error)}
    known = {"type": type(error).__name__, **told}
    given = dict(item) if isinstance(item, Mapping) else {"text": item}
    return {**given, "error": {name: known.get(name) for name in _TOLD}}


def count_parts(store: Sink, run: str, count: int, seen: int) -> int:
    """Return how many of a run's parts are there, one after the other; `seen` of them surely."""
    while seen < count and store.head(part_key(run, seen)) is not None:
        seen += 1
    return seen


def read_end(store: Sink, run: str) -> dict[str, Any] | None:
    """Return what became of a run whose parts were joined; None of one that goes on."""
    try:
        told: dict[str, Any] = json.loads(store.get(_end_key(run)))
    except FileNotFoundError:
        return None
    return told


def join_parts(store: Sink, run: str, count: int, name: str) -> dict[str, Any]:
    """Join a run's parts into one manifest in the store, and remove them; return its key and its
    counts, which `read_end` returns from now on.

    Raises OSError.
    """
    keys = [part_key(run, number) for number in range(count)]
    texts, failed, seconds = 0, 0, 0.0
    with tempfile.NamedTemporaryFile() as file:
        for key in keys:
            data = store.get(key)
            file.write(data)
            for line in map(json.loads, data.splitlines()):
                texts, failed = texts + 1, failed + ("error" in line)
                seconds += line.get("seconds") or 0.0
        file.flush()
        store.put_file(name, file.name, _META)
    told = {"manifest": name, "texts": texts, "failed": failed, "seconds": round(seconds, 3)}
    # In this order: whoever joins them a second time finds the note, or all parts.
    store.put(_end_key(run), json.dumps(told).encode(), _META, if_absent=False)
    with suppress(OSError):  # keys that may not remove them leave them there
        store.delete(keys)
    return told


def _end_key(run: str) -> str:
    return f".cosy-parts/{run}.json"
