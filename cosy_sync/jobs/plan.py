"""What a job would do, before it does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from cosy_sync import CosyClient
from cosy_sync.jobs import sums
from cosy_sync.jobs.identity import TextDigest, is_mine
from cosy_sync.jobs.inputs import JobText
from cosy_sync.jobs.job import JobOptions
from cosy_sync.jobs.journal import Journal, Row, State
from cosy_sync.jobs.run import journal_path
from cosy_sync.storage import LocalStore, open_store

__all__ = ["Plan", "plan_job"]


# Texts that are looked up in the cache, and in the journal, together.
_GROUP = 256


@dataclass(frozen=True)
class Plan:
    """Numbers of texts and characters: all, and those that are to be spoken (`open`).

    `shared` have the words of another text, `cached` are in the client's cache. `refused` were
    refused for good before, and `unsent` are none that failed, so that a run leaves them out.
    `rate` is the texts/s of the latest run; None where nothing was run.
    """

    texts: int
    characters: int
    done: int
    shared: int
    cached: int
    open: int
    open_characters: int
    refused: int
    unsent: int
    rate: float | None

    @property
    def minutes(self) -> float | None:
        """Return how long the rest would take at that rate."""
        return None if not self.rate else self.open / self.rate / 60


def plan_job(
    texts: Iterable[JobText],
    to: str | os.PathLike[str],
    client: CosyClient,
    options: JobOptions | None = None,
) -> Plan:
    """Read the whole input, and say what a run would do. Nothing is written or sent.

    Raises ConfigError for an input that is wrong.
    """
    given = options or JobOptions()
    sink = open_store(to)
    known = given.journal is not None or isinstance(sink, LocalStore)
    place = journal_path(sink, given.journal, given.shard) if known else None
    book = Journal(place, reading=True) if place is not None and place.exists() else None
    counted = characters = done = shared = refused = unsent = 0
    met: set[bytes] = set()
    missing = _Missing(client)
    digest_of = TextDigest(client)
    try:
        mine = (text for text in texts if is_mine(text.id, given.shard))
        for text, row in _with_rows(mine, book):
            counted += 1
            characters += len(text.text)
            digest = digest_of(text)
            # A text that has changed is one of which nothing is known.
            failed = row if row and row.state == State.FAILED and row.digest == digest else None
            if book is not None and book.spoken(digest) is not None:
                done += 1
            elif given.only_failed and failed is None:
                unsent += 1
            elif not given.only_failed and failed is not None and failed.final:
                refused += 1
            elif digest in met:
                shared += 1
            else:
                met.add(digest)
                missing.add(digest.hex(), len(text.text))
        missing.look_up()
        rate = sums.rate(book) if book is not None else None
    finally:
        if book is not None:
            book.close()
    counts = (missing.cached, missing.texts, missing.characters)
    return Plan(counted, characters, done, shared, *counts, refused, unsent, rate)


def _with_rows(
    texts: Iterator[JobText], book: Journal | None
) -> Iterator[tuple[JobText, Row | None]]:
    """Yield each text, and what the journal knows of its id."""
    while group := list(islice(texts, _GROUP)):
        rows = book.rows_of([text.id for text in group]) if book is not None else []
        known = {row.id: row for row in rows}
        for text in group:
            yield text, known.get(text.id)


class _Missing:
    """Counts texts that are to be spoken, but for those that the client's cache holds."""

    def __init__(self, client: CosyClient) -> None:
        self._cache = None if client.config.cache is None else client.cache
        self._group: dict[str, int] = {}
        self.cached = self.texts = self.characters = 0

    def add(self, digest: str, characters: int) -> None:
        self._group[digest] = characters
        if len(self._group) >= _GROUP:
            self.look_up()

    def look_up(self) -> None:
        group, self._group = self._group, {}
        known = self._cache.known(list(group)) if self._cache is not None else set[str]()
        self.cached += len(known)
        self.texts += len(group) - len(known)
        self.characters += sum(size for digest, size in group.items() if digest not in known)
