"""The queue for an endpoint's rate limit: whose request leaves next, and when its thread wakes.

A batch that finds the limit free leaves at once. Any other waits in the queue, holding nothing: no
connection, no slot. A slot is only taken when it is there, by a thread that comes for it, so a
batch that leaves the queue, for whatever reason, took nothing from the others.

Each of them sleeps until the instant at which its slot comes if nothing changes: one wake-up for
each request, in the order of the queue. Where something does change, the next one is woken to
look again, and nobody else. States of a waiter, changed under the queue's lock but for the last:

    joined      it has an instant, `due`, and sleeps until then
    called      `due` was brought forward, and `event` set: it sleeps again, or comes
    away        its instant came and it acquires a connection, without the lock; it keeps its place
                in the queue meanwhile, for 0.1 s at most
    refused     another one was before it: as joined, but for twice the time, or until it is called
    gone        it took a slot, or left
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ..atomic import Flag
from ..clock import Clock
from ..config import SharingConfig
from ..errors import ClosedError
from ..events import Observer, SharingChanged
from ..policies import RateLimiter
from ..shared import Limiter, RedisBook, SharedLimiter
from ..threads import leave
from ..threads.stop import Stop

__all__ = ["BRIEF", "EndpointLimiter", "SlotWaiter", "make_limiter"]

# Seconds by which the next in the queue may come later than its slot before it is woken for that.
_SOON = 0.001
# Seconds of one sleep at least, and by which an instant that was worked out ahead may be too early.
_SOONEST = 1e-5
# Seconds for which a place is kept until the slot comes.
BRIEF = 0.02
# Seconds for which a slot is kept for one that is away.
_GRACE = 0.1
# Seconds of one sleep at most: what an event's wait can bear.
_LONGEST = 86_400.0

_Queues = OrderedDict[str, "deque[SlotWaiter]"]


class SlotWaiter:
    """A batch in a queue. `due` is when it comes for its slot; `event` wakes it before. `first`: it
    goes before the others of its key."""

    __slots__ = (
        "again",
        "away",
        "due",
        "event",
        "first",
        "key",
        "latest",
        "queued",
        "second",
        "stop",
        "urgent",
    )

    def __init__(
        self,
        key: str,
        urgent: bool,
        latest: float,
        stop: Stop,
        event: threading.Event | None = None,
    ) -> None:
        self.key = key
        self.urgent = urgent
        self.latest = latest
        self.stop = stop
        self.event: threading.Event = event or Flag()
        self.due = 0.0
        self.queued = self.away = self.again = self.first = False
        # Its place in the queue of a second limiter, while it waits there.
        self.second: SlotWaiter | None = None

    def twin(self) -> SlotWaiter:
        """Return its place in a second queue, with the same event."""
        other = SlotWaiter(self.key, self.urgent, self.latest, self.stop, self.event)
        other.first = self.first
        return other

    def sleep(self, clock: Clock) -> None:
        """Sleep until its slot should be there. Raises ClosedError when nobody wants it."""
        place = self.second or self
        while True:
            if self.stop.is_set():
                raise ClosedError("cancelled while it waited for the rate limit; nothing was sent")
            left = place.due - clock.now()
            if left <= 0.0:
                place.away = True
                return
            leave()
            if clock.wait(self.event, min(left, _LONGEST)):
                # Before `due` is looked at: whoever calls sets it first.
                self.event.clear()

    def counts(self, now: float) -> bool:
        """Return whether others must let it go first."""
        if self.stop.is_set() or self.second is not None:
            return False
        return not self.away or self.due >= now - _GRACE


class EndpointLimiter:
    """A limiter and the queue of those who wait for it, urgent ones first; within a class the keys
    (tenants) take turns, and each key's waiters keep their order."""

    def __init__(
        self, limiter: Limiter, clock: Clock, *, lock: threading.Lock | None = None
    ) -> None:
        # Guards everything below, the limiter's state and every waiter's. It may be the endpoint's;
        # a shared limiter brings its own, which its keeper takes as well.
        self.lock = self._lock = (
            limiter.lock if isinstance(limiter, SharedLimiter) else lock or threading.Lock()
        )
        self._clock = clock
        self._limiter = limiter
        self._urgent: _Queues = OrderedDict()
        self._normal: _Queues = OrderedDict()
        # How many are queued; read without the lock too.
        self._many_urgent = self._many_normal = 0
        if isinstance(limiter, SharedLimiter):
            limiter.line = self

    @property
    def limiter(self) -> Limiter:
        """Return what counts the requests; the queue's lock guards it."""
        return self._limiter

    # -- without waiting ------------------------------------------------------------------------

    def go(self, now: float, urgent: bool) -> bool:
        """Let a request leave now that was never queued; return whether it may."""
        with self._lock:
            return self.go_first(now, urgent)

    def go_first(self, now: float, urgent: bool) -> bool:
        """Do as `go`; the lock is held."""
        if (self._urgent or (self._normal and not urgent)) and self._blocked(now, urgent) > now:
            return False
        return self._limiter.take(now) <= 0.0

    def next_free(self, now: float, urgent: bool = False) -> float:
        """Return when a request that comes now would leave; an estimate, and without the lock."""
        ahead = self._many_urgent + (0 if urgent else self._many_normal)
        return self._limiter.next_free(now, ahead)

    @property
    def paused_until(self) -> float:
        """Return the end of the latest pause; an instant in the past when there is none."""
        return self._limiter.paused_until

    def give_back(self) -> None:
        """Take back the latest slot: it was not used."""
        with self._lock:
            self._limiter.give_back()

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later."""
        with self._lock:
            self._limiter.correct(went, left)

    def pause(self, until: float) -> None:
        """Let nothing leave before that instant."""
        with self._lock:
            self._limiter.pause(until)
        self._limiter.book()

    def set_rate(self, rate: float) -> None:
        """Space what leaves from now on for a lower rate, or again for the first one."""
        with self._lock:
            self._limiter.set_rate(rate)

    def close(self, seconds: float) -> None:
        """End what shares the limiter with others; wait at most `seconds`."""
        if isinstance(self._limiter, SharedLimiter):
            self._limiter.close(seconds)

    # -- in the queue ---------------------------------------------------------------------------

    def join(self, waiter: SlotWaiter, now: float) -> float:
        """Queue up; return the seconds until its slot, as things are."""
        with self._lock:
            waiter.queued = True  # first: whatever Ctrl-C leaves undone, `leave` removes
            queues = self._urgent if waiter.urgent else self._normal
            queue = queues.setdefault(waiter.key, deque())
            if waiter.first:  # behind others that go first
                place = (n for n, other in enumerate(queue) if not other.first)
                queue.insert(next(place, len(queue)), waiter)
            else:
                queue.append(waiter)
            self._count()
            wait = self._expect(waiter, now, -math.inf)
            called = self._call(now)
        self._wake(called)
        return wait

    def ready(self, waiter: SlotWaiter, now: float) -> float:
        """Return 0 when its slot is there, else the seconds until then; it comes again then."""
        with self._lock:
            until = self._blocked(now, waiter.urgent, waiter.key)
            if until <= now and self._limiter.next_free(now) <= now:
                return 0.0
            wait = self._expect(waiter, now, until)
            called = self._call(now)
        self._wake(called)
        return wait

    def take(self, waiter: SlotWaiter, now: float) -> float:
        """Take a slot, leave the queue, and return 0; else stay, and return the seconds until it.

        Whoever takes one holds a place, which others before it may not: a slot that comes in a
        moment is its own.
        """
        with self._lock:
            until = self._blocked(now, waiter.urgent, waiter.key)
            soon = self._limiter.next_free(now) - now
            if until <= now and self._limiter.take(now, waiter.due) <= 0.0:
                wait = 0.0
                self._remove(waiter, served=True)
            elif until <= now and soon <= BRIEF:
                wait = max(soon, _SOONEST)
                waiter.due = now + wait
            else:
                wait = self._expect(waiter, now, until)
            called = self._call(now)
        self._wake(called)
        return wait

    def leave(self, waiter: SlotWaiter, now: float) -> None:
        """Leave the queue, if it is still queued."""
        if not waiter.queued:
            return
        with self._lock:
            self._remove(waiter, served=False)
            called = self._call(now)
        self._wake(called)

    def look(self) -> None:
        """Wake the next in the queue where its slot comes sooner than it believes."""
        now = self._clock.now()  # before the lock is taken: the clock may be the user's
        with self._lock:
            called = self._call(now)
        if called is not None:
            called.event.set()

    def demand(self, now: float) -> int:
        """Return how many wait for a slot; with the lock held."""
        return _count(self._in_order(), now)

    # -- with the lock held ---------------------------------------------------------------------

    def _in_order(self) -> Iterator[SlotWaiter]:
        for queues in (self._urgent, self._normal):
            for queue in queues.values():
                yield from queue

    def _blocked(self, now: float, urgent: bool, key: str | None = None) -> float:
        """Return until when somebody goes first: -inf where nobody does, inf until it has gone.

        Of one key whoever has come may go: of two that were due one after the other the second
        may wake first.
        """
        for queues in (self._urgent,) if urgent else (self._urgent, self._normal):
            own = queues is (self._urgent if urgent else self._normal)
            for other, queue in queues.items():
                if own and other == key:
                    return -math.inf
                for waiter in queue:
                    if waiter.counts(now):
                        return waiter.due + _GRACE if waiter.away else math.inf
        return -math.inf

    def _expect(self, waiter: SlotWaiter, now: float, until: float) -> float:
        """Set when it comes; return the seconds until its slot, if nothing changes."""
        ahead = self._ahead(waiter)
        at = self._limiter.next_free(now, ahead)
        if ahead and at > waiter.latest:  # look closely: many of them may not want to go any more
            at = self._limiter.next_free(now, self._ahead(waiter, now))
        wait = max(at - now, _SOON if ahead else _SOONEST)
        # What was expected before was wrong: so it may be again, and it is called in time.
        sleep = max(2 * wait if ahead and waiter.again else wait, self._limiter.patience)
        due = now + sleep + _SOONEST
        waiter.due = min(max(due, until) if until < math.inf else due, waiter.latest)
        waiter.again, waiter.away = True, False
        return wait

    def _ahead(self, waiter: SlotWaiter, now: float | None = None) -> int:
        """Return how many go before it; given `now`, of those only who still want to."""
        ahead = 0
        if not waiter.urgent and self._many_urgent:
            lines = self._urgent.values()
            ahead = self._many_urgent if now is None else _count(chain(*lines), now)
        queues = self._urgent if waiter.urgent else self._normal
        mine = queues[waiter.key]
        place = mine.index(waiter) if mine[-1] is not waiter else len(mine) - 1
        for key, queue in queues.items():
            most = place if key == waiter.key else place + 1
            if now is None:
                ahead += min(len(queue), most)
            else:
                ahead += _count(islice(queue, most), now)
        return ahead

    def _call(self, now: float) -> SlotWaiter | None:
        """Bring the next one forward where it would come too late; return it to be woken."""
        coming: list[SlotWaiter] = []
        for waiter in self._in_order():
            if waiter.away:
                if waiter.counts(now):
                    coming.append(waiter)
            elif not waiter.stop.is_set():
                at = max(self._limiter.next_free(now, len(coming)), now + self._limiter.patience)
                for other in coming:
                    if (other.urgent, other.key) != (waiter.urgent, waiter.key):
                        at = max(at, other.due + _GRACE)
                at = min(at, waiter.latest)
                if waiter.due <= at + _SOON:
                    return None
                waiter.due = at
                return waiter
        return None

    def _remove(self, waiter: SlotWaiter, *, served: bool) -> None:
        queues = self._urgent if waiter.urgent else self._normal
        queue = queues.get(waiter.key)
        if queue is not None:
            if waiter in queue:  # Ctrl-C may have come while it joined or left
                queue.remove(waiter)
            if not queue:
                del queues[waiter.key]
            elif served:  # its turn comes again after the other keys
                queues.move_to_end(waiter.key)
        self._count()
        waiter.queued = False

    def _count(self) -> None:
        self._many_urgent = sum(map(len, self._urgent.values()))
        self._many_normal = sum(map(len, self._normal.values()))

    # -- outside of it --------------------------------------------------------------------------

    def _wake(self, called: SlotWaiter | None) -> None:
        if called is not None:
            called.event.set()
        self._limiter.book()


def _count(waiters: Iterable[SlotWaiter], now: float) -> int:
    return sum([waiter.counts(now) for waiter in waiters])


def make_limiter(
    label: str,
    rate: float,
    sharing: SharingConfig,
    observer: Observer,
    clock: Clock,
    *,
    lock: threading.Lock | None = None,
) -> EndpointLimiter:
    """Return the queue of a limit of so many requests per second, shared where that is set.

    `lock` guards it, unless it is shared.
    """
    if sharing.redis_url is None or rate == math.inf:  # there is nothing to share
        return EndpointLimiter(RateLimiter(rate), clock, lock=lock)

    def tell(shared: bool, reason: str) -> None:
        observer.on_event(SharingChanged(label, "rate limit", shared, reason))

    book = RedisBook(sharing, label, rate)
    return EndpointLimiter(
        SharedLimiter(rate, book, RateLimiter, clock, tell, sharing.clients), clock
    )
