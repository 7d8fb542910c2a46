"""The texts of one call, pulled from their source as its outcomes are taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ..models import Outcome, Utterance

__all__ = ["Intake"]

# Texts in a row that cannot be sent, after which their outcomes are handed out first.
_MOST_REFUSED = 64


class Intake:
    """Pulls texts, at most `most` of them ahead of those whose outcomes were taken.

    Where it has gone so far, it goes on when there is room for a whole batch: else each outcome
    that is taken would let one text go as a batch of its own.

    Args:
        texts: The source; an outcome among them is that of a text that cannot be sent, and a None
            lets go what there is.
        done: Where such outcomes are put, by their index.
        size: Texts in a whole batch.
    """

    def __init__(
        self, texts: Iterable[Utterance | Outcome | None], done: dict[int, Outcome], size: int
    ) -> None:
        self._texts = texts
        self._done = done
        self.size = size
        self.most = math.inf
        # How many texts were pulled, and how many outcomes taken.
        self.pulled = self.taken = 0
        # It may go on to this many, before it looks again.
        self._until = 0.0

    def texts(self) -> Iterator[Utterance | None]:
        """Yield those that can be sent; None where what there is should go now, or to wait."""
        refused, source = 0, iter(self._texts)
        while True:
            while self.pulled >= self._until:
                room = self.taken + self.most - self.pulled
                if room < min(self.size, self.most):
                    yield None
                else:
                    self._until = self.pulled + room
            try:
                text = next(source)
            except StopIteration:
                return
            if text is None:
                yield None
                continue
            self.pulled += 1
            if isinstance(text, Utterance):
                refused = 0
                yield text
                continue
            self._done[text.index] = text
            refused += 1
            if refused % _MOST_REFUSED == 0:
                yield None
