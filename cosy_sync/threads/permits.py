"""Permits: a bounded quantity that several callers share fairly."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import ClosedError
from .poller import leave, resume

__all__ = ["PermitWaiter", "Permits"]


class Ending(Protocol):
    """What ends a wait early: a Stop."""

    def attach(self, event: Any) -> None:
        """Have `event.set()` called when it is time."""
        ...

    def detach(self, event: Any) -> None:
        """Undo `attach`."""
        ...


class PermitWaiter:
    """A thread that waits. `wakeup` is a lock, held until the permits are handed over, or the wait
    has no use any more."""

    __slots__ = ("again", "cost", "granted", "key", "wakeup")

    def __init__(self, cost: int, key: str, again: bool) -> None:
        self.again = again
        self.cost = cost
        self.key = key
        self.granted = False
        self.wakeup = threading.Lock()
        self.wakeup.acquire()

    def set(self) -> None:
        """End the wait; a second time does nothing."""
        with contextlib.suppress(RuntimeError):
            self.wakeup.release()


_Queues = OrderedDict[str, "deque[PermitWaiter]"]


class Permits:
    """At most `limit` at once: requests in flight, or bytes expected.

    Urgent waiters go first; within a class the keys (tenants) take turns and each key's waiters
    keep their order. A cost above the limit counts as the whole limit, so it goes alone.

    `lock`: one that guards something else as well, so that both change in one step (`take`,
    `put_back`); left out, it has its own.
    """

    def __init__(self, limit: int, *, lock: threading.Lock | None = None) -> None:
        self.limit = limit
        # What a cost counts as at most. It never changes, so what is given back is what was taken.
        self._most = limit
        # Guards: limit, free (below 0 after the limit fell, until enough came back), both
        # _queues, every waiter's `granted`, _closed.
        self.lock = self._lock = lock or threading.Lock()
        self.free = limit
        self._urgent: _Queues = OrderedDict()
        self._normal: _Queues = OrderedDict()
        self._closed = False

    @property
    def used(self) -> int:
        """Return how much is taken."""
        return self.limit - self.free

    @property
    def wanted(self) -> int:
        """Return how much is taken, and how many wait."""
        with self._lock:
            queues = (*self._urgent.values(), *self._normal.values())
            return self.used + sum(map(len, queues))

    def acquire(
        self,
        cost: int = 1,
        *,
        key: str = "",
        urgent: bool = False,
        seconds: float = 0.0,
        again: bool = False,
        stop: Ending | None = None,
    ) -> bool:
        """Take permits, waiting at most `seconds`, and not beyond `stop`; return whether they
        were taken.

        `again`: it had permits before and gave them back unused, so it goes before the others of
        its key, and behind those that came again earlier.
        Raises ClosedError when closed, also while waiting.
        """
        if cost > self._most:
            cost = self._most
        taken, waiter = False, None
        try:
            with self._lock:
                if self._closed:
                    raise ClosedError("the client is closed")
                free = self.free
                fits = free >= cost or free == self.limit  # as in `_fits`: every text comes here
                if fits and not self._urgent and (urgent or not self._normal):
                    self.free = free - cost
                    taken = True
                    return True
                if seconds <= 0:
                    return False
                queues = self._urgent if urgent else self._normal
                waiter = PermitWaiter(cost, key, again)
                line = queues.get(key)
                if line is None:
                    queues[key] = deque((waiter,))
                else:
                    line.insert(_count_again(line) if again else len(line), waiter)
            return self._wait(waiter, queues, seconds, stop)
        except BaseException:  # Ctrl-C: what was taken, or handed over meanwhile, goes back
            if taken or (waiter is not None and self._leave(waiter, queues)):
                self.release(cost)
            raise

    def release(self, cost: int = 1) -> None:
        """Give permits back and hand them to the next waiter."""
        with self._lock:
            self.free += cost if cost < self._most else self._most
            if not self._urgent and not self._normal:
                return
            woken = self._grant()
        for waiter in woken:
            waiter.set()

    def take(self, urgent: bool) -> bool:
        """Take one permit where nobody need be waited for; return whether it was taken. The lock is
        held."""
        if self.free < 1 or self._urgent or (self._normal and not urgent) or self._closed:
            return False
        self.free -= 1
        return True

    def put_back(self) -> Sequence[PermitWaiter]:
        """Give one permit back; return those that it was handed to, whom the caller must wake
        (`set`) once it has released the lock, which is held."""
        self.free += 1
        return self._grant() if self._urgent or self._normal else ()

    def resize(self, limit: int) -> None:
        """Change the limit, between 1 and the one it was made with.

        What is taken stays taken: after the limit fell nothing is granted until it is kept again.
        """
        with self._lock:
            self.free += limit - self.limit
            self.limit = limit
            woken = self._grant()
        for waiter in woken:
            waiter.set()

    def close(self) -> None:
        """Wake everybody; nothing is granted any more."""
        with self._lock:
            self._closed = True
            woken = [w for q in (self._urgent, self._normal) for d in q.values() for w in d]
            self._urgent.clear()
            self._normal.clear()
        for waiter in woken:
            waiter.set()

    def _wait(
        self, waiter: PermitWaiter, queues: _Queues, seconds: float, stop: Ending | None
    ) -> bool:
        try:
            if stop is not None:
                stop.attach(waiter)
            leave()
            waiter.wakeup.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
            resume()  # a limit that rose wakes hundreds
        finally:
            if stop is not None:
                stop.detach(waiter)
        # The hand-over may come just as the time runs out: under the lock it has or has not.
        if self._leave(waiter, queues):
            return True
        if self._closed:
            raise ClosedError("the client was closed while this waited")
        return False

    def _leave(self, waiter: PermitWaiter, queues: _Queues) -> bool:
        """Wait no more; return whether the permits were handed over. A second time does nothing."""
        with self._lock:
            line = queues.get(waiter.key)
            if line is not None and waiter in line:
                if len(line) == 1:
                    del queues[waiter.key]
                else:
                    line.remove(waiter)
                woken = self._grant()  # the one behind may want less
            else:
                woken = []
        for other in woken:
            other.set()
        return waiter.granted

    def _fits(self, cost: int) -> bool:
        return self.free >= cost or self.free == self.limit  # alone it always fits

    def _grant(self) -> list[PermitWaiter]:
        woken: list[PermitWaiter] = []
        for queues in (self._urgent, self._normal):
            while queues:
                key, line = next(iter(queues.items()))
                waiter = line[0]
                if not self._fits(waiter.cost):
                    return woken
                self.free -= waiter.cost
                waiter.granted = True
                woken.append(waiter)
                line.popleft()
                del queues[key]
                if line:  # its turn comes again after the other keys
                    queues[key] = line
        return woken


def _count_again(line: deque[PermitWaiter]) -> int:
    """Return how many at the head of a line came again; they all stand there."""
    return next((place for place, waiter in enumerate(line) if not waiter.again), len(line))
