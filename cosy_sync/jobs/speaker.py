"""Speaks the rows of a job, each in its own voice, and hands on what became of them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any

from cosy_sync import CosyClient, Outcome, Utterance
from cosy_sync.jobs.identity import TextDigest
from cosy_sync.jobs.journal import Row

__all__ = ["Speaker"]

_Spoken = tuple[Row, Outcome]


class Speaker:
    """Speaks rows, each as its options say."""

    def __init__(self, client: CosyClient, digest: TextDigest) -> None:
        self._client = client
        self._digest = digest

    def outcomes(self, rows: Iterable[Row | None]) -> Generator[_Spoken, None, None]:
        """Yield each row with what became of it.

        What `rows` raises goes on when the outcomes of those before were yielded. A None among
        them says that no row is at hand yet: those before it are finished first.
        """
        for at_hand, group in groupby(rows, key=lambda row: row is not None):
            if at_hand:
                yield from self._speak(row for row in group if row is not None)

    def _speak(self, rows: Iterator[Row]) -> Iterator[_Spoken]:
        given: deque[Row] = deque()

        def texts() -> Iterator[str | Utterance]:
            for row in rows:
                given.append(row)
                yield self._as_item(row) if row.options else row.text

        outcomes: Any = self._client.synth_iter(texts())
        with closing(outcomes):
            for outcome in outcomes:
                yield given.popleft(), outcome

    def _as_item(self, row: Row) -> Utterance:
        options = json.loads(row.options)
        own = (options.get(name) for name in ("voice", "instruction", "speed"))
        config = self._digest.view(*own).config
        return Utterance(row.text, voice=config.voice, speed=config.speed)
