"""Texts without an outcome: queued in the order of their arrival, and known by their keys."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CosyError
from ..events import TextFailed, TextsShared
from ..models import Outcome, Utterance, text_hash
from ..policies import Deadline
from ..threads.stop import Stop
from .batch import failed
from .tenants import TenantLimit
from .waiters import PendingText, Waiter, outlasting

__all__ = ["PendingTexts", "QueueOptions", "as_event", "late"]


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """How a text queue packs, and for whom. `linger` in seconds."""

    max_texts: int
    max_chars: int
    linger: float
    single_flight: bool
    interactive: bool
    tenant: str


class PendingTexts:
    """The texts of a queue that have no outcome. Its text queue's lock guards it.

    Those that no batch has yet are queued, and counted by `len`.
    """

    def __init__(self, max_texts: int, max_chars: int) -> None:
        self._max_texts = max_texts
        self._max_chars = max_chars
        self.queued: deque[PendingText] = deque()
        self._chars = 0
        # Every text that others may still wait for.
        self.by_key: dict[object, PendingText] = {}

    def __len__(self) -> int:
        return len(self.queued)

    @property
    def full(self) -> bool:
        """Return whether a batch can be filled."""
        return len(self.queued) >= self._max_texts or self._chars >= self._max_chars

    @property
    def oldest(self) -> float:
        """Return when the first of them arrived."""
        return self.queued[0].accepted_at

    def append(self, pending: PendingText) -> None:
        """Put a text at the end."""
        self._chars += len(pending.utterance.text)
        self.queued.append(pending)

    def take(self, others: Sequence[PendingText], most: int | None = None) -> list[PendingText]:
        """Take out what still fits into a batch with these others, but nothing unwanted; `most`
        texts in all, where that is less than usual."""
        room = min(self._max_texts, most or self._max_texts) - len(others)
        chars = sum(len(pending.utterance.text) for pending in others)
        taken: list[PendingText] = []
        while self.queued:
            pending = self.queued[0]
            length = len(pending.utterance.text)
            if pending.waiters:
                too_long = chars + length > self._max_chars and (others or taken)
                if len(taken) >= room or too_long:
                    break
                taken.append(pending)
                chars += length
            self.queued.popleft()
            self._chars -= length
        return taken

    def add(self, pending: PendingText) -> None:
        """Queue a new text, for which others may wait as well."""
        self.append(pending)
        self.by_key[pending.key] = pending

    def forget(self, pending: PendingText) -> None:
        """Let nobody else wait for a text."""
        if self.by_key.get(pending.key) is pending:
            del self.by_key[pending.key]

    def end(
        self, pending: PendingText, deadline: Deadline, outcome: Outcome | None
    ) -> list[Waiter]:
        """End a text; return whom its outcome is for; those with time left queue again."""
        self.forget(pending)
        waiters, pending.waiters = pending.waiters, []
        if not waiters:
            return waiters
        rest = outlasting(waiters, deadline, outcome)
        if not rest:
            return waiters
        self.add(PendingText(Utterance(pending.utterance.text), pending.key, rest))
        return [waiter for waiter in waiters if waiter not in rest]

    def abandon(self, pending: PendingText, waiter: Waiter) -> Stop | None:
        """Take a waiter back; stop the text's batch, and return its stop, when that was the last
        one of all its texts. A text that nobody waits for is not joined any more."""
        pending.waiters.remove(waiter)
        if not pending.waiters and not pending.sent_alone:
            self.forget(pending)
            batched = pending.batched
            if batched is not None and not batched.is_wanted():
                batched.batch.stop.set()  # it has no lock
                return batched.batch.stop
        return None

    def expire(self, now: float) -> tuple[list[Waiter], float]:
        """Take back the waiters without a thread whose time is up; return them, and when the next
        one's is."""
        waiting = [
            waiter
            for pending in self.by_key.values()
            for waiter in pending.waiters
            if not waiter.has_thread
        ]
        due = [waiter for waiter in waiting if waiter.deadline.at <= now]
        for waiter in due:
            assert waiter.pending is not None
            self.abandon(waiter.pending, waiter)
        later = [waiter.deadline.at for waiter in waiting if waiter.deadline.at > now]
        return due, min(later, default=math.inf)

    def clear(self) -> list[tuple[Utterance, list[Waiter]]]:
        """End everything that is queued; return the texts with those who waited for them."""
        ended = [(pending.utterance, pending.waiters) for pending in self.queued]
        for pending in self.queued:
            self.forget(pending)
            pending.waiters = []
        self.queued.clear()
        self._chars = 0
        return ended


def late(waiter: Waiter, tenant_limit: TenantLimit | None) -> Outcome:
    """Return the outcome of a waiter whose time was up, which says what it waited for."""
    pending = waiter.pending
    assert pending is not None
    utterance, batch = pending.utterance, pending.batch
    phase = "waiting for a batch"
    if pending.may_be_sent:
        phase = "waiting for the service"
    elif tenant_limit is not None and batch is None:
        phase = f"waiting for one of the tenant's {tenant_limit.limit} places"
    error: CosyError = waiter.deadline.error(phase, in_flight=batch is not None and batch.in_flight)
    if batch is not None:
        error = batch.last_word(utterance, error)
    return failed(Utterance(utterance.text), error)


def as_event(outcome: Outcome) -> TextsShared | TextFailed:
    """Return what observers are told of the outcome of a text that no batch has counted."""
    chars = len(outcome.text)
    if outcome.error is None:
        return TextsShared(1, chars)
    return TextFailed(text_hash(outcome.text), chars, outcome.error)
