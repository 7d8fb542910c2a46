"""One batch's life: attempts, waits, repetitions, until every text has an outcome."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..errors import (
    BadAudioError,
    ClosedError,
    CosyError,
    DeadlineError,
    RefusedError,
    ResourceError,
    ServerError,
    TransportError,
)
from ..events import (
    CallRefused,
    Observer,
    RetryPlanned,
    RetrySuppressed,
    TextFailed,
    TextsFinished,
)
from ..models import Audio, Utterance
from ..policies import RetryBudget, RetryPolicy
from .attempt import sleep
from .cluster import Cluster
from .job import Job
from .ports import Attempts, Result
from .station import Station

__all__ = ["Caller"]

# The shortest wait for a breaker, in seconds: others may be probing.
_BREAKER_NAP = 0.1
# What cures a service that gets more than it can speak in time.
_SEND_LESS = "send less at once (batch_size, max_connections)"
# The shortest wait for what this machine is out of.
_SCARCITY_NAP = 0.1
# The wait for an endpoint that has died, where its breaker is not open yet.
_OUTAGE_NAP = 1.0


@dataclass(slots=True)
class _Group:
    """Texts of a job that are sent together, and the endpoints where they failed before."""

    texts: Sequence[Utterance]
    avoid: tuple[Station, ...] = ()
    attempt: int = 1


class Caller:
    """Runs jobs. One instance serves every thread; what belongs to a job is in the job."""

    def __init__(
        self,
        attempter: Attempts,
        cluster: Cluster,
        retry: RetryPolicy,
        observer: Observer,
        clock: Clock,
        budget: RetryBudget,
    ) -> None:
        self._attempter = attempter
        self._cluster = cluster
        self._retry = retry
        self._observer = observer
        self._clock = clock
        self._budget = budget

    def run(self, job: Job) -> None:
        """Bring every text of the job to an outcome; blocks until then."""
        groups = [_Group(job.texts)]
        while groups:
            group = groups.pop()
            try:
                groups += self._handle(job, group)
            except ClosedError as error:
                self._fail(job, group.texts, error)

    def _handle(self, job: Job, group: _Group) -> list[_Group]:
        """Make one attempt; return the groups that must still be sent."""
        now = self._clock.now()
        if job.stop.is_set():
            raise ClosedError("cancelled before it was sent")
        if job.deadline.expired(now):
            self._fail(job, group.texts, job.deadline.error("waiting for its turn"))
            return []
        results: Sequence[Result]
        try:
            station = self._cluster.choose(job, group.avoid, now)
        except (RefusedError, DeadlineError) as error:
            return self._refused(job, group, error, None)
        try:
            results = self._attempter.attempt(job, group.texts, station, group.attempt)
        except (RefusedError, DeadlineError) as error:
            return self._refused(job, group, error, station)
        except ClosedError:
            raise
        except CosyError as error:
            if isinstance(error, ResourceError) and not error.sent:
                return self._make_do(job, group, error)
            if self._may_split(station, group, error):
                middle = len(group.texts) // 2
                halves = group.texts[:middle], group.texts[middle:]
                return [_Group(half, group.avoid, group.attempt) for half in halves]
            station.obey(error, self._clock.now())
            # Its frames would hold on to the reply for as long as the outcomes are kept.
            results = [error.with_traceback(None)] * len(group.texts)
        return self._settle(job, group, station, results)

    def _refused(
        self,
        job: Job,
        group: _Group,
        error: RefusedError | DeadlineError,
        station: Station | None,
    ) -> list[_Group]:
        """Treat a refusal of our own: it is no attempt. Where no other endpoint is ready, bulk work
        waits and interactive work ends."""
        if isinstance(error, RefusedError):
            self._observer.on_event(CallRefused(error.endpoint or "", len(group.texts), error))
        if station is not None and error.retryable:
            avoid = (*group.avoid, station)
            if self._cluster.elsewhere(avoid, self._clock.now()):
                return [_Group(group.texts, avoid, group.attempt)]
        pause = getattr(error, "retry_after", None)
        if job.interactive or not error.retryable or pause is None:
            self._fail(job, group.texts, error)
            return []
        # Spread, so that those who waited for the same breaker do not return as one.
        pause = max(pause, _BREAKER_NAP) * (1 + 0.1 * random.random())
        if pause >= job.deadline.remaining(self._clock.now()):
            self._fail(job, group.texts, error)
            return []
        sleep(self._clock, job.stop, pause)
        return [group]

    def _make_do(self, job: Job, group: _Group, error: ResourceError) -> list[_Group]:
        """Wait a moment for what this machine is out of: nothing was sent, so it is no attempt."""
        pause = _SCARCITY_NAP * (1 + random.random())
        if pause >= job.deadline.remaining(self._clock.now()):
            self._fail(job, group.texts, error)
            return []
        sleep(self._clock, job.stop, pause)
        return [group]

    def _settle(
        self, job: Job, group: _Group, station: Station, results: Sequence[Result]
    ) -> list[_Group]:
        """Note what came; wait, and return the texts that deserve another attempt."""
        if job.interactive and group.attempt == 1:
            self._budget.deposit(len(group.texts), self._clock.now())
        if not results:  # a stream has begun, and what follows is no matter of this job
            return []
        again: list[Utterance] = []
        finished: list[Audio] = []
        chars = 0
        longest = 0.0
        for utterance, result in zip(group.texts, results, strict=True):
            if isinstance(result, Audio):
                job.finish(utterance, result)
                finished.append(result)
                chars += len(utterance.text)
                continue
            if result.endpoint is None:
                result.endpoint = station.label
            elsewhere = self._cluster.elsewhere((*group.avoid, station), self._clock.now())
            wait = self._retry.wait(job.note(utterance, result), elsewhere=elsewhere)
            if wait is None and self._outlasts(job, station, result):
                wait = _OUTAGE_NAP * (1 + 0.1 * random.random())
            if wait is None or not self._may_repeat(job, utterance, result, wait):
                self._fail(job, [utterance], self._last_word(job, station, result))
            else:
                again.append(utterance)
                longest = max(longest, wait)
        if finished:
            self._tell_finished(finished, chars)
        job.deliver()
        if not again:
            return []
        newest = job.tries[again[0].index][-1]
        self._observer.on_event(
            RetryPlanned(station.label, len(again), group.attempt, longest, newest)
        )
        try:
            sleep(self._clock, job.stop, longest)
        except ClosedError as error:
            self._fail(job, again, error)
            return []
        return self._groups(job, group, station, again)

    def _groups(
        self, job: Job, group: _Group, station: Station, again: Sequence[Utterance]
    ) -> list[_Group]:
        """Return the groups in which texts are sent again: together, unless one must be alone."""
        together: list[Utterance] = []
        apart: list[Utterance] = []
        for text in again:
            alone = _needs_own_request(job.tries[text.index][-1])
            (apart if alone else together).append(text)
        avoid, attempt = (*group.avoid, station), group.attempt + 1
        groups = [together, *([text] for text in apart)]
        return [_Group(texts, avoid, attempt) for texts in groups if texts]

    def _outlasts(self, job: Job, station: Station, error: CosyError) -> bool:
        """Return whether a text waits for an endpoint that has died, after all of its retries.

        For bulk work an outage that the breaker has not seen yet is as one that it has: it uses up
        no attempt.
        """
        return (
            not job.interactive and error.trips and error.retryable and station.breaker.seems_dead
        )

    def _may_repeat(self, job: Job, text: Utterance, error: CosyError, wait: float) -> bool:
        """Return whether a retry fits into the deadline and, if interactive, is paid for."""
        now = self._clock.now()
        if wait >= job.deadline.remaining(now):
            reason = "deadline"
        elif _needs_own_request(error):
            return True  # the service works, and is only asked whom it meant
        elif job.interactive and not self._budget.withdraw(1, now):
            reason = "budget"
        else:
            return True
        self._observer.on_event(RetrySuppressed(error.endpoint or "", text.hash, reason, error))
        return False

    def _last_word(self, job: Job, station: Station, error: CosyError) -> CosyError:
        """Return the error that ends a text: the deadline where that is what cut the attempt. One
        that came too late says how much was in flight, and what to change."""
        if not isinstance(error, TransportError):
            return error
        phase = getattr(error, "phase", None) or "reply"
        load = station.load()
        if not job.deadline.expired(self._clock.now()):
            if phase != "first byte":
                return error
            setting = "timeouts=TimeoutConfig(first_byte=...)"
            return error.reworded(f"{error.message}; {load}: raise {setting} or {_SEND_LESS}")
        where = f"waiting for the service ({phase}); {load}"
        late = job.deadline.error(f"{where}: raise the deadline, or {_SEND_LESS}")
        late.phase = f"waiting for the service ({phase})"
        late.__cause__ = error
        return late.with_details(endpoint=error.endpoint)

    def _may_split(self, station: Station, group: _Group, error: CosyError) -> bool:
        return (
            isinstance(error, ServerError)
            and len(group.texts) > 1
            and self._attempter.wires[station.endpoint.url].splits(error)
        )

    def _fail(self, job: Job, texts: Sequence[Utterance], error: CosyError) -> None:
        for utterance in texts:
            final = job.fail(utterance, error)
            self._observer.on_event(TextFailed(utterance.hash, len(utterance.text), final))

    def _tell_finished(self, finished: Sequence[Audio], chars: int) -> None:
        timing = finished[0].timing
        self._observer.on_event(
            TextsFinished(
                texts=len(finished),
                chars=chars,
                audio_bytes=sum([len(audio.data) for audio in finished]),
                audio_seconds=sum([audio.duration for audio in finished]),
                latency=timing.queued + timing.total if timing else 0.0,
            )
        )


def _needs_own_request(error: CosyError) -> bool:
    return isinstance(error, BadAudioError) and error.alone
