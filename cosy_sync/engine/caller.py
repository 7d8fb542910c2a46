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
)
from ..events import (
    CallRefused,
    Observer,
    RetryPlanned,
    RetrySuppressed,
    TextFailed,
)
from ..models import Audio, Utterance
from ..policies import AcceptedKeys, FirstTry, RetryBudget, RetryPolicy
from .attempt import sleep
from .blame import may_be_text
from .cluster import Cluster
from .final_errors import final_error, finished_event
from .group import Fate, Group
from .job import HeldBack, Job
from .ports import Attempts, Result
from .splitting import Splitter
from .station import Station

__all__ = ["Caller"]

# The shortest wait for a breaker, in seconds: others may be probing.
_BREAKER_NAP = 0.1
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
        self._attempter, self._cluster = attempter, cluster
        self._retry, self._budget = retry, budget
        self._observer, self._clock = observer, clock
        self._splitter = Splitter(attempter.wires, AcceptedKeys(), 0, True, clock)

    def split_with(self, splitter: Splitter) -> Caller:
        """Let another splitter judge what fails; return itself."""
        self._splitter = splitter
        splitter.tries = self._retry.tries
        return self

    def run(self, job: Job) -> None:
        """Bring every text of the job to an outcome; blocks until then."""
        groups = [Group(job.texts)]
        while groups:
            group = self._next(job, groups)
            try:
                groups += self._handle(job, group)
            except ClosedError as error:
                self._fail(job, group.texts, error)
        if job.number:
            job.settle()

    def _next(self, job: Job, groups: list[Group]) -> Group:
        """Take the group that is sent next: of two halves the second, before what became of the
        first."""
        if len(groups) == 1:
            job.waiting = job.parked = 0
            return groups.pop()
        hears = self._splitter.hears
        order = [(each.parked is not None and not hears(job, each), each.due) for each in groups]
        group = groups.pop(order.index(min(order)))
        job.parked = sum([each.parked is not None for each in groups])
        job.waiting = len(groups) - job.parked
        return group

    def _may_go(self, job: Job, group: Group) -> bool:
        """Wait until the group may be sent; return False where its texts have ended meanwhile."""
        now = self._clock.now()
        if group.due > now:
            sleep(self._clock, job.stop, group.due - now)
            now = self._clock.now()
        if job.stop.is_set():
            raise ClosedError("cancelled before it was sent")
        if job.deadline.expired(now):
            self._end_late(job, group)
            return False
        if job.record is None:
            return True
        self._splitter.hold(job)
        return not self._is_over(job, group)

    def _handle(self, job: Job, group: Group) -> list[Group]:
        """Make one attempt; return the groups that must still be sent."""
        if not self._may_go(job, group):
            return []
        now = self._clock.now()
        if group.parked is not None:
            return self._unpark(job, group, *group.parked)
        results: Sequence[Result]
        job.first_tries = group.firsts
        job.apart = group.splits > 0 and len(group.texts) == 1
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
            job.settle()
            if self._is_over(job, group):
                return []
            if isinstance(error, HeldBack):
                return [group]
            return self._refused(job, group, error, station)
        except ClosedError:
            raise
        except CosyError as error:
            if isinstance(error, ResourceError) and not error.sent:
                job.settle()
                # Nothing was sent, for this machine is out of something: it is no attempt.
                return self._nap(job, group, error, _SCARCITY_NAP * (1 + random.random()))
            return self._failed(job, group, part, station, error)
        self._splitter.accept(job, part, station, results)
        if group.paid:  # what helps others to be spoken costs nothing
            self._budget.refund(group.paid, self._clock.now())
            group.paid = 0
        left = self._settle(job, part, station, results)
        return left if part is group else left + self._splitter.passed(group, part, station)

    def _part(self, job: Job, group: Group, station: Station, now: float) -> Group:
        """Return which texts of a group are sent now to a station, which was joined."""
        try:
            return group.part(self._splitter.size(job, group, station))
        except BaseException:
            station.leave(now)
            raise

    def _failed(
        self, job: Job, group: Group, part: Group, station: Station, error: CosyError
    ) -> list[Group]:
        """Treat what failed for a whole part of a group, or for the group."""
        splitter = self._splitter
        error = splitter.judge(job, part, station, error)
        if self._is_over(job, group):
            return []
        fate = splitter.fate(job, group, part, station, error)
        if error.trips and may_be_text(error) and not self._retry.repeats:
            fate = Fate.CHARGED
        if fate is Fate.SPLIT:
            return self._split(job, group, part, station, error)
        station.obey(error, self._clock.now())
        # Its frames would hold on to the reply for as long as the outcomes are kept.
        error = error.with_traceback(None)
        if part.passed or not error.retryable:
            left = self._settle(job, part, station, [error] * len(part.texts))
            return left + group.rest(part)
        if fate is Fate.PARKED:
            if len(part.texts) > 1:
                return [replace(part, parked=(station, error)), *group.rest(part)]
            group.texts = [*group.texts[1:], *part.texts]  # next time it is another text's turn
            return [replace(group, most=None, parked=(station, error))]
        if fate is Fate.PROBED:
            return self._probe(job, group, part, station, error)
        left = self._settle(job, group, station, [error] * len(group.texts))
        return [replace(each, most=group.most, heard=part.heard) for each in left]

    def _split(
        self, job: Job, group: Group, part: Group, station: Station, error: CosyError
    ) -> list[Group]:
        if may_be_text(error):
            part.firsts.setdefault(station, FirstTry(job.sent, self._clock.now()))
        return self._splitter.split(group, part, station, error)

    def _unpark(self, job: Job, group: Group, station: Station, error: CosyError) -> list[Group]:
        """Treat a group that failed before, now that nothing else is to be sent."""
        group.parked = None
        if self._splitter.lives(job, group):
            return self._split(job, group, group, station, error)
        return self._probe(job, group, group, station, error)

    def _probe(
        self, job: Job, group: Group, part: Group, station: Station, error: CosyError
    ) -> list[Group]:
        """Let a part of a group that failed find out whether the others can be spoken."""
        size = self._pay(job, group, part, error)
        # What waited for the part has failed with it: an outage costs one request an attempt.
        left = self._settle(job, group, station, [error] * len(group.texts))
        job.paid = None
        if size:
            for each in left:
                each.paid = size if job.interactive else 0
            return self._splitter.probe(left, part, size)
        return [replace(each, most=group.most, heard=part.heard) for each in left]

    def _pay(self, job: Job, group: Group, part: Group, error: CosyError) -> int:
        """Return how many texts of a group are tried next, as a part failed; 0 where none are.

        An interactive job pays for these alone: the others wait for what becomes of them. It
        leaves half of the retry budget to other batches that are too large as well.
        """
        size = self._splitter.probe_size(part, error)
        if not job.interactive:
            return size
        now, tries = self._clock.now(), job.tries.get(part.texts[0].index, [])
        speaks = may_be_text(error) and self._splitter.speaks(now)
        if not speaks and self._retry.wait([*tries, error]) is None:
            return 0
        size = max(1, min(size, int(self._budget.balance(now) / 2)))
        pays = group.most is None or may_be_text(error)
        job.paid = pays and self._budget.withdraw(size, now)
        return size if job.paid else 0

    def _is_over(self, job: Job, group: Group) -> bool:
        """End the texts of a call that has its verdict; return whether it has."""
        verdict = job.record.verdict if job.record is not None else None
        if verdict is not None:
            self._fail(job, group.texts, verdict)
        return verdict is not None

    def _refused(
        self,
        job: Job,
        group: Group,
        error: RefusedError | DeadlineError,
        station: Station | None,
    ) -> list[Group]:
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
        # Spread, so that callers that waited for the same breaker do not return together.
        return self._nap(job, group, error, max(pause, _BREAKER_NAP) * (1 + 0.1 * random.random()))

    def _behind(self, job: Job, error: CosyError) -> CosyError:
        """Return what ends texts: the silence of their service, where they waited behind others
        that it does not answer."""
        now = self._clock.now()
        if job.queue_deadline is None or not job.is_behind(self._cluster.silent_since(), now):
            return error
        late = self._cluster.went_silent(job.deadline, now)
        late.__cause__ = error
        return late

    def _nap(self, job: Job, group: Group, error: CosyError, pause: float) -> list[Group]:
        """Wait, and return the group; a wait that outlasts the deadline ends it with the error."""
        if pause >= job.deadline.remaining(self._clock.now()):
            self._fail(job, group.texts, self._behind(job, error))
            return []
        sleep(self._clock, job.stop, pause)
        if not job.deadline.expired(self._clock.now()):
            return [group]
        self._fail(job, group.texts, error)
        return []

    def _settle(
        self, job: Job, group: Group, station: Station, results: Sequence[Result]
    ) -> list[Group]:
        """Note what came; return the texts that deserve another attempt: together, unless one must
        be alone."""
        if job.interactive and group.attempt == 1:
            self._budget.deposit(len(group.texts), self._clock.now())
        if not results:  # a stream has begun: its rest is not this job's
            return []
        again: list[Utterance] = []
        apart: list[Utterance] = []
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
                self._fail(
                    job,
                    [utterance],
                    final_error(job, station.load(), utterance, result, self._clock.now()),
                )
            else:
                (apart if _needs_own_request(result) else again).append(utterance)
                longest = max(longest, wait)
        if finished:
            self._observer.on_event(finished_event(finished, chars))
        job.deliver()
        count = len(again) + len(apart)
        if not count:
            return []
        newest = job.tries[(again or apart)[0].index][-1]
        self._observer.on_event(RetryPlanned(station.label, count, group.attempt, longest, newest))
        due = self._clock.now() + longest if longest else 0.0
        return group.again(station, again, apart, due)

    def _plan(
        self, job: Job, group: Group, station: Station, text: Utterance, error: CosyError
    ) -> float | None:
        """Note a text's failure; return the seconds until it is sent again, None for never."""
        now = self._clock.now()
        first = group.firsts.setdefault(station, FirstTry(job.sent, now))
        elsewhere = self._cluster.elsewhere((*group.avoid, station), now)
        errors = job.note(text, error)
        company = len(group.texts) > 1
        if self._is_spared(job, group, station, error, first):
            return self._retry.nap(error, job.spare(text), elsewhere=elsewhere)
        spared = job.spared.get(text.index, 0)
        shared = 0
        if not company and may_be_text(error):
            # It is repeated once at least, unless the budget must pay for that.
            most = self._retry.max_retries - (0 if job.interactive else 1)
            shared = max(0, min(group.splits, most))
        return self._retry.wait(errors, elsewhere=elsewhere, spared=spared, shared=shared)

    def _is_spared(
        self, job: Job, group: Group, station: Station, error: CosyError, first: FirstTry
    ) -> bool:
        """Return whether a failure uses up no attempt, so that the deadline alone bounds the text.

        Bulk work waits for a service that throttles it, and for one that is away; and a text that
        has failed in company for what becomes of it alone, where others were spoken lately.
        """
        if not error.retryable or not self._retry.repeats:
            return False
        now = self._clock.now()
        by_text = error.trips and may_be_text(error)
        company = by_text and len(group.texts) > 1 and self._splitter.speaks(now)
        if job.interactive:
            return company and job.paid is True
        if isinstance(error, ThrottledError):
            return True
        if not error.trips or not self._retry.outlasts(now - first.failed):
            return False
        if company or station.is_overloaded(error, first, now):
            return True
        if by_text and group.splits and len(group.texts) == 1:
            return False  # it has failed with others that were spoken without it
        return station.is_away(job.call.kind, error, first, now)

    def _may_repeat(self, job: Job, text: Utterance, error: CosyError, wait: float) -> bool:
        """Return whether a retry fits into the deadline and, if interactive, is paid for."""
        now = self._clock.now()
        if wait >= job.deadline.remaining(now):
            reason = "deadline"
        elif _needs_own_request(error):
            return True  # the service works, and is only asked whom it meant
        elif job.interactive and not job.is_paid(self._budget, now):
            reason = "budget"
        else:
            return True
        self._observer.on_event(RetrySuppressed(error.endpoint or "", text.hash, reason, error))
        return False

    def _end_late(self, job: Job, group: Group) -> None:
        """End texts whose time is up, each with what it failed with while it had time."""
        late = self._behind(job, job.deadline.error("waiting for its turn"))
        for text in group.texts:
            tries = job.tries.get(text.index)
            self._fail(job, [text], tries[-1] if tries else late)

    def _fail(self, job: Job, texts: Sequence[Utterance], error: CosyError) -> None:
        for utterance in texts:
            final = job.fail(utterance, error)
            self._observer.on_event(TextFailed(utterance.hash, len(utterance.text), final))


def _needs_own_request(error: CosyError) -> bool:
    return isinstance(error, BadAudioError) and error.alone
