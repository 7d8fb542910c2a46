"""One batch's life: attempts, waits, repetitions, until every text has an outcome."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ..clock import Clock
from ..errors import (
    BadAudioError,
    ClosedError,
    CosyError,
    DeadlineError,
    RefusedError,
    ResourceError,
    ThrottledError,
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
from ..policies import AcceptedKeys, FirstTry, RetryBudget, RetryPolicy
from .attempt import sleep
from .cluster import Cluster
from .job import Job
from .ports import Attempts, Result
from .splitting import Fate, Splitter
from .splitting import Group as _Group
from .station import Station

__all__ = ["Caller"]

# The shortest wait for a breaker, in seconds: others may be probing.
_BREAKER_NAP = 0.1
# What cures a service that gets more than it can speak in time.
_SEND_LESS = "send less at once (batch_size, max_connections)"
# The shortest wait for what this machine is out of.
_SCARCITY_NAP = 0.1


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
        self._splitter = Splitter(attempter.wires, AcceptedKeys(), 0, True, clock)

    def split_with(self, splitter: Splitter) -> Caller:
        """Let another splitter judge what fails; return itself."""
        self._splitter = splitter
        return self

    def run(self, job: Job) -> None:
        """Bring every text of the job to an outcome; blocks until then."""
        groups = [_Group(job.texts)]
        while groups:
            group = groups.pop(0)  # of two halves the second, before what became of the first
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
        if job.record is not None and self._is_over(job, group):
            return []
        results: Sequence[Result]
        job.first_tries = group.firsts
        try:
            station = self._cluster.choose(job, group.avoid, now)
        except (RefusedError, DeadlineError) as error:
            return self._refused(job, group, error, None)
        part = group if len(group.texts) == 1 else self._part(job, group, station, now)
        if part.heard is None:
            part.heard = self._splitter.answers
        try:
            results = self._attempter.attempt(job, part.texts, station, group.attempt)
        except (RefusedError, DeadlineError) as error:
            if self._is_over(job, group):
                return []
            return self._refused(job, group, error, station)
        except ClosedError:
            raise
        except CosyError as error:
            if isinstance(error, ResourceError) and not error.sent:
                return self._make_do(job, group, error)
            return self._failed(job, group, part, station, error)
        self._splitter.accept(job, part, station, results)
        left = self._settle(job, part, station, results)
        return left if part is group else left + self._splitter.passed(group, part, station)

    def _part(self, job: Job, group: _Group, station: Station, now: float) -> _Group:
        """Return which texts of a group are sent now to a station, which was joined."""
        try:
            return group.part(self._splitter.size(job, group, station))
        except BaseException:
            station.leave(now)
            raise

    def _failed(
        self, job: Job, group: _Group, part: _Group, station: Station, error: CosyError
    ) -> list[_Group]:
        """Treat what failed for a whole part of a group, or for the group."""
        splitter = self._splitter
        error = splitter.judge(job, part, station, error)
        if self._is_over(job, group):
            return []
        fate = splitter.fate(job, part, station, error)
        if fate is Fate.SPLIT:
            return splitter.split(group, part, station, error)
        station.obey(error, self._clock.now())
        # Its frames would hold on to the reply for as long as the outcomes are kept.
        error = error.with_traceback(None)
        if part.passed or not error.retryable:
            left = self._settle(job, part, station, [error] * len(part.texts))
            return left + group.rest(part)
        size = self._pay(job, group, part, error) if fate is Fate.PROBED else 0
        # What waited for the part has failed with it: an outage costs one request an attempt.
        left = self._settle(job, group, station, [error] * len(group.texts))
        job.paid = None
        if size:
            return splitter.probe(left, part, size)
        return [replace(each, most=group.most, heard=part.heard) for each in left]

    def _pay(self, job: Job, group: _Group, part: _Group, error: CosyError) -> int:
        """Return how many texts of a group are tried next, as a part failed; 0 where none are.

        An interactive job pays for these alone, and once: the others wait for what becomes of
        them. It leaves half of the retry budget to other batches that are too large as well.
        """
        size = self._splitter.probe_size(part, error)
        if not job.interactive:
            return size
        tries = job.tries.get(part.texts[0].index, [])
        if self._retry.wait([*tries, error]) is None:
            return 0
        now = self._clock.now()
        size = max(1, min(size, int(self._budget.balance(now) / 2)))
        job.paid = group.most is None and self._budget.withdraw(size, now)
        return size if job.paid else 0

    def _is_over(self, job: Job, group: _Group) -> bool:
        """End the texts of a call that has its verdict; return whether it has."""
        verdict = job.record.verdict if job.record is not None else None
        if verdict is not None:
            self._fail(job, group.texts, verdict)
        return verdict is not None

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
                return [replace(group, avoid=avoid)]
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
            wait = self._plan(job, group, station, utterance, result)
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
        return [_Group(texts, avoid, attempt, firsts=group.firsts) for texts in groups if texts]

    def _plan(
        self, job: Job, group: _Group, station: Station, text: Utterance, error: CosyError
    ) -> float | None:
        """Note a text's failure; return the seconds until it is sent again, None for never."""
        now = self._clock.now()
        first = group.firsts.setdefault(station, FirstTry(job.sent, now))
        elsewhere = self._cluster.elsewhere((*group.avoid, station), now)
        errors = job.note(text, error)
        if self._is_spared(job, station, error, first):
            return self._retry.nap(error, job.spare(text), elsewhere=elsewhere)
        spared = job.spared.get(text.index, 0)
        return self._retry.wait(errors, elsewhere=elsewhere, spared=spared)

    def _is_spared(self, job: Job, station: Station, error: CosyError, first: FirstTry) -> bool:
        """Return whether a failure uses up no attempt, so that the deadline alone bounds the text.

        Bulk work waits for a service that throttles it, and for one that is away.
        """
        if job.interactive or not error.retryable or not self._retry.repeats:
            return False
        if isinstance(error, ThrottledError):
            return True
        now = self._clock.now()
        waits = self._retry.outlasts(now - first.failed)
        return waits and error.trips and station.is_away(job.call.kind, error, first, now)

    def _may_repeat(self, job: Job, text: Utterance, error: CosyError, wait: float) -> bool:
        """Return whether a retry fits into the deadline and, if interactive, is paid for."""
        now = self._clock.now()
        if wait >= job.deadline.remaining(now):
            reason = "deadline"
        elif _needs_own_request(error):
            return True  # the service works, and is only asked whom it meant
        elif job.interactive and not self._is_paid(job, now):
            reason = "budget"
        else:
            return True
        self._observer.on_event(RetrySuppressed(error.endpoint or "", text.hash, reason, error))
        return False

    def _is_paid(self, job: Job, now: float) -> bool:
        return self._budget.withdraw(1, now) if job.paid is None else job.paid

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
