"""Many callers at once in virtual time: threads that run one at a time, and sleep on a heap."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

# Real seconds after which a simulation that stands still is given up.
_STUCK = 60.0


class Baton:
    """What a sleeping thread waits for. Handed over once, whoever planned it how often."""

    def __init__(self, moves: Callable[[], int]) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._moves = moves
        self.used = False

    def hand_over(self) -> None:
        self.used = True
        self._lock.release()

    def wait(self) -> None:
        seen = -1
        while not self._lock.acquire(timeout=_STUCK):
            if seen == self._moves():
                raise AssertionError("the simulation stands still")
            seen = self._moves()


class Beginning:
    """Work that begins at its instant, on a thread that has ended its own or on a new one."""

    used = False

    def __init__(self, work: Callable[[], object], hand_over: Callable[[], None]) -> None:
        self.work = work
        self.hand_over = hand_over


class World:
    """A clock, a source of locks and the scheduler of the threads that use them.

    Exactly one thread runs at any time, so a run with seeded randomness always goes the same way.
    Whoever begins to sleep wakes the next one.
    """

    def __init__(self) -> None:
        self._now = 1_000.0
        self._until = self._now
        self._numbers = itertools.count()
        # How often the clock was moved: a slow machine moves it slowly.
        self._moves = 0
        self._heap: list[tuple[float, int, Baton | Beginning]] = []
        self._turn = threading.Lock()  # the caller's of run(), locked while a thread runs
        self._turn.acquire()
        self.failures: list[BaseException] = []

    # -- what the code under test sees ------------------------------------------------------------

    def now(self) -> float:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            baton = self.plan(self._now + seconds)
            if isinstance(event, Call):
                event.waiter = baton
            self.wait_for(baton)
        return event.is_set()

    def event(self) -> Call:
        return Call(self)

    def lock(self) -> Gate:
        return Gate(self)

    # -- what the simulation uses -----------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        self.wait_for(self.plan(self._now + seconds))

    def plan(self, at: float, baton: Baton | None = None) -> Baton:
        baton = baton or Baton(lambda: self._moves)
        heapq.heappush(self._heap, (at, next(self._numbers), baton))
        return baton

    def wait_for(self, baton: Baton) -> None:
        following = self._advance()
        if following is baton:  # nothing else happens before: this thread runs on
            baton.used = True
            return
        self._wake(following)
        baton.wait()

    def start(self, at: float, work: Callable[[], object]) -> None:
        def begin() -> None:
            threading.Thread(target=self._live, args=(work,), daemon=True).start()

        heapq.heappush(self._heap, (at, next(self._numbers), Beginning(work, begin)))

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that is planned before that instant."""
        self._until = until
        self._wake(self._advance())
        seen = -1
        while not self._turn.acquire(timeout=_STUCK):
            if seen == self._moves:
                raise AssertionError("a thread waits for something outside of the simulation")
            seen = self._moves
        if self.failures:
            raise self.failures[0]

    def _live(self, work: Callable[[], object] | None) -> None:
        """Do this, and whatever begins at the instant when it has ended."""
        while work is not None:
            try:
                work()
            except BaseException as error:
                self.failures.append(error)
            following = self._advance()
            work = None
            if isinstance(following, Beginning):
                work = following.work
            else:
                self._wake(following)

    def _advance(self) -> Baton | Beginning | None:
        """Move the clock to what happens next, and return it."""
        while self._heap and self._heap[0][0] <= self._until:
            at, _, following = heapq.heappop(self._heap)
            if following.used:  # a gate that opened before its time was up
                continue
            self._now = max(self._now, at)
            self._moves += 1
            return following
        return None

    def _wake(self, following: Baton | Beginning | None) -> None:
        if following is None:
            self._turn.release()
        else:
            following.hand_over()


class Call(threading.Event):
    """An event whose waiter sleeps in virtual time, and is woken by it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.waiter: Baton | None = None

    def set(self) -> None:
        super().set()
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            self._world.plan(self._world.now(), waiter)


class Gate:
    """A lock whose waiter sleeps in virtual time; stands in for threading.Lock in Permits."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._locked = False
        self._waiter: Baton | None = None

    def acquire(self, timeout: float = -1) -> bool:
        if self._locked:
            assert timeout >= 0, "a guarding lock was contended, but only one thread runs"
            until = self._world.now() + timeout
            baton = self._waiter = self._world.plan(until)
            self._world.wait_for(baton)
            self._waiter = None
            if self._locked:
                return False
        self._locked = True
        return True

    def release(self) -> None:
        self._locked = False
        if self._waiter is not None:
            self._world.plan(self._world.now(), self._waiter)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
