"""Silence: since when an endpoint has answered nothing, though it was asked."""

from __future__ import annotations

import math

__all__ = ["Silence", "begin_of"]

# Share of a deadline after which a silent service is taken to be away.
_AWAY = 0.5


def begin_of(now: float, since: float, seconds: float) -> float:
    """Return since when the time of a text counts that is sent now and has so many seconds.

    Where its service has answered nothing `since` an instant, for half of that time or longer, the
    text shares the time of those that were sent then: a call to a dead service takes its deadline
    once, not once for each of its batches.
    """
    return since if now - since >= _AWAY * seconds else now


class Silence:
    """Begins with a call to an endpoint that owes nothing, and anew with each answer while others
    are due. A failure is no answer: it goes on, until one succeeds.

    Used by any thread without a lock: each step is atomic, and of two that meet the worst outcome
    is a silence that begins with the next call.
    """

    __slots__ = ("_due", "since")

    def __init__(self) -> None:
        # The instant; infinite while the endpoint owes no answer.
        self.since = math.inf
        self._due: set[object] = set()

    def ask(self, call: object, now: float) -> None:
        """Note a call that is sent."""
        self._due.add(call)
        if self.since == math.inf:
            self.since = now

    def end(self, call: object, answered: bool, now: float) -> None:
        """Note that a call ended, and whether the endpoint answered it."""
        self._due.discard(call)
        if answered:
            self.since = now if self._due else math.inf
