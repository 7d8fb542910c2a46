"""The bytes of audio that one call holds: coming in, or waiting for those before."""

from __future__ import annotations

import math
import threading
from bisect import insort
from collections.abc import Callable
from operator import attrgetter

from ..threads import leave

__all__ = ["ReorderBuffer", "Unbounded"]

# Seconds that a reply waits for room at most. It waits in the network's buffers, and a server cuts
# off a client that reads nothing for long: after this time it comes in, room or not.
_PATIENCE = 2.0
# Batches that are sent whatever their replies' size.
_LEAST_BATCHES = 2


class _Waiter:
    """A reply that waits for room. `wakeup` is a lock, held until the reply may come in."""

    __slots__ = ("first", "granted", "size", "wakeup")

    def __init__(self, first: int, size: int) -> None:
        self.first = first
        self.size = size
        self.granted = False
        self.wakeup = threading.Lock()
        self.wakeup.acquire()


class ReorderBuffer:
    """Keeps replies out while much is held already, as long as that helps.

    Outcomes are handed out in input order, so the reply that is next always comes in: the others
    leave after it. They come in by the same order. When the caller has nothing left to take while
    all batches in flight wait here, or as many as may be in flight, the next one was not even sent:
    then the foremost comes in.
    """

    # What waits for those before it is left in the reply that it came in: it is gone soon.
    bounded = True

    def __init__(self, limit: int, places: Callable[[], float] = lambda: math.inf) -> None:
        self._limit = limit
        # How many requests may be in flight now.
        self._places = places
        # How many batches may be sent and not handed out. All of them come in after a while, so it
        # is as many as there is room for once a reply has told its size; where it keeps batches
        # from being sent, twice as many each time that the caller waits for them, and one more each
        # time once a reply has waited for room.
        self.most_batches = math.inf
        # Whether it has kept one from being sent. Written by the caller's thread alone.
        self._scarce = False
        # Guards: everything here, and every waiter's `granted`.
        self._lock = threading.Lock()
        self._held = 0
        # Of that, what belongs to replies that are being read; and how large one is, 0 at first.
        self._coming = self._size = 0
        self._next = 0
        self._in_flight = 0
        # The foremost first.
        self._waiting: list[_Waiter] = []
        self._starving = False
        self._ample = True
        self._given_up = False

    def is_full(self, batches: int) -> bool:
        """Return whether no more should be asked for, where so many batches were sent and have not
        ended. Called by the caller's thread."""
        waiting = (self._held - self._coming) / self._size if self._size else 0.0
        self._scarce = batches + waiting >= self.most_batches
        return self._scarce or self._held >= self._limit

    def expect(self, batches: int) -> None:
        """Note that so many more batches are in flight, or fewer."""
        with self._lock:
            self._in_flight += batches
            woken = self._let_in()
        _wake(woken)

    def starve(self, starving: bool) -> None:
        """Note whether the caller waits for outcomes, with none left to take."""
        with self._lock:
            self._starving = starving
            woken = self._let_in()
            if starving and self._scarce and not self._waiting:
                self.most_batches += self.most_batches if self._ample else 1
        _wake(woken)

    def enter(self, first: int, size: int, seconds: float) -> None:
        """Take in a reply of so many bytes, whose first text is this one; wait for room."""
        waiter = _Waiter(first, size)
        with self._lock:
            # On the list before it looks: whoever makes room from now on sees it.
            insort(self._waiting, waiter, key=attrgetter("first"))
            woken = self._let_in()
            self._learn(size, waited=not waiter.granted)
        _wake(woken)
        try:
            if not waiter.wakeup.acquire(blocking=False):
                leave()
                waiter.wakeup.acquire(timeout=max(0.0, min(seconds, _PATIENCE)))
        except BaseException:  # Ctrl-C: what was granted meanwhile goes back
            self._take_in(waiter)
            self.settle(size, 0)
            raise
        self._take_in(waiter)

    def settle(self, size: int, kept: int) -> None:
        """Note that a reply that was let in with so many bytes has come, or is gone; so many of
        them stay."""
        with self._lock:
            self._coming -= size
            self._held += kept - size
            if kept > size:  # it was announced without its size
                self._learn(kept)
            woken = self._let_in()
        _wake(woken)

    def change(self, size: int) -> None:
        """Note that what is held has become so much more, or less."""
        with self._lock:
            self._held += size
            woken = self._let_in()
        _wake(woken)

    def hand_out(self, following: int, size: int) -> None:
        """Note that the caller took so many bytes, and which text follows."""
        with self._lock:
            self._next = following
            self._held -= size
            woken = self._let_in()
        _wake(woken)

    def give_up(self) -> None:
        """Let every reply in: the caller takes no outcomes any more."""
        with self._lock:
            self._given_up = True
            woken = self._let_in()
        _wake(woken)

    def _take_in(self, waiter: _Waiter) -> None:
        """Let it in now, unless it was."""
        # It may be granted between its time-out and this lock: who grants takes it off the list
        # and counts it, under the same lock, so it is counted once, and the wake-up finds nobody.
        with self._lock:
            if not waiter.granted:
                self._waiting.remove(waiter)
                self._count(waiter.size)

    def _count(self, size: int) -> None:
        self._held += size
        self._coming += size

    def _learn(self, size: int, *, waited: bool = False) -> None:
        """Note how large a reply is, 0 if it does not tell; the lock is held."""
        known, self._size = self._size, size or self._size
        if waited or (size and not known):
            self.most_batches = max(_LEAST_BATCHES, self._limit // max(1, self._size))
            self._ample = self._ample and not waited

    def _let_in(self) -> list[_Waiter]:
        """Grant entry to those that need not wait; the others are not woken."""
        woken: list[_Waiter] = []
        while self._waiting and self._may_enter(self._waiting[0]):
            waiter = self._waiting.pop(0)
            waiter.granted = True
            self._count(waiter.size)
            woken.append(waiter)
        return woken

    def _may_enter(self, foremost: _Waiter) -> bool:
        if self._given_up or not self._held or self._held + foremost.size <= self._limit:
            return True
        most = min(self._in_flight, self._places())
        stuck = self._starving and len(self._waiting) >= most
        return stuck or foremost.first <= self._next


def _wake(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wakeup.release()


class Unbounded(ReorderBuffer):
    """For a call whose caller keeps all the audio anyway: everything comes in at once."""

    bounded = False

    def __init__(self) -> None:
        super().__init__(0)

    def is_full(self, batches: int) -> bool:
        """Return False."""
        return False

    def expect(self, batches: int) -> None:
        """Do nothing."""

    def starve(self, starving: bool) -> None:
        """Do nothing."""

    def enter(self, first: int, size: int, seconds: float) -> None:
        """Do nothing."""

    def settle(self, size: int, kept: int) -> None:
        """Do nothing."""

    def change(self, size: int) -> None:
        """Do nothing."""

    def hand_out(self, following: int, size: int) -> None:
        """Do nothing."""

    def give_up(self) -> None:
        """Do nothing."""
