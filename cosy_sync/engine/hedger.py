"""A late call is sent to a second endpoint as well; the first good answer counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from ..errors import ClosedError
from ..events import HedgeFinished
from ..models import Audio, Utterance
from ..policies import HedgePolicy
from ..wires.base import Wire
from .asking import asking
from .attempt import Attempter
from .cluster import Cluster
from .executor import Executor
from .job import Job
from .ports import Result
from .station import Station

__all__ = ["Budget", "Hedger"]

# Seconds beyond the deadline in which an attempt, which keeps it by itself, says what happened.
_LAST_WORD = 0.05

_Answer = Sequence[Result] | BaseException


class Budget(Protocol):
    """What hedges are paid from: the retry budget."""

    def withdraw(self, texts: int, now: float) -> bool:
        """Pay for sending so many texts once more, all or none; return whether that worked."""
        ...


class _Leg(Job):
    """A job as one of its two attempts sees it."""

    __slots__ = ("_job", "_mail")

    def __init__(self, job: Job, mail: SimpleQueue[_News] | None = None) -> None:
        super().__init__(
            job.texts,
            job.deadline,
            interactive=True,
            tenant=job.tenant,
            stop=job.stop,
        )
        self.taken_up = job.taken_up
        self.first_tries = job.first_tries
        self._job = job
        self._mail = mail

    def depart(self) -> None:
        """Tell the job, which may take more texts along, and whoever counts the time."""
        if self._mail is not None:
            self._job.depart()
            self.deadline, self.taken_up = self._job.deadline, self._job.taken_up
            self._mail.put(_News())

    def refused(self, errors: Sequence[Result]) -> None:
        """Tell the job, whose call may be refused as a whole."""
        self._job.refused(errors)

    def arrive(self) -> None:
        """Tell whoever counts the time that the service needs no more of it."""
        if self._mail is not None:
            self._mail.put(_News(arrived=True))


@dataclass(frozen=True)
class _News:
    """What became of an attempt at a station; without a station: the first one was sent, or its
    reply arrived."""

    station: Station | None = None
    answer: _Answer = ()
    arrived: bool = False


@dataclass(kw_only=True)
class _Race:
    """One call: where it was sent, and what came back."""

    job: Job
    texts: Sequence[Utterance]
    number: int
    first: Station
    second: Station | None = None
    mail: SimpleQueue[_News] = field(default_factory=SimpleQueue)
    answers: dict[Station, _Answer] = field(default_factory=dict)

    def decided(self) -> bool:
        """Return whether nothing better can come."""
        under_way = 1 if self.second is None else 2
        return len(self.answers) == under_way or any(map(_is_good, self.answers.values()))

    def best(self) -> tuple[Station, _Answer]:
        """Return the station whose answer counts. Bad audio gives way to the other's."""
        for station, answer in self.answers.items():
            if _is_good(answer):
                return station, answer
        mine = self.answers[self.first]
        other = self.answers.get(self.second) if self.second is not None else None
        if self.second is None or other is None or isinstance(other, BaseException):
            return self.first, mine
        if isinstance(mine, BaseException):
            return self.second, other
        pairs = zip(mine, other, strict=True)
        return self.first, [b if isinstance(b, Audio) else a for a, b in pairs]


def _is_good(answer: _Answer) -> bool:
    if isinstance(answer, BaseException):
        return False
    return all(isinstance(result, Audio) for result in answer)


@dataclass(frozen=True, kw_only=True)
class Hedger:
    """Makes attempts like an Attempter, and a second one of those that are late.

    Only of `synth` and `submit`; never to the same endpoint; only when the budget pays. The loser
    goes on by itself: its answer is dropped, and its permits are given back then. Both attempts
    run on workers of `legs`, so that their caller need not wait for the loser.
    """

    attempter: Attempter
    cluster: Cluster
    policy: HedgePolicy
    budget: Budget | None
    legs: Executor

    @property
    def wires(self) -> Mapping[str, Wire]:
        """Return each endpoint's wire, by its URL."""
        return self.attempter.wires

    def attempt(
        self, job: Job, texts: Sequence[Utterance], station: Station, number: int
    ) -> Sequence[Result]:
        """Send texts to an endpoint, when late to a second one; return audio or errors.

        Waits, and raises, like the attempts. Where both fail, it is the first one's error.
        """
        now = self.attempter.clock.now()
        # A call out of a check must not wait for legs on which other checks run.
        single = job.interactive and job.backlog is None and asking.job is None
        if not single or self.budget is None or self.policy.delay(1, now) is None:
            results = self.attempter.attempt(job, texts, station, number)
            self._note(texts, results)
            return results
        race = _Race(job=job, texts=texts, number=number, first=station)
        self._send(race, station, _Leg(job, race.mail), texts)
        self._watch(race)
        winner, answer = race.best()
        if race.second is not None:
            won = winner is race.second
            event = HedgeFinished(race.second.label, len(texts), won)
            self.attempter.observer.on_event(event)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _watch(self, race: _Race) -> None:
        """Wait until the race is decided; start the second attempt when the first one is late."""
        clock = self.attempter.clock
        late_at: float | None = None
        while not race.decided():
            now = clock.now()
            left = race.job.deadline.at + _LAST_WORD - now
            if left <= 0:
                raise race.job.deadline.error("waiting for the service", in_flight=True)
            wait = left if late_at is None else min(left, max(0.0, late_at - now))
            try:
                news = race.mail.get(timeout=min(wait, threading.TIMEOUT_MAX))
            except Empty:
                if late_at is not None and clock.now() >= late_at:
                    late_at = None
                    self._hedge(race)
                continue
            if news.station is not None:
                race.answers[news.station] = news.answer
                continue
            delay = self.policy.delay(_longest(race.texts), clock.now())
            late_at = None if delay is None or news.arrived else clock.now() + delay

    def _hedge(self, race: _Race) -> None:
        now = self.attempter.clock.now()
        second = self.cluster.another(race.first, now)
        if second is None:
            return
        texts = list(race.texts)
        if self.budget is None or not self.budget.withdraw(len(texts), now):
            second.leave(now)
            return
        race.second = second
        self._send(race, second, _Leg(race.job), texts)

    def _send(self, race: _Race, station: Station, leg: _Leg, texts: Sequence[Utterance]) -> None:
        def work() -> None:
            answer: _Answer
            try:
                answer = self.attempter.attempt(leg, texts, station, race.number)
                self._note(texts, answer)
            except BaseException as error:
                answer = error
            race.mail.put(_News(station, answer))

        try:
            self.legs.submit(work)
        except ClosedError:
            station.leave(self.attempter.clock.now())
            raise

    def _note(self, texts: Sequence[Utterance], results: Sequence[Result]) -> None:
        for result in results:
            if isinstance(result, Audio) and result.timing is not None:
                now = self.attempter.clock.now()
                self.policy.note(result.timing.total, _longest(texts), now)
                return


def _longest(texts: Sequence[Utterance]) -> int:
    return max(len(utterance.text) for utterance in texts)
