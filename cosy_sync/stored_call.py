"""A call of many texts whose sounds go into a store: what comes out says where they are.

Each text is in one of these places, and moves down. There is no lock: all of it happens on the
thread that takes the outcomes, but for `_put`, whose threads hand over through a queue.

    source      not pulled yet
    missing     the store has no sound of it
    sent        the engine has it
    putting     one of 16 threads stores its sound
    ready       its outcome is there, until it is handed out

    source -> ready     `_pull`: the store has its sound, or it cannot be sent
    source -> missing   `_pull`: the store has none
    missing -> sent     `_feed`: the engine's call pulls it
    sent -> putting     `_take`: its audio is there
    sent -> ready       `_take`: it has failed
    putting -> ready    `_collect`: it is stored, or the store has refused it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from .errors import CosyError
from .models import Audio, Outcome, Utterance
from .stored_place import Kept, Place
from .threads import leave_behind

if TYPE_CHECKING:
    from .given_texts import GivenTexts

__all__ = ["StoredCall", "StoredOutcome"]

# Texts that are asked for together, and those that were pulled and not handed out, at most.
_GROUP = 64
_MOST_AHEAD = 10_000
# Sounds that wait to be stored, at most; beyond the bytes that may wait, as many as have a thread.
_MOST_PUTS = 64


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """Where one text's sound is kept, or the `error` that ended it.

    `index`, `text` and `id` are those of Outcome. `key` is the object's in the store, `address` the
    whole of it: `s3://bucket/prefix/key`, or a file's path; `digest` stands for text and voice, as
    `client.digest` says it. `created` is False where the sound was there before. `size` in bytes;
    `duration` in seconds, None for a sound that was there where the store does not know it. As a
    condition it is true where there is a sound.
    """

    index: int
    text: str = field(repr=False)
    key: str | None = None
    address: str | None = None
    digest: str | None = None
    size: int | None = None
    duration: float | None = None
    created: bool = False
    error: CosyError | None = None
    id: str | int | None = None

    @property
    def ok(self) -> bool:
        """Return whether there is a sound."""
        return self.error is None

    def __bool__(self) -> bool:
        return self.error is None

    def result(self) -> str:
        """Return the address. Raises the error where there is no sound."""
        if self.error is not None:
            raise self.error
        assert self.address is not None
        return self.address


class _Entry:
    """One text on its way."""

    __slots__ = ("audio_size", "digest", "id", "index", "refused", "result", "text", "utterance")

    def __init__(self, index: int, text: str, utterance: Utterance | None, digest: str) -> None:
        self.index, self.text, self.utterance, self.digest = index, text, utterance, digest
        self.id: str | int | None = None  # of a text that cannot be sent
        self.result: Kept | CosyError | None = None
        # What the store has raised.
        self.refused: BaseException | None = None
        self.audio_size = -1  # while none is being stored

    @property
    def is_ready(self) -> bool:
        return self.result is not None or self.refused is not None


class StoredCall:
    """Does what the calls of the engine do; its outcomes are StoredOutcomes.

    Args:
        texts: what is to be spoken, or cannot be.
        given: makes their outcomes those of the items that the user gave.
        place: where the sounds go; it is closed at the end.
        start: begins the engine's call of what is to be spoken.
        read_ahead: texts that are pulled before their outcomes are taken, at most.
    """

    def __init__(
        self,
        texts: Iterable[Utterance | Outcome],
        given: GivenTexts,
        place: Place,
        start: Callable[[Iterable[Utterance | Outcome | None]], Any],
        read_ahead: int | None = None,
    ) -> None:
        self._given, self._source = given, iter(texts)
        self._place, self._start = place, start
        self._most = read_ahead or _MOST_AHEAD
        self._order: deque[_Entry] = deque()
        self._missing: deque[_Entry] = deque()
        self._sent: dict[int, _Entry] = {}  # by their numbers in the engine's call
        # Ended puts, from the threads; how many have not been taken from there, and their bytes.
        self._puts: SimpleQueue[_Entry] = SimpleQueue()
        self._putting = self._bytes = 0
        self._asks: bool | None = None
        self._ended = self._over = False
        self._error: BaseException | None = None  # of the source
        # The engine's call, and its outcomes.
        self._inner: Any = None
        self._outcomes: Iterator[Outcome] = iter(())

    def outcomes(self) -> Generator[StoredOutcome, None, None]:
        """Yield every outcome in input order, as soon as it and those before it are there.

        When the source of texts raises, what came before it is finished and yielded first; so it is
        with what the store raises.
        """
        dropped = whole = False
        try:
            while True:
                self._collect(wait=False)
                while True:
                    if not self._order or not self._order[0].is_ready:
                        break
                    yield self._outcome_of(self._order[0])
                    # Only now: an exception at the yield must not lose it.
                    self._order.popleft()
                if not self._order:
                    if self._ended:
                        break
                    self._pull()
                elif self._must_wait():
                    self._collect(wait=True)
                else:
                    self._take()
            for _ in self._outcomes:
                raise AssertionError("an outcome that nobody asked for")
            whole = True
            if self._error is not None:
                raise self._error
        except GeneratorExit:
            dropped = True
            raise
        finally:
            if dropped:  # in a finaliser, perhaps, where a lock may be held that is needed
                self._outcomes = iter(())
                leave_behind(self._place.close)
            else:
                self._finish(whole=whole)

    def end(self) -> None:
        """Send nothing more, and cut off what is in flight: nobody can have its results."""
        self._finish(whole=False)

    def finished(self) -> list[StoredOutcome]:
        """Return what is stored or has failed, and was not handed out yet, in input order."""
        self._collect(wait=False)
        return [self._outcome_of(e) for e in self._order if e.result is not None]

    def _finish(self, *, whole: bool) -> None:
        if self._over:
            return
        self._over = True
        refused = any(entry.refused is not None for entry in self._order)
        if not whole and self._inner is not None:
            self._inner.end()
            if not refused:
                self._store_finished()
        self._place.close(hurry=refused)

    def _store_finished(self) -> None:
        """Have stored what was spoken and not taken: it is paid for."""
        for outcome in self._inner.finished():
            entry = self._sent.get(outcome.index)
            if entry is not None and outcome.audio is not None:
                self._store(entry, outcome)

    # -- pulling --------------------------------------------------------------------------------

    def _pull(self) -> None:
        """Pull a group of texts, and ask the store for their sounds."""
        if self._asks is None:
            self._asks = not self._place.is_empty()
        group: list[_Entry] = []
        # In an empty store nothing is asked for, and no text waits for others.
        room = self._most - len(self._order)
        for _ in range(min(_GROUP if self._asks else 1, room)):
            try:
                text = next(self._source, None)
            except Exception as error:
                self._error, text = error, None
            if text is None:
                self._ended = True
                break
            entry = self._enter(text)
            if entry.result is None:
                group.append(entry)
        if self._asks and group:
            looks = self._place.threads.map(self._place.look, [each.digest for each in group])
            for entry, found in zip(group, looks, strict=True):
                entry.result = found
        self._missing.extend(entry for entry in group if entry.result is None)

    def _enter(self, text: Utterance | Outcome) -> _Entry:
        if isinstance(text, Outcome):
            entry = _Entry(text.index, text.text, None, "")
            entry.result, entry.id = text.error, text.id
        else:
            entry = _Entry(text.index, text.text, text, self._place.digest(text))
        self._order.append(entry)
        return entry

    # -- what is spoken and stored --------------------------------------------------------------

    def _must_wait(self) -> bool:
        """Return whether a stored sound is to be waited for, before more are taken."""
        many = self._putting >= self._place.WIDTH
        if self._putting >= _MOST_PUTS or (many and self._bytes > self._place.most_bytes):
            return True
        putting = self._order[0].audio_size >= 0
        return putting and (many or not (self._sent or self._missing))

    def _feed(self) -> Iterator[Utterance | None]:
        """Yield what is to be spoken, numbered; None where that should not wait for more."""
        number = 0
        while True:
            while self._missing:
                entry = self._sent[number] = self._missing.popleft()
                assert entry.utterance is not None
                yield replace(entry.utterance, index=number)
                entry.utterance = None
                number += 1
            if self._ended:
                return
            if len(self._order) < self._most:
                self._pull()
            else:
                yield None

    def _take(self) -> None:
        """Wait for the next text that was spoken, and have its sound stored."""
        if self._inner is None:
            self._inner = self._start(self._feed())
            self._outcomes = iter(self._inner.outcomes())
        outcome = next(self._outcomes)
        self._store(self._sent[outcome.index], outcome)
        # Only now: Ctrl-C before must find the text here, for its own sound.
        del self._sent[outcome.index]

    def _store(self, entry: _Entry, outcome: Outcome) -> None:
        if outcome.audio is None:
            assert outcome.error is not None
            entry.result = outcome.error.with_details(index=entry.index)
            return
        entry.audio_size = len(outcome.audio.data)
        self._putting, self._bytes = self._putting + 1, self._bytes + entry.audio_size
        self._place.threads.submit(self._put, entry, outcome.audio)

    def _put(self, entry: _Entry, audio: Audio) -> None:
        try:
            entry.result = self._place.put(entry.digest, audio)
        except BaseException as error:
            entry.refused = error
        self._puts.put(entry)

    def _collect(self, *, wait: bool) -> None:
        """Take over what was stored."""
        while True:
            try:
                entry = self._puts.get(block=wait)
            except Empty:
                return
            wait = False
            self._putting, self._bytes = self._putting - 1, self._bytes - entry.audio_size
            entry.audio_size = -1

    def _outcome_of(self, entry: _Entry) -> StoredOutcome:
        """Return a text's outcome as that of the given item. Raises what the store has raised."""
        if entry.refused is not None:
            raise entry.refused
        result = entry.result
        error = result if isinstance(result, CosyError) else None
        own = self._given.restore(Outcome(entry.index, entry.text, None, error, entry.id))
        if not isinstance(result, Kept):
            return StoredOutcome(own.index, own.text, error=own.error, id=own.id)
        key = self._place.key_of(entry.digest)
        return StoredOutcome(
            own.index,
            own.text,
            key=key,
            address=self._place.address_of(key),
            digest=entry.digest,
            size=result.size,
            duration=result.duration,
            created=result.created,
            id=own.id,
        )
