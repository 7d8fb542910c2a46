"""Batches that fail as a whole: which part to send next, and what the failure says of the rest.

States of a Group, as far as they say how many of its texts are sent at once. Only the thread that
runs the batch takes these steps, so there is no lock:

    whole       all of them (`most` is None)
    fresh       `most` of them, although they have not failed: the endpoint's breaker is open
                because earlier calls were too large (`fresh`)
    probed      `most` of them, after all had failed: these tell whether the rest can be spoken
    cut         `most` of them, since they failed as too many, and `passed` were not (`mark` counts
                which of them are answered, to learn the size from)

    whole -> fresh          `size`
    whole, fresh -> probed  `probe`: all of them are tried by `most`
    whole -> two wholes     `split`: in halves, while other calls are answered
    probed, fresh -> whole  `passed`: the part was answered, and all of the rest goes out
    probed -> cut           `passed` and then `split`: the rest failed again
    cut -> cut              `split`: still too many
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..clock import Clock
from ..endpoints.endpoint import EndpointState
from ..errors import CosyError, ServerError, TextError
from ..models import Audio
from ..policies import AcceptedKeys, FirstTry, RetryPolicy, SharedRefusals, Unanimity
from ..policies.refusals import (
    as_text_error,
    as_verdict,
    common_refusal,
    is_refusal,
    kind_of,
    may_be_key,
    may_be_size,
    may_be_text,
    with_setting,
)
from ..wires.base import Wire
from .attempt import sleep
from .batch import Batch
from .group import Fate, Group, TooLarge
from .ports import Result

__all__ = ["Splitter"]

# A batch that failed is tried by a part of it: one text in so many.
_PART = 4
# Single texts refused alike, with nothing accepted, after which the key is to blame, or a setting.
_ENOUGH_FOR_KEY, _ENOUGH = 3, 20
# The same in a row after others were accepted: the key was revoked, which 401 says by itself.
_REVOKED, _REVOKED_CLEARLY = 100, 20
# Seconds for which a success tells that the endpoint works.
_LATELY = 10.0
# Seconds from its first failure on for which a text waits for a service that answers and speaks
# nothing.
_PATIENCE = 10.0
# Failures in a row after which an earlier success does not show any more that the service works.
_STRIKES = 3
# Seconds for which a refusal waits for the requests that were sent before it, at most: one that
# looks like the key's, and any other; for which a request waits for what a refusal means, at most;
# and between two looks.
_LONG_WAIT, _WAIT, _HOLD, _LOOK = 30.0, 5.0, 10.0, 0.02
# Refusals of the key or the address that nothing else explains, as long as nothing was spoken.
_CLEAR = frozenset({301, 302, 303, 307, 308, 401, 404})


class Splitter:
    """Says how many texts to send, and judges what comes back. Shared by every thread.

    Args:
        wires: Each endpoint's wire, by its URL.
        keys: Where the client's keys were accepted.
        key: What stands for the key and the headers that these wires send.
        halves: Whether a batch that failed may be sent in parts at all.
    """

    def __init__(
        self, wires: Mapping[str, Wire], keys: AcceptedKeys, key: int, halves: bool, clock: Clock
    ) -> None:
        self._wires = wires
        self._keys = keys
        self._key = key
        self._halves = halves
        self._clock = clock
        # How often, and how long, a text is sent again; set by whoever sends it.
        self.retry: RetryPolicy | None = None
        self._shared = SharedRefusals()
        # URLs of the endpoints where this very configuration has spoken.
        self._known: set[str] = set()
        # Calls that were answered with sound. Counted without a lock: it only matters whether
        # there were any since. And when one of the latest of these calls was sent.
        self.answers = 0
        self._answered = -math.inf

    def size(self, batch: Batch, group: Group, endpoint: EndpointState) -> int:
        """Return how many of the group's texts are sent now; the rest waits for how they fare."""
        count = len(group.texts)
        if count == 1 or batch.may_grow or not self._halves:
            return count
        if batch.record is not None and batch.record.doubtful:
            return 1  # a batch does not show whether anything is accepted at all
        fresh = (group.most is None or group.fresh) and not group.passed
        if fresh and endpoint.breaker.seems_dead:
            # A breaker that the size of the calls has opened, or a text in each, is closed by
            # smaller ones only, and lets texts that have not failed yet go first.
            if endpoint.sizes.may_be_too_many(count):
                group.most = max(1, min(count, endpoint.sizes.least_failed) // _PART)
                group.fresh = True
            elif endpoint.faults.held_back:
                group.most, group.fresh = 1, True
        most = count if group.most is None else min(count, group.most)
        if endpoint.sizes.limit is not None:
            most = endpoint.sizes.at_most(most, self._clock.now())
        return most

    def hold(self, batch: Batch) -> None:
        """Wait until a batch may be sent whose call was refused, and nothing of it accepted.

        Raises ClosedError.
        """
        record = batch.record
        if record is None or batch.number or not record.in_doubt:
            return
        began = self._clock.now()
        until = began + min(_HOLD, batch.deadline.remaining(began) / 4)
        while record.in_doubt:
            batch.number = record.begin_in_doubt()
            if batch.number:
                break
            if self._clock.now() >= until:
                batch.number = record.begin()
                break
            sleep(self._clock, batch.stop, _LOOK)
        batch.queued(self._clock.now() - began)

    # -- what was answered ----------------------------------------------------------------------

    def accept(
        self,
        batch: Batch,
        part: Group,
        endpoint: EndpointState,
        results: Sequence[Result],
    ) -> None:
        """Note that a part was answered, for the key, the endpoint's size, and its call."""
        good = not results or isinstance(results[0], Audio)
        if not good and not any(isinstance(result, Audio) for result in results):
            self._note_errors(batch, part, endpoint, results)
            return
        batch.strikes = 0
        batch.credit += 1
        self.answers += 1
        self._answered = batch.sent
        count = len(part.texts)
        sizes = endpoint.sizes
        if count > sizes.best or sizes.limit is not None:
            endpoint.sizes.note(count, True, self._clock.now())
        mark = part.mark
        if mark is not None:
            mark.left -= count
            if mark.left == 0:  # none of them is to blame: together they were too large
                endpoint.sizes.note_parts(mark.failed, mark.part, mark.sure, self._clock.now())
        url = endpoint.endpoint.url
        if url not in self._known:
            self._known.add(url)
            self._keys.add(url, self._key)
        if batch.record is not None:
            batch.number = 0
            batch.record.accept()
        if self._shared.noted:
            self._shared.accept()

    def _note_errors(
        self, batch: Batch, part: Group, endpoint: EndpointState, results: Sequence[Result]
    ) -> None:
        """Note a reply that holds an error for each text."""
        error = common_refusal(results) if batch.record is not None else None
        if error is not None and error.retryable:
            now, first = self._clock.now(), part.firsts.get(endpoint)
            again = self.retry is not None and part.attempt < self.retry.tries
            if again or (first and self.waits(endpoint, error, first, now)):
                return  # as long as it is repeated, its call is in doubt
        record = batch.record
        if error is None or record is None:
            batch.settle()
            return
        record.judging(1)
        if record.refuse_each(batch.settle(), len(results), kind_of(error)):
            record.verdict = as_verdict(error, record.refusals)
        record.judging(-1)

    def passed(self, group: Group, part: Group, endpoint: EndpointState) -> list[Group]:
        """Return what is left of a group of which a part was answered."""
        left = group.rest(part)
        for rest in left:
            count = len(rest.texts)
            probed = group.most is not None and not group.passed
            if probed and endpoint.may_try(count, self._clock.now()):
                # What failed before may be over: all of the rest goes out.
                rest.most, rest.passed = None, len(part.texts)
                rest.mark = TooLarge(len(group.texts), count, count, sure=False)
        return left

    # -- what failed ----------------------------------------------------------------------------

    def judge(
        self, batch: Batch, part: Group, endpoint: EndpointState, error: CosyError
    ) -> CosyError:
        """Return what an error of a part means; where it ends the whole call, the call's record
        holds its verdict from then on.

        Waits for what else is in flight, where that may tell. Raises ClosedError.
        """
        if not is_refusal(error) or getattr(error, "blames", None) == "text":
            batch.settle()
            return self._end(batch, error) if error.hopeless else error
        record = batch.record
        if record is None:
            return self._judge(batch, part, endpoint, error, 0)
        record.judging(1)  # before it counts as settled: nothing is sent in its place meanwhile
        try:
            begun = batch.settle()
            self._await_others(batch, record, begun, error)
            return self._judge(batch, part, endpoint, error, begun)
        finally:
            record.judging(-1)

    def _judge(
        self, batch: Batch, part: Group, endpoint: EndpointState, error: CosyError, begun: int
    ) -> CosyError:
        record = batch.record
        url = endpoint.endpoint.url
        known = (url, self._key) in self._keys
        key = may_be_key(error)
        if error.hopeless and not key:  # the account is empty, say
            return self._end(batch, error)
        status = getattr(error, "status", None)
        # Where several callers share a batch, one caller's text may be to blame.
        shared = (batch.shared or not begun) and len(batch.texts) > 1
        if key and not known and not shared and status in _CLEAR:
            return self._end(
                batch, with_setting(error) if isinstance(error, ServerError) else error
            )
        kind = kind_of(error)
        if record is None:
            record = batch.record = self._begin_record(batch, kind)
            if record.verdict is not None:
                return record.verdict
        # Each of several batches may begin with a text that is to blame.
        few = min(_ENOUGH, _ENOUGH_FOR_KEY * record.shared_batches)
        enough = _ENOUGH if known or not key else few
        later = (_REVOKED_CLEARLY if status == 401 else _REVOKED) if key else None
        if record.refuse(begun, len(part.texts), kind, enough=enough, later=later):
            record.verdict = as_verdict(error, record.refusals)
            return record.verdict
        if key and isinstance(error, ServerError):
            single = not begun and len(batch.texts) == 1
            spoken = record.accepted or (single and url in self._known)
            return as_text_error(error) if spoken else error.with_details(hopeless=False)
        return error

    def _begin_record(self, batch: Batch, kind: str) -> Unanimity:
        """Return where the first refusal of a batch is noted that is no part of a larger call."""
        if not batch.shared or len(batch.texts) == 1:
            return Unanimity()
        record = self._shared.record(kind, self._clock.now())
        record.doubt(alone=False)
        return record

    def _await_others(self, batch: Batch, record: Unanimity, begun: int, error: CosyError) -> None:
        """Let a refusal wait for the requests before it: refusals come at once, sound does not."""
        now = self._clock.now()
        left = batch.deadline.remaining(now)
        until = now + (min(_LONG_WAIT, left / 2) if may_be_key(error) else min(_WAIT, left / 4))
        while record.awaits(begun) and self._clock.now() < until:
            sleep(self._clock, batch.stop, _LOOK)

    def speaks(self, now: float) -> bool:
        """Return whether something was spoken lately."""
        return now - self._answered < _LATELY

    def waits(self, endpoint: EndpointState, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text that first fared like this waits for its service to recover: it has
        too much to do, or says of the text what an engine that restarts may say."""
        if endpoint.is_overloaded(error, first, now):
            return True
        if getattr(error, "blames", None) not in ("service", "unknown") or not error.retryable:
            return False
        waited = now - first.failed
        patient = self.retry is not None and self.retry.outlasts(waited)
        return patient and waited < _PATIENCE and self._answered <= first.failed

    def fate(
        self, batch: Batch, group: Group, part: Group, endpoint: EndpointState, error: CosyError
    ) -> Fate:
        """Return what becomes of a part of a group, or all of it, that failed with an error that
        is no verdict."""
        count = len(part.texts)
        size, text = may_be_size(error), may_be_text(error)
        if size:
            endpoint.sizes.note(count, False, self._clock.now())
        if is_refusal(error):
            halved = not error.hopeless and self._may_halve(part, endpoint, error)
            return Fate.SPLIT if halved else Fate.CHARGED
        if not self._halves or not (size or text):
            return Fate.CHARGED
        # A single failure of a size that has passed is chance, if somebody can wait to see.
        again = part.attempt == 1 and not batch.interactive
        if text or (not again and may_be_text(error, fits=part.fits(endpoint))):
            return self._text_fate(batch, group, part)
        batch.strikes += 1
        limit = endpoint.sizes.limit
        if limit is not None and count > limit:  # it was tried whether more is possible
            part.passed = limit
        if part.passed and batch.strikes <= _STRIKES:
            return Fate.SPLIT if count > 1 else Fate.CHARGED
        part.passed = 0
        part.heard = self.answers  # what was answered before it failed is no sign of life
        return Fate.CHARGED if part.fits(endpoint) else Fate.PROBED

    def hears(self, batch: Batch, part: Group) -> bool:
        """Return whether there is a sign of life for a part that failed."""
        return batch.credit > 0 or self.answers > (part.heard or 0)

    def lives(self, batch: Batch, part: Group) -> bool:
        """Return the same, and use the sign up."""
        alive = self.hears(batch, part)
        if alive and self.answers <= (part.heard or 0):
            batch.credit -= 1
        part.heard = self.answers
        return alive

    def _text_fate(self, batch: Batch, group: Group, part: Group) -> Fate:
        """Return what becomes of a part that one of its texts may have broken.

        It is sent in halves as long as there are signs of life: something was answered since it
        failed last, or more of the batch's parts were answered than were halved. So failures cost
        at most so many more requests than there were answers.
        """
        if len(group.texts) == 1:
            return Fate.CHARGED
        alive = self.lives(batch, part)
        group.heard = part.heard
        if len(part.texts) == 1:  # it may be the very text that breaks its calls
            if alive:
                part.passed = 1  # it goes its own way
                return Fate.CHARGED
            return Fate.PARKED if batch.parked else Fate.PROBED
        if alive:
            return Fate.SPLIT
        if batch.waiting:
            return Fate.PARKED
        # A single failure is chance, but callers who cannot wait do not pay for all of the texts.
        again = part.attempt == 1 and not batch.interactive
        return Fate.CHARGED if again else Fate.PROBED

    def split(
        self, group: Group, part: Group, endpoint: EndpointState, error: CosyError
    ) -> list[Group]:
        """Return a group whose part failed in smaller parts, which is no attempt."""
        count = len(part.texts)
        text = may_be_text(error, fits=part.fits(endpoint))
        size = may_be_size(error) and not text
        if size and 0 < part.passed < count:  # what is too large is so for the others as well
            most = max(part.passed, count // _PART)
            if endpoint.sizes.sure:
                endpoint.sizes.note_parts(count, most, True, self._clock.now())
            mark = TooLarge(count, most, len(group.texts))
            return [replace(group, most=most, passed=part.passed, mark=mark)]
        half = count // 2
        # Where both pass, none of the texts was to blame: together they were too many.
        together = TooLarge(count, half, count) if size or is_refusal(error) else None
        halves = part.texts[:half], part.texts[half:]
        again = replace(part, most=None, passed=0, mark=together, splits=part.splits + 1)
        parts = [again._with(texts) for texts in halves]
        for each in parts:
            if len(each.texts) == 1 and may_be_text(error):  # from now on it speaks for itself
                each.firsts.clear()
        return parts + group.rest(part)

    def probe(self, groups: list[Group], part: Group, size: int) -> list[Group]:
        """Return groups that failed with a part of them, to be tried by so many of the others."""
        count = len(part.texts)
        for group in groups:
            at = count if count < len(group.texts) else 0
            group.texts = [*group.texts[at:], *group.texts[:at]]
            group.most, group.heard = size, part.heard
        return groups

    def probe_size(self, part: Group, error: CosyError) -> int:
        """Return how many texts are best tried after a part failed.

        A quarter of them tells a size that works; where a text may be to blame, one is enough.
        """
        return max(1, len(part.texts) // _PART) if may_be_size(error) else 1

    def _may_halve(self, part: Group, endpoint: EndpointState, error: CosyError) -> bool:
        if len(part.texts) == 1 or not self._halves:
            return False
        if not isinstance(error, ServerError):
            return True
        # That it is not the key's fault, or the address', is known by now, or is to be found out.
        asked = TextError("", status=error.status) if may_be_key(error) else error
        return self._wires[endpoint.endpoint.url].splits(asked)

    def _end(self, batch: Batch, error: CosyError) -> CosyError:
        """Note that an error ends a call that has no other endpoint to go to."""
        if batch.record is not None and batch.alone:
            batch.record.verdict = error
        return error
