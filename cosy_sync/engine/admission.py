"""The way to an endpoint: a permit to be in flight there, and a slot of its rate limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..clock import Clock
from ..endpoints.endpoint import Attempt, EndpointState
from ..endpoints.limiter import BRIEF, SlotWaiter
from ..errors import ClosedError, RateLimitedError
from ..policies import Call
from ..threads import leave
from ..threads.permits import Permits
from .batch import Batch

__all__ = ["Entry"]

# How often a place is kept until the slot comes, as somebody more urgent may be quicker, and the
# shortest wait for it in seconds.
_TRIES, _SOONEST = 4, 1e-5


@dataclass(frozen=True)
class Entry:
    """Waits for a place and a slot, for all threads; who waits for the one does not hold the other.

    `connections`: the places of all endpoints together; None where the endpoints' own are fewer.
    """

    connections: Permits | None
    clock: Clock
    # Since when no endpoint has answered: who waits, unsent, for one of several may be sent to
    # another one in the end.
    silent_since: Callable[[], float]

    def go(self, batch: Batch, endpoint: EndpointState, call: Call, now: float) -> Attempt | None:
        """Let bulk work that was never sent go at once, as mostly nothing must be waited for; None
        where something must. Then nothing is held."""
        if self.connections is not None:
            return None
        silent = self.silent_since()
        if batch.patience(silent, now) <= 0.0:
            return None
        attempt = endpoint.admit(batch.interactive, call, now)
        if attempt is not None:
            batch.share_time(silent, now)
        return attempt

    def wait(self, batch: Batch, endpoint: EndpointState, now: float) -> float:
        """Wait for a free connection and a slot of the rate limit, holding neither meanwhile;
        return the instant at which the limiter let it go."""
        self._take_place(batch, endpoint, now, again=_is_repeated(batch))
        limiter, urgent = endpoint.limiter, batch.interactive

        def go(now: float) -> float:
            if limiter.go(now, urgent):
                return 0.0
            # Others may go first though a slot is there: only one that was taken is a slot.
            return max(limiter.next_free(now, urgent) - now, _SOONEST)

        try:
            now = self.clock.now()
            if limiter.go(now, urgent):  # mostly
                return now
        except BaseException:
            self.give_back(endpoint)
            raise
        went, _ = self._soon(batch, endpoint, go)
        if went is not None:
            return went
        waiter = _waiter(batch)
        batch.stop.attach(waiter.event)
        try:
            return self._wait_in_queue(batch, endpoint, waiter)
        finally:
            batch.stop.detach(waiter.event)
            endpoint.limiter.leave(waiter, self.clock.now())

    def _wait_in_queue(self, batch: Batch, endpoint: EndpointState, waiter: SlotWaiter) -> float:
        clock, limiter = self.clock, endpoint.limiter
        now = clock.now()
        wait = limiter.join(waiter, now)
        while True:
            paused = limiter.paused_until > now
            deadline = batch.deadline if paused else batch.queue_deadline or batch.deadline
            if now + wait > deadline.at:
                raise _no_slot(batch, endpoint, now, wait)
            waiter.latest = deadline.at
            waiter.sleep(clock)
            if not paused:
                batch.queued(clock.now() - now)
            self._take_place(batch, endpoint, clock.now(), again=True)
            went, wait = self._soon(batch, endpoint, lambda now: limiter.take(waiter, now))
            if went is not None:
                return went
            now = clock.now()

    def _soon(
        self, batch: Batch, endpoint: EndpointState, take: Callable[[float], float]
    ) -> tuple[float | None, float]:
        """Take a slot that is there now, or in a moment: the place is kept so long, or whoever is
        next would take it and find no slot either. Without one, the place is given back.

        Returns the instant, None for no slot, and the seconds until there is one.

        Args:
            batch: Who waits.
            endpoint: Where it has its place.
            take: Takes a slot and returns 0, or the seconds until it may be there.
        """
        wait, keeps = 0.0, False
        try:
            for _ in range(_TRIES):
                now = self.clock.now()
                wait = take(now)
                if wait <= 0.0:
                    keeps = True
                    return now, 0.0
                if wait > BRIEF:
                    break
                self._nap(batch, max(wait, _SOONEST))
        finally:
            if not keeps:
                self.give_back(endpoint)
        return None, wait

    def _nap(self, batch: Batch, seconds: float) -> None:
        leave()
        if self.clock.wait(batch.stop, seconds):
            raise ClosedError("cancelled while it waited for the rate limit; nothing was sent")

    def _take_place(
        self, batch: Batch, endpoint: EndpointState, began: float, again: bool = False
    ) -> None:
        now = began
        deadline = batch.queue_deadline or batch.deadline
        left = max(0.0, deadline.at - now)
        longest = endpoint.overload.longest_wait(batch.interactive, now)
        most = wait = min(left, longest)
        if batch.queue_deadline is not None:
            wait = min(most, batch.patience(self.silent_since(), now))
        while not self._take_slot(batch, endpoint, wait, again):
            if batch.stop.is_set():
                raise ClosedError("cancelled while it waited for a connection; nothing was sent")
            if wait >= most:
                if longest < left:
                    raise endpoint.overload.no_place(longest)
                raise deadline.error("waiting for a free connection")
            # An answer that came meanwhile gives it time.
            most, now, again = most - wait, self.clock.now(), True
            wait = min(most, batch.patience(self.silent_since(), now))
            if wait <= 0.0:
                raise endpoint.went_silent(batch.deadline, now)
        if batch.queue_deadline is None:
            return
        now, silent = self.clock.now(), self.silent_since()
        if batch.patience(silent, now) <= 0.0:
            self.give_back(endpoint)
            raise endpoint.went_silent(batch.deadline, now)
        batch.queued(now - began)
        batch.share_time(silent, now)

    def _take_slot(
        self, batch: Batch, endpoint: EndpointState, seconds: float, again: bool
    ) -> bool:
        key, urgent, stop = batch.tenant, batch.interactive, batch.stop
        if self.connections is None and endpoint.shared_slots is None:
            return endpoint.slots.acquire(
                key=key, urgent=urgent, seconds=seconds, again=again, stop=stop
            )
        until = self.clock.now() + seconds
        needed = self._places(endpoint)
        # Who waits for one of them does not hold the others: what was lacking is waited for first.
        while needed[0].acquire(key=key, urgent=urgent, seconds=seconds, again=again, stop=stop):
            taken = 1
            try:
                while True:
                    if taken == len(needed) or not needed[taken].acquire(key=key, urgent=urgent):
                        break
                    taken += 1
            finally:
                if taken < len(needed):
                    for permits in needed[:taken]:
                        permits.release()
            if taken == len(needed):
                return True
            needed.insert(0, needed.pop(taken))
            seconds, again = until - self.clock.now(), True
        return False

    def give_back(self, endpoint: EndpointState) -> None:
        """Give the place back; the slot is used up, or was never there."""
        if self.connections is None and endpoint.shared_slots is None:
            endpoint.slots.release()
            return
        for permits in self._places(endpoint):
            permits.release()

    def give_back_shared(self, endpoint: EndpointState) -> None:
        """Give back what a place consists of beside the endpoint's own, which goes back with its
        settlement."""
        for permits in self._places(endpoint)[1:]:
            permits.release()

    def _places(self, endpoint: EndpointState) -> list[Permits]:
        """Return what a place consists of: the endpoint's own, and where there is one, that of all
        endpoints and that among other processes."""
        return [
            p for p in (endpoint.slots, self.connections, endpoint.shared_slots) if p is not None
        ]


def _no_slot(batch: Batch, endpoint: EndpointState, now: float, wait: float) -> RateLimitedError:
    why = endpoint.overload.why_no_slot(endpoint.limiter.next_free(now), now)
    return RateLimitedError(
        f"no slot within the deadline of {batch.deadline.seconds:g} s: {why}",
        endpoint=endpoint.label,
        retry_after=wait,
    )


def _waiter(batch: Batch) -> SlotWaiter:
    """Return a batch's place in a queue; its tenant and its priority say where that is."""
    latest = (batch.queue_deadline or batch.deadline).at
    waiter = SlotWaiter(batch.tenant, batch.interactive, latest, batch.stop)
    waiter.first = _is_repeated(batch)
    return waiter


def _is_repeated(batch: Batch) -> bool:
    """Return whether bulk work was sent before: its deadline runs, and that of what has never been
    sent does not, so it goes first. Behind the line of a slow service it would run out."""
    return batch.sent > 0.0 and not batch.interactive
