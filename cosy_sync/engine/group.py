"""Texts of a batch that are sent together, and what becomes of them when they fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from ..endpoints.endpoint import EndpointState
from ..errors import CosyError
from ..models import Utterance
from ..policies import FirstTry

__all__ = ["Fate", "Group", "TooLarge"]


class Fate(Enum):
    """What becomes of a part that failed."""

    # It is an attempt like any other.
    CHARGED = 0
    # The same, but the next attempt sends only some of its texts first.
    PROBED = 1
    # No attempt: its texts are sent again in smaller parts.
    SPLIT = 2
    # No attempt: what becomes of other parts decides.
    PARKED = 3


@dataclass(slots=True)
class TooLarge:
    """Texts that failed together and are sent in smaller parts; `left` were not answered yet.

    `sure`: they failed while other calls were answered.
    """

    failed: int
    part: int
    left: int
    sure: bool = True


@dataclass(slots=True)
class Group:
    """Texts of a batch that are sent together, and the endpoints where they failed before.

    `most` of them are sent first, None for all, and the rest waits for how these fare. `passed`:
    so many were answered after they all had failed together, 0 where none were.
    """

    texts: Sequence[Utterance]
    avoid: tuple[EndpointState, ...] = ()
    attempt: int = 1
    most: int | None = None
    passed: int = 0
    # It has `most` although it has not failed yet.
    fresh: bool = False
    mark: TooLarge | None = None
    # How many calls had been answered when it was sent first, None before; of what one text may
    # have broken, when it failed last.
    heard: int | None = None
    # How often its texts failed together with others that were sent apart from them afterwards.
    splits: int = 0
    # How many texts the retry budget has paid for to be sent first.
    paid: int = 0
    # When it may be sent again.
    due: float = 0.0
    # Where and how it failed, while it waits for what becomes of other parts.
    parked: tuple[EndpointState, CosyError] | None = None
    # How its texts first fared at each endpoint where they failed.
    firsts: dict[EndpointState, FirstTry] = field(default_factory=dict)

    def part(self, size: int) -> Group:
        """Return the group of its first texts, or itself."""
        return self if size >= len(self.texts) else self._with(self.texts[:size])

    def fits(self, endpoint: EndpointState) -> bool:
        """Return whether as many texts have passed there: then their number broke nothing."""
        return len(self.texts) <= max(1, endpoint.sizes.best)

    def rest(self, part: Group) -> list[Group]:
        """Return what is left without a part, as a group or none."""
        return [] if part is self else [self._with(self.texts[len(part.texts) :])]

    def again(
        self,
        endpoint: EndpointState,
        texts: Sequence[Utterance],
        apart: Sequence[Utterance],
        due: float,
    ) -> list[Group]:
        """Return texts of it that failed there, to be sent again: some together, others apart."""
        group = Group((), (*self.avoid, endpoint), self.attempt + 1)
        group = replace(group, firsts=self.firsts, splits=self.splits, due=due)
        groups = [texts, *([text] for text in apart)]
        return [replace(group, texts=each) for each in groups if each]

    def _with(self, texts: Sequence[Utterance]) -> Group:
        return replace(self, texts=texts, firsts=dict(self.firsts))
