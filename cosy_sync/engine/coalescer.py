"""Texts of concurrent callers share batches: sent at once when idle, gathered while busy.

If nothing is in flight, the calling thread sends its text itself. Else texts queue, and a worker
waits up to `linger` for more, acquires a connection and a turn in the rate limit, and only then
fixes the batch. Callers only wait; each leaves when its own time is up, and the batch goes on.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import weakref
from collections.abc import Sequence

from ..atomic import Flag, on_main_thread
from ..errors import ClosedError, CosyError
from ..models import Outcome, Utterance
from ..policies import Deadline
from ..threads import leave_behind
from ..user_code import goes_on
from .caller import Caller
from .crew import Crew
from .gate import Gate
from .job import Stop, failed
from .line import Line, Packing, SharedJob, as_event, late, on_its_way
from .singleflight import Flight, Ticket, Waiter, outlasting, share
from .small_call import Part

__all__ = ["Coalescer"]

# Seconds that a caller whose time is up gives its batch to say why.
_LAST_WORD = 0.05


class Coalescer:
    """The queue of texts that may share a batch: same settings, same tenant, same priority."""

    def __init__(self, packing: Packing, crew: Crew, caller: Caller, gate: Gate | None) -> None:
        self._packing = packing
        self._gathers = packing.max_texts > 1
        self._crew = crew
        self._caller = caller
        self._gate = gate
        # Guards everything below, and of every flight its tickets and its job.
        self._lock = threading.Lock()
        # Every flight that others may join, by its key.
        self._flights: dict[object, Flight] = {}
        self._line = Line(packing.max_texts, packing.max_chars)
        # Texts on their callers' threads, and batches with texts without an outcome; whether a
        # worker gathers a batch, or was called to.
        self._flying, self._attended = 0, False
        # Ends the linger of the worker that gathers.
        self._bell: threading.Event | None = None
        self._rings_at = math.inf
        # There are tickets whose deadline begins when their batch is sent.
        self._restarts = False

    # -- callers --------------------------------------------------------------------------------

    def take_off(self, utterance: Utterance) -> Flight | None:
        """Let the caller's own thread send a text when nothing is in flight; None otherwise.

        Who gets a flight must end it with `touch_down`.
        """
        key = utterance.text
        with self._lock:
            if (self._flying and self._gathers) or key in self._flights:
                return None
            flight = Flight(utterance, key, [])
            if self._packing.single_flight:
                self._flights[key] = flight
            self._flying += 1
        return flight

    def touch_down(self, flight: Flight, deadline: Deadline, outcome: Outcome | None) -> None:
        """End a text that its caller's own thread sent; without an outcome another one sends it."""
        with self._lock:
            self._flying -= 1
            tickets = self._end(flight, deadline, outcome)
            asks = self._asks()
        if tickets and outcome is not None:
            self._tell(outcome, tickets)
        if asks:
            self._call_worker()

    def join(self, utterance: Utterance, ticket: Ticket) -> None:
        """Queue a text, or wait for the same text, which is in flight or queued already.

        Ctrl-C may end this anywhere; but no other caller may then wait for a text that is not
        queued, or for a worker that was not called.
        """
        try:
            self._join(utterance, ticket)
        except BaseException:
            self._clear_door()
            raise

    def _join(self, utterance: Utterance, ticket: Ticket) -> None:
        key: object = utterance.text if self._packing.single_flight else ticket
        at = math.inf if ticket.attended else ticket.deadline.at
        with self._lock:
            flight = self._flights.get(key)
            new = flight is None
            if flight is None:
                flight = Flight(utterance, key, [ticket])
                self._line.append(flight)
                self._flights[key] = flight
            else:
                ticket.flight = flight
                flight.tickets.append(ticket)
            rings = at < self._rings_at
            if rings:
                self._rings_at = at
            bell = self._bell if self._line.full else None
            asks = self._asks(new)
        if asks:
            self._call_worker()
        if bell is not None:
            bell.set()
        if rings:
            self._set_alarm(at)

    def join_all(self, parts: Sequence[Part]) -> None:
        """Queue all texts of a call at once, so that one batch can take them.

        No two of them are one flight: a call may want several takes of a text. Ctrl-C as in `join`.
        """
        try:
            with self._lock:
                self._restarts = True
                for part in parts:
                    flight = self._flights[part] = Flight(part.text, part, [part])
                    self._line.append(flight)
                bell = self._bell if self._line.full else None
                asks = self._asks()
            if asks:
                self._call_worker()
            if bell is not None:
                bell.set()
        except BaseException:
            self._clear_door()
            raise

    def wait(self, utterance: Utterance, waiter: Waiter) -> Outcome:
        """Wait for the outcome; leave when the time is up."""
        left = waiter.deadline.remaining(self._crew.clock.now())
        if not waiter.wait(left + _LAST_WORD):
            if waiter.flight is None:  # a worker has the text all alone, or will have it: it counts
                return failed(utterance, waiter.deadline.error("waiting for the service"))
            if self.leave(waiter):
                return self._late(waiter)
            waiter.wait(threading.TIMEOUT_MAX)  # it is being told just now
        if waiter.error is not None:
            raise waiter.error
        assert waiter.outcome is not None
        return waiter.outcome

    def leave(self, ticket: Ticket, *, unless_sent: bool = False, cut: bool = False) -> bool:
        """Stop waiting; return False when the outcome is being handed over just now, or, with
        `unless_sent`, when the text may have been sent. `cut`: also its request, when nobody else
        waits."""
        with self._lock:
            flight = ticket.flight
            if not flight or ticket not in flight.tickets or (unless_sent and on_its_way(flight)):
                return False
            stop = self._abandon(flight, ticket)
        if cut and stop is not None:
            leave_behind(stop.cut)
        return True

    def _late(self, ticket: Ticket) -> Outcome:
        """Return the outcome of a ticket that left because its time was up."""
        outcome = late(ticket, self._gate)
        self._count(outcome)
        return outcome

    # -- batches --------------------------------------------------------------------------------

    def depart(self, job: SharedJob) -> bool:
        """Fill up a batch that is sent now, without unwanted texts; return whether it has any."""
        most, now = self._crew.most(self._packing.max_texts), self._crew.clock.now()
        with self._lock:
            job.departed, self._attended = True, False
            stay = [flight for flight in job.flights if flight.tickets]
            if not stay:
                if job.open:  # or its caller gave up before, and has counted it
                    self._flying -= 1
                job.open = 0
            elif self._line or len(stay) < job.open or self._restarts:
                stay += self._line.take(stay, most)
                self._restart(stay, now, job.silent)
                job.load(stay)
            asks = self._asks()
        if asks:
            self._call_worker()
        return bool(stay)

    def land(self, job: SharedJob, news: Sequence[tuple[Flight, Outcome]]) -> None:
        """Tell everybody who waits for these texts."""
        with self._lock:
            job.open -= len(news)
            if not job.open:
                self._flying -= 1
            told = [(outcome, self._end(flight, job.deadline, outcome)) for flight, outcome in news]
            asks = self._asks()
        if asks:
            self._call_worker()
        for outcome, tickets in told:
            if len(tickets) > 1:
                self._tell(outcome, tickets[1:])  # the job has counted the text once
            if tickets:
                tickets[0].tell(share(outcome, tickets[0]))

    def _attend(self, wanted: threading.Lock) -> None:
        """On a worker: bring the queued texts to their outcomes, as one batch.

        It was called off once `wanted` is locked.
        """
        job: SharedJob | None = None
        if not wanted.acquire(blocking=False):
            return
        try:
            # Where it has to wait for a place anyway, more texts come meanwhile.
            if self._flying and self._crew.free():
                self._wait_for_company()
            job = self._board()
            if job is not None:
                self._run(job)
        finally:
            if self._gate is not None:
                self._gate.release()
            if job is None or not job.departed:
                self._clear_door()

    def _clear_door(self) -> None:
        with self._lock:
            self._attended = False
            asks = self._asks()
        if asks:
            self._call_worker()

    def _run(self, job: SharedJob) -> None:
        crew = self._crew
        crew.stops.add(job.stop)
        if crew.cut.is_set():  # too late for the one who sets all stops
            job.stop.set()
        try:
            self._caller.run(job)
        except BaseException as error:
            if goes_on(error):
                raise
            job.end(error)
        finally:
            crew.stops.discard(job.stop)
            job.deliver()

    def _wait_for_company(self) -> None:
        now = self._crew.clock.now()
        with self._lock:
            if not self._line or self._line.full:
                return
            left = self._line.oldest + self._packing.linger - now
            if left <= 0:
                return
            bell = self._bell = Flag()
        self._crew.clock.wait(bell, left)

    def _board(self) -> SharedJob | None:
        most, now = self._crew.most(self._packing.max_texts), self._crew.clock.now()
        with self._lock:
            self._bell = None
            if not (flights := self._line.take([], most)):
                return None
            self._flying += 1
            self._restart(flights, now)
            return SharedJob(self, flights, self._packing)

    def _refuse(self, error: CosyError) -> None:
        """Fail all queued texts."""
        with self._lock:
            flights = self._line.clear()
            ends = [(flight.utterance, flight.tickets) for flight in flights]
            for flight in flights:
                self._forget(flight)
                flight.tickets = []
        for utterance, tickets in ends:
            self._tell(failed(utterance, error), tickets)

    # -- under the lock -------------------------------------------------------------------------

    def _asks(self, new: bool = False) -> bool:
        """Return whether a worker must be called; the one that is called counts as there."""
        if not self._line or (self._attended and (self._gathers or not new)):
            return False
        self._attended = True
        return True

    def _restart(self, flights: Sequence[Flight], now: float, silent: float = math.inf) -> None:
        """Begin the deadline of those whose deadline counts from their sending."""
        if self._restarts:
            for ticket in [ticket for flight in flights for ticket in flight.tickets]:
                ticket.depart(now, silent)

    def _end(self, flight: Flight, deadline: Deadline, outcome: Outcome | None) -> list[Ticket]:
        """End a flight; return whom its outcome is for. Those with time left are queued again."""
        self._forget(flight)
        tickets, flight.tickets = flight.tickets, []
        if not tickets:
            return tickets
        rest = outlasting(tickets, deadline, outcome)
        if not rest:
            return tickets
        text = flight.utterance.text
        again = Flight(Utterance(0, text), flight.key, rest)
        self._line.append(again)
        self._flights[again.key] = again
        return [ticket for ticket in tickets if ticket not in rest]

    def _abandon(self, flight: Flight, ticket: Ticket) -> Stop | None:
        """Take a ticket back; stop the flight's job, and return its stop, when that was the last
        one of all its texts. A flight that nobody waits for is not joined any more."""
        flight.tickets.remove(ticket)
        if not flight.tickets and not flight.led:
            self._forget(flight)
            job = flight.job
            if isinstance(job, SharedJob) and not any(each.tickets for each in job.flights):
                job.stop.set()  # it has no lock
                return job.stop
        return None

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    # -- outside of it --------------------------------------------------------------------------

    def _call_worker(self) -> None:
        gate, urgent = self._gate, self._packing.interactive
        if gate is None:
            self._start()
            return
        enter = functools.partial(gate.enter_later, self._start, urgent=urgent)
        if on_main_thread():  # Ctrl-C must not end it while it holds a tenant's place
            with contextlib.suppress(ClosedError):
                self._crew.workers.submit(enter)
                return
        enter()

    def _start(self) -> None:
        wanted = threading.Lock()
        try:
            self._crew.workers.submit(lambda: self._attend(wanted))
        except ClosedError as error:
            self._attended = False
            if self._gate is not None:
                self._gate.release()
            self._refuse(error)
        except BaseException:  # Ctrl-C: the worker may have been called, or not
            wanted.acquire(blocking=False)
            raise

    def _set_alarm(self, at: float) -> None:
        left = max(0.0, at - self._crew.clock.now())
        # The alarm holds no reference: a dropped client whose texts are spoken ends at once.
        expire = weakref.WeakMethod(self._expire)
        self._crew.alarms.after(left + _LAST_WORD, lambda: (do := expire()) and do())

    def _expire(self) -> None:
        """Fail the futures whose time is up: no thread waits for them that could leave."""
        now = self._crew.clock.now()
        with self._lock:
            waiting = [
                ticket
                for flight in self._flights.values()
                for ticket in flight.tickets
                if not ticket.attended
            ]
            due = [ticket for ticket in waiting if ticket.deadline.at <= now]
            later = [ticket.deadline.at for ticket in waiting if ticket.deadline.at > now]
            for ticket in due:
                assert ticket.flight is not None
                self._abandon(ticket.flight, ticket)
            at = self._rings_at = min(later, default=math.inf)
        for ticket in due:
            ticket.tell(self._late(ticket))
        if at < math.inf:
            self._set_alarm(at)

    def _tell(self, outcome: Outcome, tickets: Sequence[Ticket]) -> None:
        """Hand an outcome to tickets that no job has counted."""
        for ticket in tickets:
            self._count(own := share(outcome, ticket))
            ticket.tell(own)

    def _count(self, outcome: Outcome) -> None:
        self._crew.observer.on_event(as_event(outcome))
