"""The way to an endpoint: a place among its requests in flight, and a turn in its rate limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..clock import Clock
from ..errors import ClosedError, RateLimitedError
from .budget import Permits
from .job import Job
from .station import Station
from .turns import BRIEF, Waiter

__all__ = ["Entry"]

# How often a place is kept until the turn comes, as somebody more urgent may be quicker, and the
# shortest wait for it in seconds.
_TRIES, _SOONEST = 4, 1e-5


@dataclass(frozen=True)
class Entry:
    """Waits for a place and a turn, for all threads; who waits for the one does not hold the other.

    `connections`: the places of all endpoints together; None where the endpoints' own are fewer.
    """

    connections: Permits | None
    clock: Clock
    # Since when no endpoint has answered: who waits, unsent, for one of several may be sent to
    # another one in the end.
    silent_since: Callable[[], float]

    def wait(self, job: Job, station: Station) -> float:
        """Wait for a free connection and a turn in the rate limit, holding neither meanwhile;
        return the instant at which the limiter let it go."""
        self._take_place(job, station)
        limiter, urgent = station.limiter, job.interactive

        def go(now: float) -> float:
            if limiter.go(now, urgent):
                return 0.0
            # Others may go first though a turn is there: only one that was taken is a turn.
            return max(limiter.next_free(now, urgent) - now, _SOONEST)

        went, _ = self._soon(job, station, go)
        if went is not None:
            return went
        waiter = Waiter.of(job)
        job.stop.attach(waiter.event)
        try:
            return self._stand_in_line(job, station, waiter)
        finally:
            job.stop.detach(waiter.event)
            station.limiter.leave(waiter, self.clock.now())

    def _stand_in_line(self, job: Job, station: Station, waiter: Waiter) -> float:
        clock, limiter = self.clock, station.limiter
        now = clock.now()
        wait = limiter.join(waiter, now)
        while True:
            paused = limiter.paused_until > now
            deadline = job.deadline if paused else job.queue_deadline or job.deadline
            if now + wait > deadline.at:
                raise _no_turn(job, station, now, wait)
            waiter.latest = deadline.at
            waiter.sleep(clock)
            if not paused:
                job.queued(clock.now() - now)
            self._take_place(job, station, again=True)
            went, wait = self._soon(job, station, lambda now: limiter.take(waiter, now))
            if went is not None:
                return went
            now = clock.now()

    def _soon(
        self, job: Job, station: Station, take: Callable[[float], float]
    ) -> tuple[float | None, float]:
        """Take a turn that is there now, or in a moment: the place is kept so long, or whoever is
        next would take it and find no turn either. Without one, the place is given back.

        Returns the instant, None for no turn, and the seconds until there is one.

        Args:
            job: Who waits.
            station: Where it has its place.
            take: Takes a turn and returns 0, or the seconds until it may be there.
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
                if self.clock.wait(job.stop, max(wait, _SOONEST)):
                    raise ClosedError("cancelled while it waited for its turn; nothing was sent")
        finally:
            if not keeps:
                self.give_back(station)
        return None, wait

    def _take_place(self, job: Job, station: Station, again: bool = False) -> None:
        now = began = self.clock.now()
        deadline = job.queue_deadline or job.deadline
        left = deadline.remaining(now)
        longest = station.governor.longest_wait(job.interactive, now)
        most = wait = min(left, longest)
        if job.queue_deadline is not None:
            wait = min(most, job.patience(self.silent_since(), now))
        while not self._take_slot(job, station, wait, again):
            if job.stop.is_set():
                raise ClosedError("cancelled while it waited for a connection; nothing was sent")
            if wait >= most:
                if longest < left:
                    raise station.governor.no_place(longest)
                raise deadline.error("waiting for a free connection")
            # An answer that came meanwhile gives it time.
            most, now, again = most - wait, self.clock.now(), True
            wait = min(most, job.patience(self.silent_since(), now))
            if wait <= 0.0:
                raise station.went_silent(job.deadline, now)
        if job.queue_deadline is None:
            return
        now, silent = self.clock.now(), self.silent_since()
        if job.patience(silent, now) <= 0.0:
            self.give_back(station)
            raise station.went_silent(job.deadline, now)
        job.queued(now - began)
        job.share_time(silent, now)

    def _take_slot(self, job: Job, station: Station, seconds: float, again: bool) -> bool:
        key, urgent, stop = job.tenant, job.interactive, job.stop
        if self.connections is None and station.shared_slots is None:
            return station.slots.acquire(
                key=key, urgent=urgent, seconds=seconds, again=again, stop=stop
            )
        until = self.clock.now() + seconds
        needed = self._places(station)
        # Who waits for one of them does not hold the others: what was lacking is waited for first.
        while needed[0].acquire(key=key, urgent=urgent, seconds=seconds, again=again, stop=stop):
            taken = 1
            try:
                while taken < len(needed) and needed[taken].acquire(key=key, urgent=urgent):
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

    def give_back(self, station: Station) -> None:
        """Give the place back; the turn is used up, or was never there."""
        if self.connections is None and station.shared_slots is None:
            station.slots.release()
            return
        for permits in self._places(station):
            permits.release()

    def _places(self, station: Station) -> list[Permits]:
        """Return what a place consists of: the endpoint's own, and where there is one, that of all
        endpoints and that among other processes."""
        return [p for p in (station.slots, self.connections, station.shared_slots) if p is not None]


def _no_turn(job: Job, station: Station, now: float, wait: float) -> RateLimitedError:
    return RateLimitedError(
        f"no turn within the deadline of {job.deadline.seconds:g} s: {station.why_no_turn(now)}",
        endpoint=station.label,
        retry_after=wait,
    )
