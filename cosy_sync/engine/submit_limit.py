"""How many texts of `submit` are accepted, and which is refused when that is too many."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import ShedError
from ..threads.permits import Permits

__all__ = ["SubmitLimit", "SubmitSlot"]


class SubmitSlot:
    """One text's share of the limit, taken until the text has its outcome.

    Args:
        give_up: Ends the text with this error and gives the slot back, unless its work began;
            returns whether it did. Called on the thread of the text that needs the slot.
        tenant: Whose slots are handed out in turns with those of others.
        urgent: Goes first, and may take the place of one that is not.
    """

    __slots__ = ("_left", "give_up", "taken", "tenant", "urgent")

    def __init__(self, give_up: Callable[[ShedError], bool], *, tenant: str, urgent: bool) -> None:
        self.give_up: Callable[[ShedError], bool] | None = give_up
        self.tenant = tenant
        self.urgent = urgent
        self.taken = False
        self._left = threading.Lock()

    def vacate(self) -> bool:
        """Return whether this is the first time: it may be displaced just as its text ends."""
        return self.taken and self._left.acquire(blocking=False)


class SubmitLimit:
    """At most `limit` texts, waiting or in flight.

    Args:
        limit: How many.
        sheds: When all are taken, refuse at once instead of waiting, and let an urgent text
            displace the latest of the others.
    """

    def __init__(self, limit: int, *, sheds: bool) -> None:
        self._limit = limit
        self._sheds = sheds
        self._permits = Permits(limit)
        # Those that may be displaced, oldest first. Every use of it is one atomic step.
        self._yielding: dict[SubmitSlot, None] = {}

    @property
    def used(self) -> int:
        """Return how many are taken."""
        return self._permits.used

    def take(self, slot: SubmitSlot, seconds: float) -> None:
        """Give a text its slot.

        Waits at most `seconds`, not at all when it sheds. Raises ShedError; ClosedError when
        closed, also while waiting.
        """
        kind = {"key": slot.tenant, "urgent": slot.urgent}
        if not self._sheds:
            slot.taken = self._permits.acquire(seconds=seconds, **kind)  # type: ignore[arg-type]
            if not slot.taken:
                raise self._error(f"and none ended within {seconds:g} s")
            return
        while not slot.taken:
            slot.taken = self._permits.acquire(**kind)  # type: ignore[arg-type]
            if not slot.taken and not (slot.urgent and self._displace()):
                raise self._error("and LimitConfig(on_full='shed') lets no more wait")
        if not slot.urgent:
            self._yielding[slot] = None

    def leave(self, slot: SubmitSlot) -> None:
        """Give a slot back, if it was taken; a second time does nothing."""
        if not slot.vacate():
            return
        self._yielding.pop(slot, None)
        # It refers to the slot and to the text's audio: a cycle that only the collector would free.
        slot.give_up = None
        self._permits.release()

    def close(self) -> None:
        """Wake those who wait; no slot is given any more."""
        self._permits.close()

    def _displace(self) -> bool:
        """Let the latest of those that may be displaced go; return whether one did."""
        while True:
            try:
                slot, _ = self._yielding.popitem()
            except KeyError:
                return False
            give_up = slot.give_up
            if give_up and give_up(self._error("and an interactive one needed the place")):
                return True

    def _error(self, why: str) -> ShedError:
        return ShedError(
            f"{self._limit} texts are submitted and not finished, {why}; wait for some, use "
            "synth_many, or raise LimitConfig(max_submitted)"
        )
