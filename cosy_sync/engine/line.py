"""Texts that wait for a batch, and the batch that several callers share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import CosyError, RefusedError
from ..events import TextFailed, TextsShared
from ..models import Outcome, Utterance, text_hash
from .gate import Gate
from .job import ENDLESS, Job, Stop, failed
from .singleflight import Flight, Ticket

__all__ = ["Line", "Packing", "SharedJob", "as_event", "late", "on_its_way"]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How a coalescer packs, and for whom. `linger` in seconds."""

    max_texts: int
    max_chars: int
    linger: float
    single_flight: bool
    interactive: bool
    tenant: str


class Line:
    """Flights in the order of their coming. Its coalescer's lock guards it."""

    def __init__(self, max_texts: int, max_chars: int) -> None:
        self._max_texts = max_texts
        self._max_chars = max_chars
        self._flights: deque[Flight] = deque()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def full(self) -> bool:
        """Return whether a batch can be filled."""
        return len(self._flights) >= self._max_texts or self._chars >= self._max_chars

    @property
    def oldest(self) -> float:
        """Return when the first in line was taken up."""
        return self._flights[0].taken_up

    def append(self, flight: Flight) -> None:
        """Put a flight at the end."""
        self._chars += len(flight.utterance.text)
        self._flights.append(flight)

    def take(self, others: Sequence[Flight], most: int | None = None) -> list[Flight]:
        """Take out what still fits into a batch with these others, but nothing unwanted; `most`
        texts in all, where that is less than usual."""
        room = min(self._max_texts, most or self._max_texts) - len(others)
        chars = sum(len(flight.utterance.text) for flight in others)
        taken: list[Flight] = []
        while self._flights:
            flight = self._flights[0]
            length = len(flight.utterance.text)
            if flight.tickets:
                too_long = chars + length > self._max_chars and (others or taken)
                if len(taken) >= room or too_long:
                    break
                taken.append(flight)
                chars += length
            self._flights.popleft()
            self._chars -= length
        return taken

    def clear(self) -> list[Flight]:
        """Take out everything."""
        flights = list(self._flights)
        self._flights.clear()
        self._chars = 0
        return flights


class Boarding(Protocol):
    """The coalescer, as a batch needs it."""

    def depart(self, job: SharedJob) -> bool:
        """Fill up a batch that leaves; return whether anybody still waits for it."""
        ...

    def land(self, job: SharedJob, news: Sequence[tuple[Flight, Outcome]]) -> None:
        """Tell everybody who waits for these texts."""
        ...


class SharedJob(Job):
    """A batch of several callers' texts. Texts may join until it departs."""

    shared = True

    __slots__ = ("_boarding", "_list", "_told", "departed", "flights", "open")

    def __init__(self, boarding: Boarding, flights: list[Flight], packing: Packing) -> None:
        self._list = [flight.utterance for flight in flights]
        super().__init__(
            self._list,
            flights[0].tickets[0].deadline,
            interactive=packing.interactive,
            tenant=packing.tenant,
            stop=Stop(),
        )
        if not packing.interactive:
            self.queue_deadline = ENDLESS
            self.call_began = max(t.began for flight in flights for t in flight.tickets)
        self._boarding = boarding
        self._told = 0
        self.departed = False
        self.load(flights)

    def load(self, flights: list[Flight]) -> None:
        """Hold these flights, at least one. Called under the coalescer's lock."""
        self.flights = flights
        # Texts without an outcome.
        self.open = len(flights)
        self.deadline = flights[0].longest()
        self.taken_up = flights[0].taken_up
        for index, flight in enumerate(flights):
            flight.job = self
            flight.utterance.index = index
            self.taken_up = min(self.taken_up, flight.taken_up)
            longest = flight.longest()
            if longest.at > self.deadline.at:
                self.deadline = longest
        # In place: the thread that runs the job holds this very list.
        self._list[:] = [flight.utterance for flight in flights]

    @property
    def may_grow(self) -> bool:
        """Return whether texts may still join before it is sent."""
        return not self.departed

    def depart(self) -> None:
        """Take in the texts that joined meanwhile. Raises RefusedError when all have left."""
        if not self.departed and not self._boarding.depart(self):
            raise RefusedError("not sent: nobody waits for it any more", retryable=False)
        super().depart()

    def deliver(self) -> None:
        """Tell the callers whose outcome is known."""
        told, self._told = self._told, len(self.outcomes)
        if told < self._told:
            news = self.outcomes[told:]
            self._boarding.land(self, [(self.flights[o.index], o) for o in news])


def on_its_way(flight: Flight) -> bool:
    """Return whether a text may have been sent."""
    return flight.led or (isinstance(flight.job, SharedJob) and flight.job.departed)


def late(ticket: Ticket, gate: Gate | None) -> Outcome:
    """Return the outcome of a ticket whose time was up, which says what it waited for."""
    flight = ticket.flight
    assert flight is not None
    utterance, job = flight.utterance, flight.job
    phase = "waiting for its turn in a batch"
    if on_its_way(flight):
        phase = "waiting for the service"
    elif gate is not None and job is None:
        phase = f"waiting for one of the tenant's {gate.limit} places"
    error: CosyError = ticket.deadline.error(phase, in_flight=job is not None and job.in_flight)
    if job is not None:
        error = job.last_word(utterance, error)
    return failed(Utterance(0, utterance.text), error)


def as_event(outcome: Outcome) -> TextsShared | TextFailed:
    """Return what observers are told of the outcome of a text that no job has counted."""
    chars = len(outcome.text)
    if outcome.error is None:
        return TextsShared(1, chars)
    return TextFailed(text_hash(outcome.text), chars, outcome.error)
