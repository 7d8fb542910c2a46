"""Speaks the rows of a job, each in its own voice, and hands on what became of them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import Any

from cosy_sync import ConfigError, CosyClient, Outcome, Voice
from cosy_sync.jobs.inputs import JobText
from cosy_sync.jobs.journal import Row, options_of

__all__ = ["Speaker"]

# Texts of one voice that are sent together, and how many such lots are in flight.
_LOT = 32
_LOTS = 32
# Views of the client that are kept, each for one voice.
_VIEWS = 1_000

_Spoken = tuple[Row, Outcome]


class Speaker:
    """Speaks rows, each as its options say.

    Those without options are one stream. Others go out in lots of the same options, several at a
    time, as each text may have a voice or an instruction of its own.
    """

    def __init__(self, client: CosyClient) -> None:
        self._client = client
        self._views: dict[str, CosyClient] = {}

    def check(self, text: JobText) -> None:
        """Raise ConfigError where the service cannot speak as a text asks for."""
        options = options_of(text)
        try:
            if options:
                self._view(options)
        except ConfigError as error:
            raise ConfigError(f"{text.place or repr(text.id)}: {error.message}") from None

    def outcomes(self, rows: Iterable[Row | None]) -> Generator[_Spoken, None, None]:
        """Yield each row with what became of it.

        What `rows` raises goes on when the outcomes of those before were yielded. A None among
        them says that no row is at hand yet: those before it are finished first.
        """
        for kind, group in groupby(rows, key=lambda row: row and bool(row.options)):
            if kind is not None:
                given = (row for row in group if row is not None)
                yield from self._in_lots(given) if kind else self._as_stream(given)

    def _as_stream(self, rows: Iterator[Row]) -> Iterator[_Spoken]:
        given: deque[Row] = deque()

        def texts() -> Iterator[str]:
            for row in rows:
                given.append(row)
                yield row.text

        outcomes: Any = self._client.synth_iter(texts())
        with closing(outcomes):
            for outcome in outcomes:
                yield given.popleft(), outcome

    def _in_lots(self, rows: Iterator[Row]) -> Iterator[_Spoken]:
        pool = ThreadPoolExecutor(_LOTS, "cosy-lot")
        sent: set[Future[list[_Spoken]]] = set()
        failure: Exception | None = None
        lots = _lots(rows)
        try:
            while failure is None or sent:
                lot, failure = _next(lots) if failure is None else (None, failure)
                if lot is not None:
                    sent.add(pool.submit(_speak, self._view(lot[0].options), lot))
                if sent and (lot is None or len(sent) == _LOTS):
                    done, sent = wait(sent, return_when=FIRST_COMPLETED)
                    for each in done:
                        yield from each.result()
        finally:
            # Not waiting: whoever breaks off closes the client, and that ends them.
            pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None and not isinstance(failure, StopIteration):
            raise failure

    def _view(self, options: str) -> CosyClient:
        """Return the client as it is for these options."""
        view = self._views.get(options)
        if view is None:
            if len(self._views) == _VIEWS:
                self._views.clear()
            settings = _settings(json.loads(options), self._client.config.voice)
            view = self._views[options] = self._client.with_options(**settings)
        return view


def _settings(options: dict[str, Any], voice: Voice | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if "speed" in options:
        settings["speed"] = options["speed"]
    instruction: str | None = options.get("instruction") or (voice.instruction if voice else None)
    if "voice" in options:
        settings["voice"] = Voice(options["voice"], instruction=instruction)
    elif "instruction" in options:
        changed = replace(voice, instruction=instruction) if voice else None
        settings["voice"] = changed or Voice(instruction=instruction)
    return settings


def _lots(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows that follow each other and have the same options, so many together."""
    lot: list[Row] = []
    try:
        for row in rows:
            if lot and (row.options != lot[0].options or len(lot) == _LOT):
                yield lot
                lot = []
            lot.append(row)
    except Exception:
        if lot:
            yield lot
        raise
    if lot:
        yield lot


def _next(lots: Iterator[list[Row]]) -> tuple[list[Row] | None, Exception | None]:
    try:
        return next(lots), None
    except Exception as error:
        return None, error


def _speak(client: CosyClient, lot: list[Row]) -> list[_Spoken]:
    outcomes = client.synth_many([row.text for row in lot], on_error="return")
    return list(zip(lot, outcomes, strict=True))
