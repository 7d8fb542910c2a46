"""Texts that wait for a batch, and the batch that several callers share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import CosyError, RefusedError
from ..events import TextFailed, TextsShared
from ..models import Outcome, Utterance, text_hash
from ..threads.stop import Stop
from .batch import ANY_TIME, Batch, failed
from .tenants import TenantLimit
from .waiters import PendingText, Waiter

__all__ = ["PendingTexts", "QueueOptions", "SharedBatch", "as_event", "late", "may_be_sent"]


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
    """Queued texts in the order of their arrival. Its text queue's lock guards it."""

    def __init__(self, max_texts: int, max_chars: int) -> None:
        self._max_texts = max_texts
        self._max_chars = max_chars
        self.texts: deque[PendingText] = deque()
        self._chars = 0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def full(self) -> bool:
        """Return whether a batch can be filled."""
        return len(self.texts) >= self._max_texts or self._chars >= self._max_chars

    @property
    def oldest(self) -> float:
        """Return when the first of them arrived."""
        return self.texts[0].accepted_at

    def append(self, pending: PendingText) -> None:
        """Put a text at the end."""
        self._chars += len(pending.utterance.text)
        self.texts.append(pending)

    def take(self, others: Sequence[PendingText], most: int | None = None) -> list[PendingText]:
        """Take out what still fits into a batch with these others, but nothing unwanted; `most`
        texts in all, where that is less than usual."""
        room = min(self._max_texts, most or self._max_texts) - len(others)
        chars = sum(len(pending.utterance.text) for pending in others)
        taken: list[PendingText] = []
        while self.texts:
            pending = self.texts[0]
            length = len(pending.utterance.text)
            if pending.waiters:
                too_long = chars + length > self._max_chars and (others or taken)
                if len(taken) >= room or too_long:
                    break
                taken.append(pending)
                chars += length
            self.texts.popleft()
            self._chars -= length
        return taken

    def clear(self) -> list[PendingText]:
        """Take out everything."""
        pending_texts = list(self.texts)
        self.texts.clear()
        self._chars = 0
        return pending_texts


class BatchOwner(Protocol):
    """The text queue, as a batch needs it."""

    def seal(self, batch: SharedBatch) -> bool:
        """Fill up a batch that is sent now; return whether anybody still waits for it."""
        ...

    def complete(self, batch: SharedBatch, news: Sequence[tuple[PendingText, Outcome]]) -> None:
        """Tell everybody who waits for these texts."""
        ...


class SharedBatch(Batch):
    """A batch of several callers' texts. Texts may join until it is sealed."""

    shared = True

    __slots__ = ("_list", "_owner", "_told", "open", "pending_texts", "sealed")

    def __init__(
        self, owner: BatchOwner, pending_texts: list[PendingText], options: QueueOptions
    ) -> None:
        self._list = [pending.utterance for pending in pending_texts]
        super().__init__(
            self._list,
            pending_texts[0].waiters[0].deadline,
            interactive=options.interactive,
            tenant=options.tenant,
            stop=Stop(),
        )
        if not options.interactive:
            self.queue_deadline = ANY_TIME
            self.call_began = max(t.began for pending in pending_texts for t in pending.waiters)
        self._owner = owner
        self._told = 0
        self.sealed = False
        self.load(pending_texts)

    def load(self, pending_texts: list[PendingText]) -> None:
        """Hold these pending texts, at least one. Called under the text queue's lock."""
        self.pending_texts = pending_texts
        # Texts without an outcome.
        self.open = len(pending_texts)
        self.deadline = pending_texts[0].longest()
        self.accepted_at = pending_texts[0].accepted_at
        for index, pending in enumerate(pending_texts):
            pending.batch = self
            pending.utterance.index = index
            self.accepted_at = min(self.accepted_at, pending.accepted_at)
            longest = pending.longest()
            if longest.at > self.deadline.at:
                self.deadline = longest
        # In place: the thread that runs the batch holds this very list.
        self._list[:] = [pending.utterance for pending in pending_texts]

    @property
    def may_grow(self) -> bool:
        """Return whether texts may still join before it is sent."""
        return not self.sealed

    def seal(self) -> None:
        """Take in the texts that joined meanwhile. Raises RefusedError when all have left."""
        if not self.sealed and not self._owner.seal(self):
            raise RefusedError("not sent: nobody waits for it any more", retryable=False)
        super().seal()

    def deliver(self) -> None:
        """Tell the callers whose outcome is known."""
        told, self._told = self._told, len(self.outcomes)
        if told < self._told:
            news = self.outcomes[told:]
            self._owner.complete(self, [(self.pending_texts[o.index], o) for o in news])


def may_be_sent(pending: PendingText) -> bool:
    """Return whether a text may have been sent."""
    return pending.sent_alone or (isinstance(pending.batch, SharedBatch) and pending.batch.sealed)


def late(waiter: Waiter, tenant_limit: TenantLimit | None) -> Outcome:
    """Return the outcome of a waiter whose time was up, which says what it waited for."""
    pending = waiter.pending
    assert pending is not None
    utterance, batch = pending.utterance, pending.batch
    phase = "waiting for its turn in a batch"
    if may_be_sent(pending):
        phase = "waiting for the service"
    elif tenant_limit is not None and batch is None:
        phase = f"waiting for one of the tenant's {tenant_limit.limit} places"
    error: CosyError = waiter.deadline.error(phase, in_flight=batch is not None and batch.in_flight)
    if batch is not None:
        error = batch.last_word(utterance, error)
    return failed(Utterance(0, utterance.text), error)


def as_event(outcome: Outcome) -> TextsShared | TextFailed:
    """Return what observers are told of the outcome of a text that no batch has counted."""
    chars = len(outcome.text)
    if outcome.error is None:
        return TextsShared(1, chars)
    return TextFailed(text_hash(outcome.text), chars, outcome.error)
