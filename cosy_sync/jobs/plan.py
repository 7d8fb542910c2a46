"""What a job would do, before it does it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from cosy_sync import CosyClient
from cosy_sync.jobs import sums
from cosy_sync.jobs.identity import TextDigest, is_mine
from cosy_sync.jobs.inputs import JobText
from cosy_sync.jobs.job import JobOptions
from cosy_sync.jobs.journal import Journal
from cosy_sync.jobs.run import journal_path
from cosy_sync.storage import LocalStore, open_store

__all__ = ["Plan", "plan_job"]


@dataclass(frozen=True)
class Plan:
    """Numbers of texts and characters: all, and those that are to be spoken (`open`).

    `shared` have the words of another text. `rate` is the texts/s of the latest run; None where
    nothing was run.
    """

    texts: int
    characters: int
    done: int
    shared: int
    open: int
    open_characters: int
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
    counted = characters = done = shared = opened = open_characters = 0
    met: set[bytes] = set()
    digest_of = TextDigest(client)
    try:
        for text in texts:
            if not is_mine(text.id, given.shard):
                continue
            counted += 1
            characters += len(text.text)
            digest = digest_of(text)
            if book is not None and book.spoken(digest) is not None:
                done += 1
            elif digest in met:
                shared += 1
            else:
                met.add(digest)
                opened += 1
                open_characters += len(text.text)
        rate = sums.rate(book) if book is not None else None
    finally:
        if book is not None:
            book.close()
    return Plan(counted, characters, done, shared, opened, open_characters, rate)
