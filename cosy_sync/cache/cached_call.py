"""A call of many texts through the cache: only what is not in it is sent, in full batches.

Each text is in one of these places, and moves down. There is no lock: all of it happens on the
thread that takes the outcomes.

    source      not pulled yet
    misses      nobody has it spoken; this call does, and holds its lease
    foreign     another process is having it spoken
    sent        the inner call has it
    ready       its outcome is there, until it is handed out

    source -> ready     `_look_up`: it was found, or cannot be sent
    source -> misses    `_look_up`: its lease was taken
    source -> foreign   `_look_up`: another process has its lease
    misses -> sent      `_feed` or `_begin`: the inner call pulls it
    sent -> ready       `_take`: the inner call hands it out
    foreign -> ready    `_look_again`: the other process has put it, or the caller's time is up
    foreign -> misses   `_look_again`: the other process gave its lease back, or died
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..engine.batch import failed
from ..engine.small_call import SmallCall
from ..errors import DeadlineError
from ..events import Observer
from ..models import Outcome, Utterance
from ..policies import Deadline
from ..threads import leave_behind
from .counting import outcome_of, tell_misses, tell_of
from .speech_cache import SpeechCache
from .waits import Waits

if TYPE_CHECKING:
    from ..engine.bulk import BulkCall

__all__ = ["CachedCall", "CallTerms"]

# Texts that are looked up together.
_GROUP = 64
# Seconds that a group gathers: the next text of a slow source ends it.
_PATIENCE = 0.1
# Texts of a list that are looked up before the first of them is sent.
_AT_FIRST = 512
# Texts that an endless call has pulled and not handed out, at most, however small they are.
_MOST_AHEAD = 10_000


@dataclass(frozen=True, kw_only=True)
class CallTerms:
    """What a call was promised.

    `lazy`: its texts may have no end; `most_bytes` of audio wait for those before it then.
    `read_ahead` bounds the texts that are pulled before their outcomes are taken.
    """

    deadline: float
    within: Deadline | None
    lazy: bool
    read_ahead: int | None
    most_bytes: int


class CachedCall:
    """Does what the calls of the engine do; `start` makes one of these for what is to be sent."""

    def __init__(
        self,
        texts: Iterable[Utterance | Outcome | None],
        terms: CallTerms,
        cache: SpeechCache,
        start: Callable[[Iterable[Utterance | Outcome | None]], BulkCall | SmallCall],
        waits: Waits,
        observer: Observer,
    ) -> None:
        self._source, self._terms, self._cache = iter(texts), terms, cache
        self._start, self._waits, self._observer = start, waits, observer
        self._ready: dict[int, Outcome] = {}
        self._bytes = 0  # of what is ready
        self._misses: deque[Utterance] = deque()
        self._foreign: dict[int, tuple[Utterance, str]] = {}
        self._looks, self._patience = 0, Deadline(0.0, terms.deadline)
        # The number that comes next, and how many texts were pulled.
        self._next = self._pulled = 0
        self._ended = False
        self._error: BaseException | None = None  # of the source
        self._inner: BulkCall | SmallCall | None = None
        self._outcomes: Iterator[Outcome] = iter(())
        self._feeding = self._over = False
        # What the inner call has, by its number there.
        self._sent: dict[int, Utterance] = {}
        # Of a small call: the digests of its texts, and what is put into the cache at its end.
        self._few: list[str] = []
        self._late: list[tuple[str, Outcome]] = []

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield every outcome in input order, as soon as it and those before it are there.

        When the source of texts raises, what came before it is finished and yielded first.
        """
        dropped = whole = False
        try:
            while True:
                if self._next in self._ready:
                    yield from self._hand_out()
                elif self._next == self._pulled:
                    if self._ended:
                        break
                    self._pull()
                elif self._next not in self._foreign or self._misses or self._sent:
                    self._take()
                elif (self._ended or self._room() <= 0 or not self._pull()) and not self._misses:
                    # Only now: what is ours was sent, and calls never wait for each other's texts.
                    self._wait()
            self._exhaust()
            whole = True
            if self._error is not None:
                raise self._error
        except GeneratorExit:
            dropped = True
            raise
        finally:
            if dropped:  # in a finaliser, perhaps, where a lock may be held that is needed
                self._drop()
            elif not whole and self._inner is not None:
                self._inner.end()
            self._finish()

    def end(self) -> None:
        """Send nothing more, and cut off what is in flight: nobody can have its results."""
        if self._inner is not None:
            self._inner.end()
        self._finish()

    def finished(self) -> list[Outcome]:
        """Return what is finished and was not handed out yet, in input order."""
        known = dict(self._ready)
        if self._inner is not None:
            for outcome in self._inner.finished():
                text = self._sent.get(outcome.index)
                if text is not None:  # else it was taken before
                    known[text.index] = _own(text, outcome)
        return [known[index] for index in sorted(known)]

    # -- pulling --------------------------------------------------------------------------------

    def _room(self) -> int:
        """Return how many texts may be pulled now."""
        if not self._terms.lazy:
            return _GROUP
        if self._bytes >= self._terms.most_bytes and self._next < self._pulled:
            return 0
        most = self._terms.read_ahead or _MOST_AHEAD
        return min(_GROUP, most - (self._pulled - self._next))

    def _pull(self) -> bool:
        """Pull a group of texts, and look them up; return whether the source may have more now.

        A None among the texts says that it has not.
        """
        group, clock = [], self._waits.clock
        began, more = clock.now(), True
        for _ in range(self._room()):
            try:
                text = next(self._source)
            except StopIteration:
                self._ended = True
                break
            except Exception as error:
                self._error, self._ended = error, True
                break
            if text is None:
                more = False
                break
            self._pulled += 1
            if isinstance(text, Outcome):
                self._ready[text.index] = text
            else:
                group.append(text)
            if clock.now() - began > _PATIENCE:
                break
        if group:
            self._look_up(group)
        return more

    def _look_up(self, group: Sequence[Utterance]) -> None:
        """Find a place for each text of a group."""
        digests = [self._cache.digest(text) for text in group]
        found = self._cache.find(digests)
        missing = [digest for digest in digests if digest not in found]
        mine = self._cache.lease(missing) if missing else set()
        if mine:
            late = self._cache.find_again(list(mine))
            self._cache.release(late)
            found.update(late)
        hits, before = [], len(self._misses)
        for text, digest in zip(group, digests, strict=True):
            outcome = outcome_of(text, found, digest)
            if outcome is not None:
                hits.append(outcome)
            elif digest in mine:
                self._misses.append(text)
            else:
                self._foreign[text.index] = text, digest
        self._add(hits)
        tell_misses(self._observer, len(self._misses) - before)

    def _add(self, hits: Sequence[Outcome]) -> None:
        tell_of(self._observer, hits)
        for outcome in hits:
            self._ready[outcome.index] = outcome
            self._bytes += _size(outcome)

    # -- what is sent ---------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin an inner call, of all that there is where no more is to come."""
        self._exhaust()
        while not (self._terms.lazy or self._ended) and self._pulled < _AT_FIRST:
            self._pull()
        if self._ended:
            # A list: where it is short, its texts share batches with those of other calls.
            self._sent = dict(enumerate(self._misses))
            self._misses.clear()
            self._few = [self._cache.digest(text) for text in self._sent.values()]
            few = [replace(text, index=place) for place, text in self._sent.items()]
            self._inner = self._start(few)
        else:
            self._feeding = True
            self._inner = self._start(self._feed())
        self._outcomes = iter(self._inner.outcomes())

    def _feed(self) -> Iterator[Utterance | None]:
        """Yield what is to be sent, numbered; None where that should not wait for more."""
        number = 0
        while True:
            while self._misses:
                text = self._sent[number] = self._misses.popleft()
                yield replace(text, index=number)
                number += 1
            if self._ended:
                self._feeding = False
                return
            if (self._room() <= 0 or not self._pull()) and not self._misses:
                yield None

    def _exhaust(self) -> None:
        """Let an inner call that has handed out everything end."""
        for _ in self._outcomes:
            raise AssertionError("an outcome that nobody asked for")

    def _take(self) -> None:
        """Wait for the next outcome of the inner call."""
        if not (self._feeding or self._sent):
            self._begin()
        taken = next(self._outcomes)
        text = self._sent[taken.index]
        outcome = self._cache.stale(text, _own(text, taken))
        self._ready[text.index] = outcome
        self._bytes += _size(outcome)
        if isinstance(self._inner, SmallCall):
            self._late.append((self._few[taken.index], taken))
        # Only now: Ctrl-C before must find the text here, with its outcome or without.
        del self._sent[taken.index]
        if self._late and not self._sent:
            late, self._late = self._late, []
            self._cache.keep(late)

    def _hand_out(self) -> Iterator[Outcome]:
        index = self._next
        outcome = self._ready[index]
        self._next = index + 1
        self._bytes -= _size(outcome)
        yield outcome
        # Only now: an exception at the yield, from a signal say, must not lose it.
        del self._ready[index]

    # -- other processes' -----------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait a moment for other processes' texts, and look again."""
        now, within = self._waits.clock.now(), self._terms.within
        if not self._looks:
            self._patience = Deadline(now, self._terms.deadline)
            if within is not None and within.at < self._patience.at:
                self._patience = within
        try:
            self._waits.pause(self._looks, self._patience)
        except DeadlineError as error:
            late, self._foreign = self._foreign, {}
            self._looks = 0
            for text, _ in late.values():
                self._ready[text.index] = self._cache.stale(text, failed(text, error))
            return
        self._looks += 1
        self._look_again()

    def _look_again(self) -> None:
        first = list(itertools.islice(self._foreign.items(), 2 * _GROUP))
        digests = [digest for _, (_, digest) in first]
        found = self._cache.find(digests)
        missing = [digest for digest in digests if digest not in found]
        mine = self._cache.lease(missing) if missing else set()
        if mine:
            late = self._cache.find_again(list(mine))
            self._cache.release(late)
            found.update(late)
        hits, misses = [], 0
        for index, (text, digest) in first:
            outcome = outcome_of(text, found, digest)
            if outcome is not None:
                hits.append(outcome)
            elif digest in mine:
                self._misses.append(text)
                misses += 1
            else:
                continue
            del self._foreign[index]
            self._looks = 0
        self._add(hits)
        tell_misses(self._observer, misses)

    # -- the end --------------------------------------------------------------------------------

    def _drop(self) -> None:
        # Without the reference nobody holds the inner generator, which ends its call by itself.
        self._outcomes = iter(())

    def _finish(self) -> None:
        """Give back, on another thread, the leases of what is not spoken any more."""
        if self._over:
            return
        self._over = True
        left, late = [*self._sent.values(), *self._misses], self._late
        if left or late:
            leave_behind(functools.partial(self._give_back, left, late))

    def _give_back(self, left: Sequence[Utterance], late: Sequence[tuple[str, Outcome]]) -> None:
        self._cache.keep(late)
        self._cache.release([self._cache.digest(text) for text in left])


def _size(outcome: Outcome) -> int:
    return 0 if outcome.audio is None else len(outcome.audio.data)


def _own(text: Utterance, outcome: Outcome) -> Outcome:
    """Return an outcome of the inner call at its place in this one."""
    if outcome.index == text.index:
        return outcome
    if outcome.error is not None:
        return failed(text, outcome.error)
    return Outcome(text.index, text.text, outcome.audio)
