"""Writes down what became of texts, in groups, and links texts of the same words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from queue import Empty, SimpleQueue

from cosy_sync.jobs.journal import Journal, Row, State
from cosy_sync.jobs.names import key_of
from cosy_sync.storage import LocalStore, Sink

__all__ = ["Committer", "is_stored"]

# Seconds for which a group is gathered, and its most rows.
_GROUP = 0.1
_MOST = 1_000


def is_stored(sink: Sink, row: Row) -> bool:
    """Return whether a sound is as it was stored; of a bucket, this is not asked."""
    if not isinstance(sink, LocalStore) or row.key is None:
        return True
    found = sink.head(row.key)
    return found is not None and found.size == row.size


class Committer:
    """A thread that commits rows to the journal, several together: each commit waits for the disk.

    A text whose words are being spoken for another one follows that: it gets the same sound, once
    this is stored.
    """

    def __init__(self, journal: Journal, sink: Sink) -> None:
        self._journal = journal
        self._sink = sink
        # None: there are no more.
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        # Guards: _followers, _following, _error, linked, lost, unkept.
        self._lock = threading.Lock()
        # Of each text that is being spoken, by digest: those that follow it.
        self._followers: dict[bytes, list[Row]] = {}
        self._following = 0
        self._error: BaseException | None = None
        self.linked = 0
        self.lost = 0
        # Sounds that were spoken and are not kept, as the store or the journal refused them.
        self.unkept = 0
        self._thread = threading.Thread(target=self._run, name="cosy-journal", daemon=True)

    def start(self) -> None:
        """Begin to commit; it must be closed."""
        self._thread.start()

    def follow(self, row: Row, most: int) -> bool:
        """Have a text share the sound of another one that is spoken, or being spoken.

        Returns False where there is none: then this one is to be spoken, and others follow it.

        Args:
            most: so many may follow at the same time.
        """
        with self._lock:
            followers = self._followers.get(row.digest)
            if followers is not None:
                if self._following >= most:
                    return False
                followers.append(row)
                self._following += 1
                return True
        first = self._journal.spoken(row.digest)
        if first is not None and first.place != row.place and is_stored(self._sink, first):
            with self._lock:
                self._followers.setdefault(row.digest, []).append(row)
                self._following += 1
            self.add(first)
            return True
        with self._lock:
            self._followers[row.digest] = []
        return False

    def forget(self, row: Row) -> None:
        """Let the texts that follow one that was not sent wait for the next run, too."""
        with self._lock:
            self._following -= len(self._followers.pop(row.digest, ()))

    def add(self, row: Row) -> None:
        """Have a row written down soon."""
        self._rows.put(row)

    def adopt(self, row: Row) -> None:
        """Have a row written down whose sound was there; texts of its words follow it already."""
        with self._lock:
            self._followers.setdefault(row.digest, [])
        self.add(row)

    def fail(self, error: BaseException, sounds: int = 1) -> None:
        """Note that the store refused a sound, or the journal several."""
        with self._lock:
            self._error = self._error or error
            self.unkept += sounds

    def check(self) -> None:
        """Raise what the store or the journal refused."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write down the rest, and end."""
        self._rows.put(None)
        self._thread.join()
        if self._error is not None:  # it may have ended before all rows had come
            left = []
            while not self._rows.empty():
                left.append(self._rows.get())
            self.fail(self._error, _done(left))

    def _run(self) -> None:
        ended = False
        while not ended:
            rows, ended = self._gather()
            try:
                self._commit(rows)
            except BaseException as error:
                self.fail(error, _done(rows))
                return

    def _gather(self) -> tuple[list[Row], bool]:
        """Wait for a row; return it with those that come soon after it, and whether that is all."""
        rows: list[Row] = []
        row, until = self._rows.get(), time.monotonic() + _GROUP
        while row is not None:
            rows.append(row)
            left = until - time.monotonic()
            if len(rows) == _MOST or left <= 0:
                return rows, False
            try:
                row = self._rows.get(timeout=left)
            except Empty:
                return rows, False
        return rows, True

    def _commit(self, rows: list[Row]) -> None:
        self._journal.settle(rows)
        # Only now: whoever looks for a text of these words finds it here or in the journal.
        shared = [row for first in rows for row in self._share(first)]
        if shared:
            self._journal.settle(shared)

    def _share(self, first: Row) -> list[Row]:
        with self._lock:
            followers = self._followers.pop(first.digest, [])
            self._following -= len(followers)
        if first.state == State.DONE:
            self.linked += len(followers)
            return [self._linked(first, row) for row in followers]
        self.lost += len(followers)
        return [replace(first, place=row.place, id=row.id) for row in followers]

    def _linked(self, first: Row, row: Row) -> Row:
        assert first.key is not None
        key = first.key
        if isinstance(self._sink, LocalStore):
            key = key_of(row.id, first.key.rpartition(".")[2])
            self._sink.link(first.key, key)
        return replace(first, place=row.place, id=row.id, key=key, finished=time.time())


def _done(rows: Iterable[Row | None]) -> int:
    return sum(row is not None and row.state == State.DONE for row in rows)
