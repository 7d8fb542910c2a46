"""The bytes of audio that one call holds: coming in, or waiting for their turn."""

from __future__ import annotations

import threading
import time

__all__ = ["Backlog", "Unbounded"]

# Seconds that a reply waits for room at most. It stands in the network's buffers meanwhile, and a
# server will not be patient for ever: after that it comes in, room or not.
_PATIENCE = 2.0


class Backlog:
    """Keeps replies out while much is held already, as long as that helps.

    Outcomes are handed out in input order, so the reply that is next always comes in: it lets the
    others go. And when the caller has nothing left to take while all batches under way wait here,
    the next one was not even sent: then the foremost of them comes in.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Guards: everything below. Those who wait for room wait on it.
        self._lock = threading.Condition(threading.Lock())
        self._held = 0
        self._next = 0
        self._under_way = 0
        self._waiting: list[int] = []
        self._starving = False
        self._given_up = False

    @property
    def full(self) -> bool:
        """Return whether no more should be asked for."""
        return self._held >= self._limit

    def expect(self, batches: int) -> None:
        """Note that so many more batches are under way, or fewer."""
        with self._lock:
            self._under_way += batches
            self._lock.notify_all()

    def starve(self, starving: bool) -> None:
        """Note whether the caller waits for outcomes, with none left to take."""
        with self._lock:
            self._starving = starving
            self._lock.notify_all()

    def enter(self, first: int, size: int, seconds: float) -> None:
        """Take in a reply of so many bytes, whose first text is this one; wait for room."""
        until = time.monotonic() + min(seconds, _PATIENCE)
        with self._lock:
            self._waiting.append(first)
            self._lock.notify_all()
            while self._must_wait(first, size):
                if not self._lock.wait(max(0.0, until - time.monotonic())):
                    break
            self._waiting.remove(first)
            self._held += size

    def change(self, size: int) -> None:
        """Note that a reply is smaller or larger than it was announced, or gone."""
        with self._lock:
            self._held += size
            self._lock.notify_all()

    def hand_out(self, following: int, size: int) -> None:
        """Note that the caller took so many bytes, and which text follows."""
        with self._lock:
            self._next = following
            self._held -= size
            self._lock.notify_all()

    def give_up(self) -> None:
        """Let everybody in: nobody takes outcomes any more."""
        with self._lock:
            self._given_up = True
            self._lock.notify_all()

    def _must_wait(self, first: int, size: int) -> bool:
        if self._given_up or not self._held or self._held + size <= self._limit:
            return False
        stuck = self._starving and len(self._waiting) >= self._under_way
        return first > self._next and not (stuck and first == min(self._waiting))


class Unbounded(Backlog):
    """For a call whose caller keeps all the audio anyway: everything comes in at once."""

    def __init__(self) -> None:
        super().__init__(0)

    @property
    def full(self) -> bool:
        """Return False."""
        return False

    def expect(self, batches: int) -> None:
        """Do nothing."""

    def starve(self, starving: bool) -> None:
        """Do nothing."""

    def enter(self, first: int, size: int, seconds: float) -> None:
        """Do nothing."""

    def change(self, size: int) -> None:
        """Do nothing."""

    def hand_out(self, following: int, size: int) -> None:
        """Do nothing."""

    def give_up(self) -> None:
        """Do nothing."""
