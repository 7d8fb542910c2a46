"""Connections kept for reuse: a stack per route, checked out and in without waiting."""

from __future__ import annotations

import functools
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable

from ..errors import ClosedError, ResourceError, ShedError
from ..forks import notice_fork, renewing
from ..threads import Schedule, open_schedule, resume, watch
from .connection import Connection, Stack, Stream
from .route import Route
from .scarcity import out_of_descriptors

__all__ = ["ConnectionPool"]

# Share of a connection's age by which it may go earlier.
_SPREAD = 0.2
# Routes beside those of open connections that are remembered. A program that makes more (headers of
# its own for each WebSocket, say) must not grow for ever.
_MOST_UNUSED = 256
# Seconds to wait for the thread of the scheduler, where nobody else needs it.
_MOMENT = 1.0

# Descriptors that are left to the rest of the program once there were none, but at most a quarter
# of those of connections; and for how many seconds.
_SPARE = 8
_SPARE_FOR = 1.0

# Open connections up to which every thread waits for its reply by itself.
_FEW = 64

Connect = Callable[[Route, float], Stream]


class ConnectionPool:
    """The open connections to all routes, at most `max_connections`.

    Check-out takes the connection that came back last (the one least likely to be stale), in
    constant time and without a lock: append and pop of a deque are atomic. Nobody ever waits
    here: how many requests are in flight is decided before.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        max_connections: int,
        idle_expiry: float,
        max_age: float = math.inf,
        random: Callable[[], float] = random.random,
        make: Callable[[Route, Stream], Connection] = Connection,
    ) -> None:
        self._connect_to = connect
        self._make = make
        self._max = max_connections
        self._expiry = idle_expiry
        self._max_age = max_age
        self._random = random
        # The process that the connections belong to.
        self._pid = os.getpid()
        # Guards: _open, _opening, _stacks (its keys), _schedule, the setting of _closed, _most and
        # _most_until.
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._opening = 0
        self._stacks: dict[Route, Stack] = {}
        # The route that was taken last, and its stack: mostly it is the same, and to compare is
        # cheaper than to hash. Written as a whole, without the lock: any pair is a right one,
        # unless its stack was forgotten.
        self._latest: tuple[Route, Stack] | None = None
        self._closed = False
        # How many may be open until an instant, as this process was out of descriptors.
        self._most, self._most_until = max_connections, -math.inf
        # On which idle connections expire, as long as any are open.
        self._schedule: Schedule | None = None
        self.was_cut = False

    def take(self, route: Route) -> Connection | None:
        """Take an idle connection that is fresh enough to be used, and quiet, or None."""
        while (connection := self.pop(route, time.monotonic())) is not None:
            if connection.is_quiet():
                return connection
            self.drop(connection)
        return None

    def pop(self, route: Route, now: float) -> Connection | None:
        """Take an idle connection that is fresh enough to be used now, or None. Whoever sends over
        it looks before whether it is quiet."""
        if self._pid != os.getpid():
            self._renew()
        latest = self._latest
        if latest is not None and latest[0] is route and not latest[1].forgotten:
            stack: Stack | None = latest[1]
        else:
            stack = self._stacks.get(route)
            if stack is not None:
                self._latest = route, stack
        while stack:
            try:
                connection = stack.pop()
            except IndexError:  # another thread was quicker
                return None
            if now - connection.idle_since < self._expiry and now < connection.expires:
                if connection.watched is None and len(self._open) > _FEW:
                    self._watch(connection)
                return connection
            self.drop(connection)
        return None

    def open(self, route: Route, until: float) -> Connection:
        """Open a new connection, closing the oldest idle ones where the pool is full, or this
        machine out of descriptors or memory.

        Raises ConnectError, ResourceError, ShedError when all connections are busy, ClosedError.
        """
        while True:
            try:
                return self._open_one(route, until)
            except ResourceError as error:
                if error.resource == "descriptors":
                    self._leave_spare()
                if error.resource == "ports" or not self._give_up_idle():
                    raise

    def _watch(self, connection: Connection) -> None:
        """Let one thread wait for the replies of many; few wait by themselves, which is quicker."""
        connection.watched = watch(connection.sock.fileno())

    def _open_one(self, route: Route, until: float) -> Connection:
        evicted = self._reserve()
        if evicted is not None:
            evicted.close()
        connection: Connection | None = None
        try:
            connection = self._make(route, self._connect_to(route, until))
            resume()
            age = self._max_age * (1.0 - _SPREAD * self._random())
            connection.expires = time.monotonic() + age
        finally:
            schedule, late = self._enter(route, connection)
        if late:
            connection.close()
            raise ClosedError("the client was closed while it connected")
        if schedule is not None:
            _expire_on(schedule, weakref.ref(self), self._expiry)
        if len(self._open) > _FEW:
            self._watch(connection)
        if len(self._stacks) > self._max + _MOST_UNUSED:
            self._forget_unused()
        return connection

    def give_back(self, connection: Connection, now: float | None = None) -> None:
        """Keep a connection whose reply was read to its end. `now`: the instant, where it is
        known."""
        connection.idle_since = time.monotonic() if now is None else now
        if self._most < self._max and len(self._open) > self._most:
            self.drop(connection)
            return
        stack = connection.stack
        stack.append(connection)
        if stack.forgotten:  # here or in forget(), whichever comes later
            self._clear(stack)
        # close() may have emptied the stacks just before: what came later is ours to close.
        if self._closed:
            self.expire(float("inf"))

    def drop(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def expire(self, now: float) -> None:
        """Close the connections that have been idle for too long at this instant."""
        for stack in list(self._stacks.values()):
            try:
                while now - stack[0].idle_since >= self._expiry:
                    self.drop(stack.popleft())
            except IndexError:  # none is left, or another thread took the last one
                continue

    def forget(self, route: Route) -> None:
        """Close the idle connections of a route that is not used any more."""
        with self._lock:
            stack = self._stacks.pop(route, None)
        if stack is not None:
            stack.forgotten = True
            self._clear(stack)

    def close_idle(self, route: Route) -> None:
        """Close the idle connections to a route's server, at any of its addresses."""
        for known, stack in list(self._stacks.items()):
            if (known.host, known.port) == (route.host, route.port):
                self._clear(stack)

    def count(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them are idle."""
        idle = sum(len(stack) for stack in list(self._stacks.values()))
        return len(self._open), idle

    def close(self) -> None:
        """Close what is idle now, and what is busy once it is given back; open nothing new."""
        if self._pid != os.getpid():
            self._renew()
        with self._lock:
            self._closed = True
            schedule, self._schedule = self._schedule, None
        self.expire(float("inf"))
        if schedule is not None:
            schedule.close(_MOMENT)

    def cut(self) -> None:
        """Wake every thread that waits for a reply; open nothing new, for none may send again."""
        with self._lock:
            self.was_cut = True
            self._closed = True
            connections = list(self._open)
        for connection in connections:
            connection.cut()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets without talking on them, and open none
        any more."""
        self._begin_anew(closed=True)

    def _renew(self) -> None:
        """In a forked child: begin anew, unless the client whose pool this is abandoned it."""
        notice_fork()
        with renewing():
            if self._pid != os.getpid():  # else another thread was quicker
                self._begin_anew(self._closed)

    def _begin_anew(self, closed: bool) -> None:
        # Whoever held the lock or the event at the fork does not exist here: take new ones.
        self._lock = threading.Lock()
        self._closed = closed
        connections, self._open = self._open, set()
        self._opening = 0
        self._stacks, self._latest = {}, None
        schedule, self._schedule = self._schedule, None
        if schedule is not None:
            schedule.close()
        for connection in connections:
            connection.watched = None
            connection.close()
        self._pid = os.getpid()

    # -- decisions, each under the lock ---------------------------------------------------------

    def _reserve(self) -> Connection | None:
        """Book a place for a connection; return the idle one that has to go for it, if any."""
        evicted: Connection | None = None
        with self._lock:
            if self._closed:
                raise ClosedError("the client is closed")
            if self._most < self._max and time.monotonic() >= self._most_until:
                self._most = self._max
            if len(self._open) + self._opening >= self._most:
                evicted = self._pop_oldest()
                if evicted is None and self._most < self._max:
                    raise out_of_descriptors()
                if evicted is None:
                    raise ShedError(
                        f"all {self._max} connections are busy; raise PoolConfig(max_connections)"
                    )
                self._open.discard(evicted)
            self._opening += 1
        return evicted

    def _leave_spare(self) -> None:
        """Open fewer for a while, or the rest of the program could open no file."""
        with self._lock:
            now, count = time.monotonic(), len(self._open) + self._opening
            # Of many that open at once, the last ones to fail know best how many there may be.
            if now >= self._most_until or count < self._most:
                self._most = max(1, min(self._max - 1, count - min(_SPARE, count // 4)))
                self._most_until = now + _SPARE_FOR

    def _give_up_idle(self) -> bool:
        """Close the connection that has been idle for longest; return whether there was one."""
        with self._lock:
            oldest = self._pop_oldest()
        if oldest is not None:
            self.drop(oldest)
        return oldest is not None

    def _pop_oldest(self) -> Connection | None:
        while stacks := [stack for stack in self._stacks.values() if stack]:
            try:
                return min(stacks, key=_idle_since).popleft()
            except IndexError:  # take() needs no lock, and was quicker
                continue
        return None

    def _enter(self, route: Route, connection: Connection | None) -> tuple[Schedule | None, bool]:
        """Turn a booked place into an open connection; return a schedule to expire on, if it is
        new, and whether the pool was closed meanwhile."""
        with self._lock:
            self._opening -= 1
            if connection is None or self._closed:
                return None, connection is not None
            self._open.add(connection)
            connection.stack = self._stacks.setdefault(route, Stack())
            if self._schedule is not None:
                return None, False
            self._schedule = open_schedule()
            return self._schedule, False

    def _forget_unused(self) -> None:
        with self._lock:
            used = {connection.route for connection in self._open}
            unused = set(self._stacks) - used
        for route in unused:
            self.forget(route)

    def _clear(self, stack: Stack) -> None:
        while stack:
            try:
                self.drop(stack.popleft())
            except IndexError:  # take() was quicker
                return

    def expire_on(self, schedule: Schedule) -> bool:
        """Expire what is idle for too long; return whether the schedule is of no more use."""
        self.expire(time.monotonic())
        # Under the lock no connection can be entered, so none misses a schedule that ends here.
        with self._lock:
            done = not self._open or self._schedule is not schedule
            if done and self._schedule is schedule:
                self._schedule = None
        return done


def _idle_since(stack: Stack) -> float:
    try:
        return stack[0].idle_since
    except IndexError:
        return float("inf")


def _expire_on(schedule: Schedule, pool_ref: weakref.ref[ConnectionPool], expiry: float) -> None:
    """Have a pool, which is not kept alive for it, look for what is idle for too long."""
    schedule.after(expiry / 2, functools.partial(_expire_now, schedule, pool_ref, expiry))


def _expire_now(schedule: Schedule, pool_ref: weakref.ref[ConnectionPool], expiry: float) -> None:
    pool = pool_ref()
    done = pool is None
    try:
        if pool is not None:
            done = pool.expire_on(schedule)
    finally:
        if done:
            schedule.close()
        else:
            _expire_on(schedule, pool_ref, expiry)
