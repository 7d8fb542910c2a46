"""The bytes of audio that one call holds: coming in, or waiting for their turn."""

from __future__ import annotations

import threading
import time

__all__ = ["Backlog"]

# Seconds that a reply waits for room. It stands in the network's buffers meanwhile, and a server
# will not be patient for ever: after that it comes in, room or not.
_PATIENCE = 2.0


class Backlog:
    """Keeps replies out while much is held already, but never the one that is next in order.

    That one lets the others go: outcomes are handed out in input order, so without it nothing
    would ever become free.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Guards: _held, _next, _given_up. Those who wait for room wait on it.
        self._lock = threading.Condition(threading.Lock())
        self._held = 0
        self._next = 0
        self._given_up = False

    @property
    def full(self) -> bool:
        """Return whether no more should be asked for."""
        return self._held >= self._limit

    def enter(self, first: int, size: int) -> None:
        """Take in a reply of so many bytes, whose first text is this one; wait for room."""
        until = time.monotonic() + _PATIENCE
        with self._lock:
            while not self._given_up and self._crowds(first, size):
                if not self._lock.wait(until - time.monotonic()):
                    break
            self._held += size

    def give_up(self) -> None:
        """Let everybody in: nobody takes outcomes any more."""
        with self._lock:
            self._given_up = True
            self._lock.notify_all()

    def _crowds(self, first: int, size: int) -> bool:
        return bool(self._held) and self._held + size > self._limit and first > self._next

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
