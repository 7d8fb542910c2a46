"""A canary while it runs: who speaks which text, what came of it, and what is decided.

States of a canary. Every step is taken under `_lock`; the event is sent after it.

    running         the new model speaks its share of the texts
    rolled back     it speaks none; only an operator takes that back
    promoted        it speaks all of them

    running -> rolled back  `note`: it is worse; `follow`: another process or an operator says so
    running -> running      `note`, with a larger share, and counts that begin anew; `follow`
    running -> promoted     the same, with the last share
    any -> running          `follow`: an operator has reset it
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from ..config import CanaryConfig
from ..errors import (
    BadAudioError,
    BreakerOpenError,
    ClosedError,
    CosyError,
    DeadlineError,
    RefusedError,
    ResourceError,
    ThrottledError,
)
from ..events import CanaryChanged, Observer, SharingChanged, VariantSpoke
from ..models import Audio, Utterance
from ..policies.canary import CanaryState, Evidence, Judge, place_of
from .ports import Result

__all__ = ["CanaryNews", "CanaryWatch", "parse_state"]

# Errors that say nothing about a model: decisions of ours, this machine's, or too many requests.
_NO_NEWS = (ClosedError, RefusedError, ResourceError, ThrottledError)
# Requests of either after which it is asked how the new model fares, whoever sent the latest.
_SOMETIMES = 16
# Texts that are remembered, so that each counts once.
_MOST_SEEN = 50_000


@dataclass(frozen=True)
class CanaryNews:
    """What was counted here since it was last told, and bounds that were found; under which state,
    and whether that was decided here."""

    state: CanaryState
    decided: bool
    counts: Mapping[str, float]
    bounds: Mapping[str, float]


class CanaryWatch:
    """Shared by every thread of a client, and by the engines that it has one after the other.

    Args:
        config: With a variant.
    """

    def __init__(self, config: CanaryConfig) -> None:
        assert config.variant is not None
        self.config, self.variant, self.name = config, config.variant, config.variant.name
        # Told of changes. Each engine sets its own.
        self.observer: Observer | None = None
        first = self.variant.share
        self._steps = [step for step in config.steps if step > first] if config.promote else []
        # Each step may be wrong with an equal part of what is allowed in all.
        judged = len([step for step in (first, *self._steps) if step < 1])
        self._judge = Judge(config.false_alarms / max(1, judged), config.tolerance)
        # Guards everything below; `state` may be read without it.
        self._lock = threading.Lock()
        self.state = CanaryState()
        self._decided = False
        self._evidence = self._new_evidence()
        self._told: dict[str, float] = {}  # of the counts: what others know
        self._requests = 0
        self._seen: set[int] = set()
        self._told_bounds: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Return whether it is rolled back."""
        return self.state.state == "rolled back"

    @property
    def share(self) -> float:
        """Return the new model's share of the texts."""
        share = self.state.share
        return self.variant.share if share is None else share

    def arm_of(self, text: str) -> str | None:
        """Return who speaks a text: "canary", "control", or None for the other texts."""
        share = self.share
        if not 0 < share < 1:
            return "canary" if share else None
        place = place_of(self.name, text)
        if place < share:
            return "canary"
        return "control" if place >= max(share, 1 - share) else None

    # -- what came of texts ---------------------------------------------------------------------

    def note(
        self,
        arm: str,
        texts: Sequence[Utterance],
        results: Sequence[Result],
        error: CosyError | None,
        most: float,
    ) -> None:
        """Count a request: its results, or the error that failed it as a whole. One that took more
        than `most` seconds has failed: the new model has no more."""
        if self.state.state != "running":
            return
        unsent = isinstance(error, DeadlineError) and not error.in_flight
        if unsent or isinstance(error, _NO_NEWS):
            # A breaker holds the new one back: what is known of the old one by now may suffice.
            if arm == "canary" and isinstance(error, BreakerOpenError):
                self._look()
            return
        keys = [hash(text.text) for text in texts]
        spoken = [each for each in results if isinstance(each, Audio)]
        timing = spoken[0].timing if spoken else None
        # What fails together counts once.
        failed = error is not None or (len(results) > 1 and not spoken)
        failed = failed or (timing is not None and timing.total > most)
        with self._lock:
            before = self.share
            new = self._take_new(keys)
            if not any(new):
                return
            self._evidence.count(arm, "failed", failed)
            if not failed and timing is not None:
                # The new one's connections are idle for longer, and so more often made anew.
                chars = sum([len(each.text) for each in texts])
                streamed = timing.first_audio > 0
                seconds = (timing.first_audio if streamed else timing.total) - timing.connect
                count = 0 if streamed else len(texts)
                if chars:
                    self._evidence.measure(arm, "slow", seconds, chars, count)
            if not failed:
                for text, result in compress(zip(texts, results, strict=False), new):
                    self._hear(arm, len(text.text), result)
            self._requests += 1
            # Of a new one that a breaker holds back, only the old one's requests go on.
            now_and_then = self._requests % _SOMETIMES == 0
            changed = (arm == "canary" or now_and_then) and self._decide(now_and_then)
        if changed:
            self._tell(before)

    def _look(self) -> None:
        """Decide without anything new of the new one."""
        with self._lock:
            before = self.share
            changed = self._decide(may_promote=False)
        if changed:
            self._tell(before)

    def note_stream(self, arm: str, text: Utterance, counted: bool, result: Result | None) -> None:
        """Count and tell of a stream that had begun: what became of its sound, None where nobody
        wanted the rest."""
        broken = result if isinstance(result, CosyError) else None
        if result is not None:
            self.tell_spoken(arm, [text], [result], None)
        if not counted:
            return
        if broken is not None and not isinstance(broken, BadAudioError):
            self.note(arm, [text], (), broken, math.inf)
        else:
            self.note(arm, [text], [] if result is None else [result], None, math.inf)

    def tell_spoken(
        self,
        arm: str,
        texts: Sequence[Utterance],
        results: Sequence[Result],
        error: CosyError | None,
    ) -> None:
        """Tell what came of a request's texts: the results, or the error that failed them all."""
        if self.observer is None or isinstance(error, RefusedError):
            return
        ends: Counter[str] = Counter()
        if error is not None:
            ends[type(error).__name__] = len(texts)
        for each in results:
            ends["" if isinstance(each, Audio) else type(each).__name__] += 1
        for name, count in ends.items():
            self.observer.on_event(VariantSpoke(self.name, arm, count, name))

    def _take_new(self, keys: Sequence[int]) -> list[bool]:
        """Tell which texts are new: those that come again are always the same one's, and one that
        is hard to speak would count for it again and again."""
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        new = [key not in self._seen for key in keys]
        self._seen.update(keys)
        return new

    def _hear(self, arm: str, chars: int, result: Result) -> None:
        """Count what came for one text of a reply."""
        evidence = self._evidence
        evidence.count(arm, "refused", not isinstance(result, Audio))
        if isinstance(result, Audio) and chars:
            length = result.pcm_size / (2 * result.channels * result.sample_rate)
            evidence.measure(arm, "long", length, chars)
            evidence.measure(arm, "short", length, chars)

    def _decide(self, may_promote: bool) -> bool:
        """Roll back or promote where that is due; return whether it was."""
        state, counts = self.state, self._evidence.counts
        if state.state != "running":
            return False
        worse = self._judge.worse(counts)
        if worse is not None:
            self._set(state.rolled_back(self._judge.explain(counts, worse)), decided=True)
            return True
        larger = [step for step in self._steps if step > self.share]
        if not (larger and may_promote and self._judge.as_good(counts)):
            return False
        self._set(state.promoted(larger[0]), decided=True)
        return True

    # -- what is shared -------------------------------------------------------------------------

    def news(self) -> CanaryNews:
        """Return what others do not know yet."""
        with self._lock:
            bounds, counts = self._fresh_bounds(), self._fresh()
            return CanaryNews(self.state, self._decided, counts, bounds)

    def follow(
        self,
        news: CanaryNews,
        told: tuple[Mapping[str, str], Mapping[str, float], Mapping[str, float]],
    ) -> None:
        """Take over the state, counts and bounds of all processes, after `news` were told."""
        fields, counts, bounds = told
        state = parse_state(fields)
        with self._lock:
            before, kind = self.share, self.state.state
            if self.state != news.state:  # decided meanwhile: next time
                return
            self._decided = False
            if state != self.state:
                self._set(state, decided=False)
            elif not news.decided:
                self._add(news.counts, counts)
                self._evidence.bounds.update(bounds)
                self._told_bounds.update(bounds)
                self._decide(may_promote=True)
            changed = self.state.state != kind or self.share != before
        if changed:
            self._tell(before)

    def tell_start(self) -> None:
        """Tell that it begins."""
        self._tell(0.0)

    def tell_sharing(self, shared: bool, reason: str) -> None:
        """Tell whether the state is shared, and why not."""
        if self.observer is not None:
            self.observer.on_event(SharingChanged(self.name, "canary", shared, reason))

    def renew(self) -> None:
        """In a forked child: what was decided stays, what was counted is the parent's."""
        self._lock = threading.Lock()
        self._evidence, self._told, self._requests = self._new_evidence(), {}, 0
        self._seen, self._told_bounds = set(), set()

    # -- under the lock -------------------------------------------------------------------------

    def _fresh(self) -> dict[str, float]:
        """Return what was counted here and not told."""
        told, counts = self._told, self._evidence.counts.items()
        return {key: value - told.get(key, 0) for key, value in counts if value != told.get(key, 0)}

    def _fresh_bounds(self) -> dict[str, float]:
        known, bounds = self._told_bounds, self._evidence.bounds.items()
        return {key: bound for key, bound in bounds if key not in known}

    def _add(self, told: Mapping[str, float], counts: Mapping[str, float]) -> None:
        """Take over the counts of all, and add what was counted here since `told` was taken."""
        late = {key: value - told.get(key, 0) for key, value in self._fresh().items()}
        keys = {*counts, *late}
        self._evidence.counts = {key: counts.get(key, 0) + late.get(key, 0) for key in keys}
        self._told = dict(counts)

    def _set(self, state: CanaryState, *, decided: bool) -> None:
        self.state, self._decided = state, decided
        self._evidence, self._told, self._requests = self._new_evidence(), {}, 0
        self._seen, self._told_bounds = set(), set()

    def _new_evidence(self) -> Evidence:
        return Evidence(self.config.slower, self.config.pace)

    def _tell(self, before: float) -> None:
        state = self.state
        event = CanaryChanged(self.name, state.state, before, self.share, state.reason)
        if self.observer is not None:
            self.observer.on_event(event)


def parse_state(fields: Mapping[str, str]) -> CanaryState:
    """Return the state that Redis has."""
    share = fields.get("share") or None
    return CanaryState(
        int(fields.get("epoch", 0)),
        fields.get("state", "running"),
        None if share is None else float(share),
        fields.get("reason", ""),
    )
