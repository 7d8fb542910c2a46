"""A late call is sent to a second endpoint as well; the first good answer counts."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from ..endpoints.endpoint import EndpointState
from ..endpoints.pool import EndpointPool
from ..errors import ClosedError
from ..events import HedgeFinished
from ..models import Audio, Utterance
from ..policies import HedgePolicy, RetryBudget
from ..threads import leave
from ..threads.workers import Executor
from .attempt import AttemptRunner
from .audio_check import asking
from .batch import Batch
from .ports import Result

__all__ = ["Hedging"]

# Seconds beyond the deadline in which an attempt, which keeps it by itself, says what happened.
_LAST_WORD = 0.05

_Answer = Sequence[Result] | BaseException


@dataclass(frozen=True)
class _News:
    """What became of an attempt at an endpoint; without an endpoint: the first one was sent."""

    endpoint: EndpointState | None = None
    answer: _Answer = ()


@dataclass(kw_only=True)
class _Race:
    """One call: where it was sent, and what came back."""

    batch: Batch
    # Those that are sent, once the first attempt is.
    texts: Sequence[Utterance]
    number: int
    first: EndpointState
    second: EndpointState | None = None
    mail: SimpleQueue[_News] = field(default_factory=SimpleQueue)
    answers: dict[EndpointState, _Answer] = field(default_factory=dict)
    # The batch as its first attempt sees it.
    hedged: Batch = field(init=False)

    def __post_init__(self) -> None:
        self.hedged = self.attempt_of()
        self.hedged.on_seal = self.seal

    def attempt_of(self) -> Batch:
        """Return the batch as one of its two attempts sees it: each has a state of its own, while
        both have the deadline and the texts that it was sealed with."""
        batch = self.batch
        hedged = Batch(
            self.texts, batch.deadline, interactive=True, tenant=batch.tenant, stop=batch.stop
        )
        hedged.accepted_at, hedged.first_tries = batch.accepted_at, batch.first_tries
        hedged.record, hedged.number = batch.record, batch.number
        return hedged

    def seal(self, texts: Sequence[Utterance]) -> Sequence[Utterance]:
        """Seal the batch with the first attempt, and tell whoever counts the time from then on."""
        batch, hedged = self.batch, self.hedged
        self.texts = hedged.texts = batch.seal(texts)
        hedged.deadline, hedged.accepted_at = batch.deadline, batch.accepted_at
        # Its request is counted once, and a refusal is noted where the batch's are.
        hedged.record, hedged.number = batch.record, batch.number
        hedged.on_seal = None  # or the collector would have to free both
        self.mail.put(_News())
        return self.texts

    def decided(self) -> bool:
        """Return whether nothing better can come."""
        in_flight = 1 if self.second is None else 2
        return len(self.answers) == in_flight or any(map(_is_good, self.answers.values()))

    def best(self) -> tuple[EndpointState, _Answer]:
        """Return the endpoint whose answer counts. Bad audio gives way to the other's."""
        for endpoint, answer in self.answers.items():
            if _is_good(answer):
                return endpoint, answer
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
class Hedging:
    """Makes attempts like an AttemptRunner, and a second one of those that are late.

    Only of `synth` and `submit`; never to the same endpoint; only when the budget pays. The loser
    goes on by itself: its answer is dropped, and its permits are given back then. Both attempts
    run on threads of `workers`, so that their caller need not wait for the loser.
    """

    attempter: AttemptRunner
    endpoints: EndpointPool
    policy: HedgePolicy
    budget: RetryBudget
    workers: Executor

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Send texts to an endpoint, when late to a second one; return audio or errors.

        Waits, and raises, like the attempts. Where both fail, it is the first one's error.
        """
        now = self.attempter.clock.now()
        # A call out of a check must not wait for workers on which other checks run.
        single = batch.interactive and batch.reorder is None and asking.batch is None
        if not single or self.policy.delay(1, now) is None:
            grows = batch.may_grow
            results = self.attempter.attempt(batch, texts, endpoint, number)
            self._note(batch.texts if grows else texts, results)
            return results
        race = _Race(batch=batch, texts=texts, number=number, first=endpoint)
        self._send(race, endpoint, race.hedged)
        self._watch(race)
        winner, answer = race.best()
        if race.second is not None:
            won = winner is race.second
            event = HedgeFinished(race.second.label, len(race.texts), won)
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
            left = race.batch.deadline.at + _LAST_WORD - now
            if left <= 0:
                raise race.batch.deadline.error("waiting for the service", in_flight=True)
            wait = left if late_at is None else min(left, max(0.0, late_at - now))
            try:
                leave()
                news = race.mail.get(timeout=min(wait, threading.TIMEOUT_MAX))
            except Empty:
                if late_at is not None and clock.now() >= late_at:
                    late_at = None
                    self._hedge(race)
                continue
            if news.endpoint is not None:
                race.answers[news.endpoint] = news.answer
                continue
            delay = self.policy.delay(_longest(race.texts), clock.now())
            late_at = None if delay is None else clock.now() + delay

    def _hedge(self, race: _Race) -> None:
        if race.hedged.arrived:
            return  # what takes so long is the user's check, which needs no second reply
        now = self.attempter.clock.now()
        second = self.endpoints.another(race.first, now)
        if second is None:
            return
        if not self.budget.withdraw(len(race.texts), now, hedge=True):
            second.leave(now)
            return
        race.second = second
        self._send(race, second, race.attempt_of())

    def _send(self, race: _Race, endpoint: EndpointState, hedged: Batch) -> None:
        def work() -> None:
            answer: _Answer
            try:
                answer = self.attempter.attempt(hedged, hedged.texts, endpoint, race.number)
                self._note(hedged.texts, answer)
            except BaseException as error:
                answer = error
            race.mail.put(_News(endpoint, answer))

        try:
            self.workers.submit(functools.partial(copy_context().run, work))
        except ClosedError:
            endpoint.leave(self.attempter.clock.now())
            raise

    def _note(self, texts: Sequence[Utterance], results: Sequence[Result]) -> None:
        for result in results:
            if isinstance(result, Audio) and result.timing is not None:
                now = self.attempter.clock.now()
                self.policy.note(result.timing.total, _longest(texts), now)
                return


def _longest(texts: Sequence[Utterance]) -> int:
    return max(len(utterance.text) for utterance in texts)
