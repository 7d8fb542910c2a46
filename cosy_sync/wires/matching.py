"""Which result belongs to which text: every index exactly once, or nobody gets the audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BadAudioError, CosyError
from ..messages import Payload

__all__ = ["index_of", "match_results"]


def index_of(value: Any) -> int:
    """Read the index of a JSON result or an X-Index header; raise BadAudioError for others."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _bad("index", "an index that is no whole number")


def match_results(
    claims: Sequence[tuple[int | None, Payload | CosyError]], count: int
) -> list[Payload | CosyError]:
    """Put results where they belong; what is missing or claimed twice becomes an error there.

    Without any index the order counts. Raises BadAudioError when the positions cannot be trusted:
    another number of results, an index out of range, or only some with an index.
    """
    bare = sum([index is None for index, _ in claims])
    if bare:
        if bare < len(claims):
            raise _bad("index", f"{bare} of {len(claims)} results without an index")
        if bare != count:
            raise _bad("count", f"{bare} results for {count} texts")
        return [result for _, result in claims]
    if count and not claims:
        raise _bad("count", f"no results for {count} texts")
    placed: list[Payload | CosyError | None] = [None] * count
    doubled: set[int] = set()
    for index, result in claims:
        if index is None or not 0 <= index < count:
            raise _bad("index", f"the index {index} for {count} texts")
        if placed[index] is not None:
            doubled.add(index)
        placed[index] = result
    # Nobody knows which of two claims is right, so neither is used.
    for index in doubled:
        placed[index] = _bad("index", f"index {index} more than once")
    return [_bad("missing", "none for this text") if item is None else item for item in placed]


def _bad(reason: str, what: str) -> BadAudioError:
    return BadAudioError(
        f"expected one result per text, got {what}; try again, and look at the service if it stays",
        reason=reason,
    )
