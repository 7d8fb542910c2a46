"""One batch's life: attempts, waits, repetitions, until every text has an outcome.

States of a Group, texts of the batch that are sent together. Only the thread that runs the batch
takes these steps, so there is no lock:

    ready       may be sent; of several the one that is due first, and of two halves the second,
                before what became of the first
    waiting     the same once it is `due`, where nothing else is ready before
    in flight   the group, or its first texts: the part
    parked      it failed (`parked`), and what becomes of the batch's other groups decides
    ended       each of its texts has an outcome

    ready -> in flight      `_handle`: chosen, admitted, sealed
    ready -> ready          `_refused`: not sent, and another endpoint is ready; `_nap`: after a
                            wait for this one. HeldBack: until it is known what a refusal means
    in flight -> ended      `_settle`: with audio, or an error that is not repeated
    in flight -> waiting    `_settle`: the texts that are sent again
    in flight -> ready      `_split`: in parts, which is no attempt; `_probe`: a few of its texts go
                            first, and the rest waits for how they fare; the rest of a part that was
                            answered
    in flight -> parked     `_failed`: nothing tells yet whether a text or the service is to blame
    parked -> ready         `_unpark`: nothing else is left, or another call was answered
    any but ended -> ended  `_fail`: its time is up, its call has its verdict, or it is cancelled
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace

from ..clock import Clock
from ..endpoints.endpoint import EndpointState
from ..endpoints.pool import EndpointPool
from ..errors import (
    ClosedError,
    ConnectError,
    CosyError,
    DeadlineError,
    RefusedError,
    ResourceError,
)
from ..events import CallRefused, Observer, Observers, RetryPlanned, TextFailed
from ..models import Audio, Outcome, Utterance
from ..policies import FirstTry
from ..policies.refusals import may_be_text
from ..user_code import goes_on
from .attempt import sleep
from .batch import Batch, HeldBack
from .final_errors import final_error, verdict_for
from .group import Fate, Group
from .ports import Attempts, Result
from .retry_planner import RetryPlanner, needs_own_request
from .splitting import Splitter

__all__ = ["BatchRunner"]

# The shortest wait for a breaker, which others may be probing, and for what is scarce here.
_BREAKER_NAP = _SCARCITY_NAP = 0.1


class BatchRunner:
    """Runs batches. One instance serves every thread; what belongs to a batch is in the batch."""

    def __init__(
        self,
        attempter: Attempts,
        endpoints: EndpointPool,
        splitter: Splitter,
        planner: RetryPlanner,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._attempter, self._endpoints = attempter, endpoints
        self._splitter, self._planner = splitter, planner
        self._budget = planner.budget
        self._observer, self._clock = Observers.around(observer), clock

    def with_attempts(self, attempter: Attempts) -> BatchRunner:
        """Return a runner whose attempts somebody else makes; what is learned is shared."""
        other = copy.copy(self)
        other._attempter = attempter
        return other

    def run(self, batch: Batch, texts: Sequence[Utterance] | None = None) -> None:
        """Bring every text of the batch, or these, to an outcome, whatever happens; blocks until
        then.

        What ends its thread's call as well (Ctrl-C, say) is raised afterwards.
        """
        try:
            groups = [Group(batch.texts if texts is None else texts)]
            while True:
                if not groups:
                    break
                batch.waiting = batch.parked = 0
                group = groups.pop() if len(groups) == 1 else self._next(batch, groups)
                try:
                    groups += self._handle(batch, group)
                except ClosedError as error:
                    self._fail(batch, group.texts, error)
            if batch.number:
                batch.settle()
        except BaseException as error:
            batch.end(error)
            if goes_on(error):
                raise

    def _next(self, batch: Batch, groups: list[Group]) -> Group:
        """Take the group that is sent next: of two halves the second, before what became of the
        first."""
        hears = self._splitter.hears
        order = [(each.parked is not None and not hears(batch, each), each.due) for each in groups]
        group = groups.pop(order.index(min(order)))
        batch.parked = sum([each.parked is not None for each in groups])
        batch.waiting = len(groups) - batch.parked
        return group

    def _await_leave(self, batch: Batch, group: Group, now: float) -> float | None:
        """Wait until the group may be sent; return the instant, None where its texts have ended."""
        if group.due > now:
            sleep(self._clock, batch.stop, group.due - now)
            now = self._clock.now()
        if batch.stop.raised:
            raise ClosedError("cancelled before it was sent")
        if now >= batch.deadline.at:
            self._end_late(batch, group)
            return None
        if batch.record is None:
            return now
        self._splitter.hold(batch)
        return None if self._is_over(batch, group) else self._clock.now()

    def _handle(self, batch: Batch, group: Group) -> list[Group]:
        """Make one attempt; return the groups that must still be sent."""
        now: float | None = (at := self._clock.now())
        if not group.due <= at < batch.deadline.at or batch.stop.raised or batch.record is not None:
            now = self._await_leave(batch, group, at)
        if now is None:
            return []
        if group.parked is not None:
            return self._unpark(batch, group, *group.parked)
        batch.first_tries = group.firsts
        batch.apart = group.splits > 0 and len(group.texts) == 1
        try:
            bounds = batch.deadline, batch.stop, group.avoid
            endpoint = self._endpoints.choose(*bounds, now, patient=not batch.interactive)
        except (RefusedError, DeadlineError) as error:
            return self._refused(batch, group, error, None)
        part = group if len(group.texts) == 1 else self._part(batch, group, endpoint, now)
        part.heard = self._splitter.answers if part.heard is None else part.heard
        grows = batch.may_grow
        try:
            try:
                results = self._attempter.attempt(batch, part.texts, endpoint, group.attempt)
            finally:
                if grows:  # until it was sealed: from now on the group has whatever joined
                    part.texts = batch.texts
        except (RefusedError, DeadlineError) as error:
            return self._not_sent(batch, group, error, endpoint)
        except ClosedError:
            raise
        except CosyError as error:
            if isinstance(error, ResourceError) and not error.sent:
                batch.settle()
                # Nothing was sent, for this machine is out of something: it is no attempt.
                return self._nap(batch, group, error, _SCARCITY_NAP * (1 + random.random()))
            return self._failed(batch, group, part, endpoint, error)
        self._splitter.accept(batch, part, endpoint, results)
        if group.paid:  # what helps others to be spoken costs nothing
            self._budget.refund(group.paid, self._clock.now())
            group.paid = 0
        left = self._settle(batch, part, endpoint, results)
        return left if part is group else left + self._splitter.passed(group, part, endpoint)

    def _not_sent(
        self,
        batch: Batch,
        group: Group,
        error: RefusedError | DeadlineError,
        endpoint: EndpointState,
    ) -> list[Group]:
        """Treat an attempt that ended before anything was sent."""
        batch.settle()
        if self._is_over(batch, group):
            return []
        if isinstance(error, HeldBack):
            return [group]
        return self._refused(batch, group, error, endpoint)

    def _part(self, batch: Batch, group: Group, endpoint: EndpointState, now: float) -> Group:
        """Return which texts of a group are sent now to an endpoint, which was joined."""
        try:
            return group.part(self._splitter.size(batch, group, endpoint))
        except BaseException:
            endpoint.leave(now)
            raise

    def _failed(
        self, batch: Batch, group: Group, part: Group, endpoint: EndpointState, error: CosyError
    ) -> list[Group]:
        """Treat what failed for a whole part of a group, or for the group."""
        splitter = self._splitter
        if isinstance(error, ConnectError) and not error.retryable:
            # The way to this endpoint is wrong, whatever is sent: another one's may be right.
            right = self._endpoints.elsewhere((*group.avoid, endpoint), self._clock.now())
            error = error.with_details(retryable=right, hopeless=not right)
        elif self._planner.gives_up(batch, group, endpoint, error):
            error = error.with_details(retryable=False, hopeless=True)
        error = splitter.judge(batch, part, endpoint, error)
        if self._is_over(batch, group, part.texts):
            return []
        fate = splitter.fate(batch, group, part, endpoint, error)
        if error.trips and may_be_text(error) and not self._planner.retry.repeats:
            fate = Fate.CHARGED
        if fate is Fate.SPLIT:
            return self._split(batch, group, part, endpoint, error)
        endpoint.obey(error, self._clock.now())
        # Its frames would hold on to the reply for as long as the outcomes are kept.
        error = error.with_traceback(None)
        if part.passed or not error.retryable:
            left = self._settle(batch, part, endpoint, [error] * len(part.texts))
            return left + group.rest(part)
        if fate is Fate.PARKED:
            if len(part.texts) > 1:
                return [replace(part, parked=(endpoint, error)), *group.rest(part)]
            group.texts = [*group.texts[1:], *part.texts]  # next time another text is first
            return [replace(group, most=None, parked=(endpoint, error))]
        if fate is Fate.PROBED:
            return self._probe(batch, group, part, endpoint, error)
        left = self._settle(batch, group, endpoint, [error] * len(group.texts))
        return [replace(each, most=group.most, heard=part.heard) for each in left]

    def _split(
        self, batch: Batch, group: Group, part: Group, endpoint: EndpointState, error: CosyError
    ) -> list[Group]:
        if may_be_text(error, fits=part.fits(endpoint)):
            part.firsts.setdefault(endpoint, FirstTry(batch.sent, self._clock.now()))
        return self._splitter.split(group, part, endpoint, error)

    def _unpark(
        self, batch: Batch, group: Group, endpoint: EndpointState, error: CosyError
    ) -> list[Group]:
        """Treat a group that failed before, now that nothing else is to be sent."""
        group.parked = None
        if self._splitter.lives(batch, group):
            return self._split(batch, group, group, endpoint, error)
        return self._probe(batch, group, group, endpoint, error)

    def _probe(
        self, batch: Batch, group: Group, part: Group, endpoint: EndpointState, error: CosyError
    ) -> list[Group]:
        """Let a part of a group that failed find out whether the others can be spoken."""
        size = self._planner.pay(batch, group, part, error)
        # What waited for the part has failed with it: an outage costs one request an attempt.
        left = self._settle(batch, group, endpoint, [error] * len(group.texts))
        batch.paid = None
        if size:
            for each in left:
                each.paid = size if batch.interactive else 0
            return self._splitter.probe(left, part, size)
        return [replace(each, most=group.most, heard=part.heard) for each in left]

    def _is_over(self, batch: Batch, group: Group, sent: Sequence[Utterance] = ()) -> bool:
        """End the texts of a call that has its verdict; return whether it has. `sent` just were."""
        verdict = batch.record.verdict if batch.record is not None else None
        if verdict is None:
            return False
        for text in group.texts:
            self._fail(batch, [text], verdict_for(batch, group, text, verdict, text in sent))
        return True

    def _refused(
        self,
        batch: Batch,
        group: Group,
        error: RefusedError | DeadlineError,
        endpoint: EndpointState | None,
    ) -> list[Group]:
        """Treat a refusal of our own: it is no attempt. Where no other endpoint is ready, bulk work
        waits and interactive work ends."""
        if isinstance(error, RefusedError):
            self._observer.on_event(CallRefused(error.endpoint or "", len(group.texts), error))
        if endpoint is not None and error.retryable:
            avoid = (*group.avoid, endpoint)
            if self._endpoints.elsewhere(avoid, self._clock.now()):
                return [replace(group, avoid=avoid)]
        pause = getattr(error, "retry_after", None)
        if batch.interactive or not error.retryable or pause is None:
            self._fail(batch, group.texts, error)
            return []
        # Spread, so that callers that waited for the same breaker do not return together.
        return self._nap(
            batch, group, error, max(pause, _BREAKER_NAP) * (1 + 0.1 * random.random())
        )

    def _behind(self, batch: Batch, error: CosyError) -> CosyError:
        """Return what ends texts: the silence of their service, where they waited behind others
        that it does not answer."""
        now = self._clock.now()
        if batch.queue_deadline is None or not batch.is_behind(self._endpoints.silent_since(), now):
            return error
        late = self._endpoints.went_silent(batch.deadline, now)
        late.__cause__ = error
        return late

    def _nap(self, batch: Batch, group: Group, error: CosyError, pause: float) -> list[Group]:
        """Wait, and return the group; a wait that outlasts the deadline ends it with the error."""
        if pause >= batch.deadline.remaining(self._clock.now()):
            self._fail(batch, group.texts, self._behind(batch, error))
            return []
        sleep(self._clock, batch.stop, pause)
        if not batch.deadline.expired(self._clock.now()):
            return [group]
        self._fail(batch, group.texts, error)
        return []

    def _settle(
        self, batch: Batch, group: Group, endpoint: EndpointState, results: Sequence[Result]
    ) -> list[Group]:
        """Note what came; return the texts that deserve another attempt: together, unless one must
        be alone."""
        if batch.interactive and group.attempt == 1:
            self._budget.deposit(len(group.texts), batch.ended or self._clock.now())
        if not results:  # a stream has begun: its rest is not this batch's
            return []
        again: list[Utterance] = []
        apart: list[Utterance] = []
        finished: list[Audio] = []
        chars = 0
        longest = 0.0
        for utterance, result in zip(group.texts, results, strict=True):
            if isinstance(result, Audio):
                batch.outcomes.append(Outcome(utterance.index, utterance.text, result))
                finished.append(result)
                chars += len(utterance.text)
                continue
            if result.endpoint is None:
                result.endpoint = endpoint.label
            wait = self._planner.plan(batch, group, endpoint, utterance, result)
            if wait is None:
                self._fail(
                    batch,
                    [utterance],
                    final_error(batch, endpoint.load(), utterance, result, self._clock.now()),
                )
            else:
                (apart if needs_own_request(result) else again).append(utterance)
                longest = max(longest, wait)
        if finished:
            self._observer.tell_finished(finished, chars)
        if batch.on_deliver is not None:
            batch.deliver()
        count = len(again) + len(apart)
        if not count:
            return []
        newest = batch.tries[(again or apart)[0].index][-1]
        self._observer.on_event(RetryPlanned(endpoint.label, count, group.attempt, longest, newest))
        due = self._clock.now() + longest if longest else 0.0
        return group.again(endpoint, again, apart, due)

    def _end_late(self, batch: Batch, group: Group) -> None:
        """End texts whose time is up, each with what it failed with while it had time."""
        late = self._behind(batch, batch.deadline.error("waiting to be sent"))
        for text in group.texts:
            tries = batch.tries.get(text.index)
            self._fail(batch, [text], tries[-1] if tries else late)

    def _fail(self, batch: Batch, texts: Sequence[Utterance], error: CosyError) -> None:
        for utterance in texts:
            final = batch.fail(utterance, error)
            self._observer.on_event(TextFailed(utterance.hash, len(utterance.text), final))
