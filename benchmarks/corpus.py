"""The 64 texts that every benchmark speaks: distinct and equally long, so batches keep order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

__all__ = [
    "BATCH",
    "FIXED_TEXTS",
    "batch_body",
    "request_body",
    "same_text",
    "speech_body",
    "texts_of",
    "whole_batches",
]

BATCH = 64
_NUMERALS = "零一二三四五六七"

FIXED_TEXTS = tuple(f"请{high}{low}号车辆直行通过" for high in _NUMERALS for low in _NUMERALS)


def texts_of(count: int) -> Iterator[str]:
    """Repeat the fixed texts until there are so many."""
    return itertools.islice(itertools.cycle(FIXED_TEXTS), count)


def same_text(count: int) -> Iterator[str]:
    """Repeat one text so many times: the upstream answers every call with the same recording,
    which is right for one text only."""
    return itertools.repeat(FIXED_TEXTS[0], count)


def whole_batches(count: int) -> int:
    """Round up to whole batches: the upstream's reply always holds 64 texts."""
    return -(-count // BATCH) * BATCH


def request_body(size: int = 5_000) -> bytes:
    """Return a valid request of about so many bytes: one text."""
    text = "直行" * (size // 6)
    return json.dumps({"texts": [text]}, ensure_ascii=False).encode()


def batch_body() -> bytes:
    """Return a valid request of all fixed texts."""
    return json.dumps({"texts": FIXED_TEXTS}, ensure_ascii=False).encode()


def speech_body() -> bytes:
    """Return a valid request of one fixed text, as the wire openai has it."""
    return json.dumps({"input": FIXED_TEXTS[0]}, ensure_ascii=False).encode()
