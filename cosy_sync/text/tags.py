"""Tags around words, such as <strong>…</strong>: each piece has both ends of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["keep_tags_whole", "strip_tags"]

_TAG = re.compile(r"<(/?)([a-z]{1,20})>")
# Tags within tags, up to which they are closed and opened again.
_DEEPEST = 8


def keep_tags_whole(pieces: Iterable[str]) -> list[str]:
    """Return pieces of one text, where tags that were open at the end of one are closed there, and
    opened again at the beginning of the next.

    A tag without its other end is a word as any.
    """
    given = list(pieces)
    if not any("</" in piece for piece in given):
        return given
    ends = _find_pairs(given)
    whole = []
    held: list[str] = []
    for number, piece in enumerate(given):
        begin = "".join(f"<{name}>" for name in held)
        for found in _TAG.finditer(piece):
            if (number, found.start()) in ends:
                if found.group(1):
                    held.remove(found.group(2))
                else:
                    held.append(found.group(2))
        end = "".join(f"</{name}>" for name in reversed(held))
        if len(held) > _DEEPEST:
            return given
        whole.append(f"{begin}{piece}{end}" if piece.strip() else piece)
    return whole


def strip_tags(text: str) -> str:
    """Return a text without its tags."""
    return _TAG.sub("", text) if "<" in text else text


def _find_pairs(pieces: list[str]) -> set[tuple[int, int]]:
    """Return where the tags stand that have both ends: piece, and place in it."""
    opened: dict[str, list[tuple[int, int]]] = {}
    pairs: set[tuple[int, int]] = set()
    for number, piece in enumerate(pieces):
        for found in _TAG.finditer(piece):
            place = number, found.start()
            waiting = opened.setdefault(found.group(2), [])
            if not found.group(1):
                waiting.append(place)
            elif waiting:
                pairs |= {waiting.pop(), place}
    return pairs
