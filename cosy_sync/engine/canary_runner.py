"""Batches of a client with a canary: each request is counted, and what fails on the new model is
spoken by the old one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..endpoints.endpoint import EndpointState
from ..errors import ClosedError, CosyError
from ..events import Observer, RetryPlanned, TextFailed
from ..models import Audio, Utterance
from ..policies import Deadline
from .batch import Batch
from .canary_watch import CanaryWatch
from .group import Group
from .open_stream import OpenStream
from .ports import Attempts, Result
from .retrying import BatchRunner

__all__ = ["CanaryRunner", "TrialRunner", "WatchedAttempts"]

# The share of the time that is left when a batch is sent which the new model has.
_HALF = 0.5


@dataclass(frozen=True)
class WatchedAttempts:
    """Makes attempts, and says which variant spoke; has the first of each batch counted, if any.

    What is sent again has failed before, and would fail more often than others. Of a stream that
    has begun it counts how it ends.
    """

    attempter: Attempts
    variant: str
    watch: CanaryWatch
    counts: bool
    stream: OpenStream | None = None

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Make an attempt."""
        counted, batch.judged = self.counts and not batch.judged, True
        watch, variant = self.watch, self.variant
        grows = batch.may_grow
        try:
            results = self.attempter.attempt(batch, texts, endpoint, number)
        except CosyError as error:
            texts = batch.texts if grows else texts
            watch.tell_spoken(variant, texts, (), error)
            if counted:
                watch.note(variant, texts, (), error, 0.0)
            raise
        texts = batch.texts if grows else texts
        if self.stream is not None and self.stream.audio is not None:
            self.stream.audio.on_result = functools.partial(
                watch.note_stream, variant, texts[0], counted
            )
            return results
        watch.tell_spoken(variant, texts, results, None)
        if counted:
            # Where the new model is asked, the deadline is shortened already.
            part = 1.0 if variant == "canary" else _HALF
            watch.note(variant, texts, results, None, part * (batch.deadline.at - batch.sent))
        for result in results:
            if isinstance(result, Audio):
                object.__setattr__(result, "variant", variant)
        return results


class TrialRunner(BatchRunner):
    """Sends texts once, and waits for no breaker: another runner speaks what fails here. So it
    tells nobody that they have failed."""

    def _nap(self, batch: Batch, group: Group, error: CosyError, pause: float) -> list[Group]:
        self._fail(batch, group.texts, error)
        return []

    def _fail(self, batch: Batch, texts: Sequence[Utterance], error: CosyError) -> None:
        for text in texts:
            batch.fail(text, error)


class CanaryRunner:
    """Runs batches on the new model, and on the old one what failed there.

    The new one has half of the time that is left when it is asked, so that the other half is there
    for the old one, which has all of its attempts.

    Args:
        new: Sends each text once: a TrialRunner.
        old: Speaks what fails.
        watch: Says whether the new one still speaks; None where it does in any case.
        observer: Told that texts are sent again.
        clock: The time.
    """

    def __init__(
        self,
        new: BatchRunner,
        old: BatchRunner,
        watch: CanaryWatch | None,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._new, self._old, self._watch = new, old, watch
        self._observer, self._clock = observer, clock

    def run(self, batch: Batch) -> None:
        """Bring every text of the batch to an outcome; as BatchRunner's."""
        if self._watch is not None and self._watch.is_over:  # it was packed before
            self._old.run(batch)
            return
        failed = self._try(batch)
        batch.deliver()
        if failed:
            self._old.run(batch, failed)

    def _try(self, batch: Batch) -> Sequence[Utterance]:
        """Send the texts to the new model; return those that failed, which have no outcome then."""
        seal, deliver, record = batch.on_seal, batch.on_deliver, batch.record
        batch.on_deliver = batch.record = None
        whole, half = batch.deadline, self._halved(batch.deadline)
        batch.deadline, known = half, [whole]
        batch.on_seal = functools.partial(self._seal, batch, seal, known, half)
        try:
            self._new.run(batch)
        finally:
            batch.on_seal, batch.on_deliver, batch.record = seal, deliver, record
            # What it waited, unsent, for a place is no part of a deadline that moved meanwhile.
            sent = len(known) > 1
            batch.deadline = known[-1] if sent else whole.later(batch.deadline.at - half.at)
        errors = {each.index: each.error for each in batch.outcomes if each.error is not None}
        if not errors:
            return ()
        if batch.stop.raised or any(isinstance(e, ClosedError) for e in errors.values()):
            for text in batch.texts:  # nobody else will tell
                if (late := errors.get(text.index)) is not None:
                    event = TextFailed(text.hash, len(text.text), late)
                    self._observer.on_event(event)
            return ()
        batch.outcomes = [each for each in batch.outcomes if each.error is None]
        batch.hopeless, batch.in_flight, batch.first_tries = None, False, {}
        batch.tries, batch.spared, batch.refusals = {}, {}, {}
        error = next(iter(errors.values()))
        self._observer.on_event(RetryPlanned(error.endpoint or "", len(errors), 1, 0.0, error))
        return [text for text in batch.texts if text.index in errors]

    def _halved(self, deadline: Deadline) -> Deadline:
        return deadline.later(-_HALF * deadline.remaining(self._clock.now()))

    def _seal(
        self,
        batch: Batch,
        seal: Callable[[Sequence[Utterance]], Sequence[Utterance]] | None,
        known: list[Deadline],
        half: Deadline,
        texts: Sequence[Utterance],
    ) -> Sequence[Utterance]:
        """Seal the batch with its whole deadline, and then let the new model have half of it."""
        if len(known) > 1:
            return texts if seal is None else seal(texts)
        # Where bulk work waited for a place, its deadline moved.
        batch.deadline = known[0].later(batch.deadline.at - half.at)
        if seal is not None:
            texts = seal(texts)
        known.append(batch.deadline)
        batch.deadline = self._halved(batch.deadline)
        return texts
