"""What a job knows of its texts, in an SQLite file that outlives kill -9 and power cuts.

A text is `WAITING` from the moment it is read, then `DONE` or `FAILED`. A row becomes DONE only
after its sound is stored; what is stored of a WAITING row is from a run that was killed, and is
written again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

from cosy_sync import ConfigError
from cosy_sync.jobs.inputs import JobText
from cosy_sync.jobs.locking import busy, lock_journal

__all__ = ["Journal", "Row", "State", "options_of"]

# Seconds for which one thread's transaction waits for another's.
_PATIENCE = 60.0
_VERSION = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (
    place INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    options TEXT NOT NULL,
    digest BLOB NOT NULL,
    run INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    final INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    seconds REAL,
    size INTEGER,
    rate INTEGER,
    sha256 TEXT,
    attempts INTEGER,
    endpoint TEXT,
    latency REAL,
    finished REAL,
    error TEXT
);
CREATE INDEX IF NOT EXISTS texts_by_digest ON texts (digest) WHERE state = 1;
CREATE INDEX IF NOT EXISTS texts_by_state ON texts (state) WHERE state != 1;
CREATE INDEX IF NOT EXISTS texts_by_options ON texts (options, place) WHERE options != '';
"""
_KNOWN = (
    "place, id, text, options, digest, state, final, key, seconds, size, rate, sha256, attempts, "
    "endpoint, latency, finished, error"
)


class State(IntEnum):
    """What has become of a text."""

    WAITING = 0
    DONE = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one text.

    `digest` stands for the text and how it is spoken; `final` is a failure that another run would
    meet again; `seconds` is the length of the sound, `size` its bytes, `latency` the seconds of the
    call that brought it; `finished` is the time of day; `error` a CosyError's `to_dict` as JSON.
    """

    place: int
    id: str
    text: str
    options: str
    digest: bytes
    state: int = State.WAITING
    final: int = 0
    key: str | None = None
    seconds: float | None = None
    size: int | None = None
    rate: int | None = None
    sha256: str | None = None
    attempts: int | None = None
    endpoint: str | None = None
    latency: float | None = None
    finished: float | None = None
    error: str | None = None


# Journals that this process has locked.
_claimed: dict[tuple[int, Path], Journal] = {}


class Journal:
    """The journal of one job, open for one process. Its methods may be called by any thread.

    Args:
        reading: only look at what is there; nothing may run meanwhile.

    Raises ConfigError where another process has it open, or where it is of another version;
    OSError where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        self.path = path
        self._reading = reading
        # Locked for as long as the process works on the job; the system frees it at its death.
        self._lock_file: BinaryIO | None = None
        self._mine: tuple[int, Path] | None = None
        # A connection for each thread: SQLite has their transactions wait for each other.
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            if not reading:
                with _told(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                self._claim()
                self._begin_run()
            else:
                self._base()
        except BaseException:
            self.close()
            raise

    def _claim(self) -> None:
        """Lock the journal. Raises JobIsBusy where it is locked."""
        mine = (os.getpid(), self.path.resolve())
        # The system's locks are those of a process: its threads would not see each other's.
        if _claimed.setdefault(mine, self) is not self:
            raise busy(self.path)
        self._mine = mine
        self._lock_file = lock_journal(self.path)

    def _begin_run(self) -> None:
        with _told(self.path):
            self._base().executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        version = int(self.fact("version") or _VERSION)
        if version != _VERSION:
            raise ConfigError(
                f"{self.path}: written by another version of cosy_sync (format {version}, this one "
                f"knows {_VERSION}); go on with that version, or begin in another folder"
            )
        self.note("version", str(_VERSION))
        self.run = int(self.fact("run") or 0) + 1
        self.note("run", str(self.run))

    def _base(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        base: sqlite3.Connection | None = getattr(self._local, "base", None)
        if base is None:
            with _told(self.path):
                base = self._connect()
            self._local.base = base
        return base

    def _connect(self) -> sqlite3.Connection:
        mode = "rwc" if not self._reading else "ro"
        if self._reading and _lies_still(self.path):
            mode = "ro&immutable=1"  # or SQLite would make a file beside it
        base = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            timeout=_PATIENCE,
            check_same_thread=False,  # `close` closes those of other threads
            isolation_level=None,
            uri=True,
        )
        self._connections.append(base)
        if not self._reading:
            for setting in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -8000"):
                base.execute(f"PRAGMA {setting}")
        return base

    # -- facts of the job -------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """Return a fact of the job; None where it was not noted."""
        rows = self._all("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def note(self, name: str, value: str) -> None:
        """Note a fact of the job."""
        with self._changing() as base:
            base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # -- texts ------------------------------------------------------------------------------------

    def enter(self, texts: Sequence[tuple[JobText, bytes]]) -> list[Row]:
        """Enter texts with their digests; return what was known of those that have changed.

        What is known already stays: an id whose digest is another one begins anew. Raises
        ConfigError for an id that this run has met before.
        """
        given: dict[str, tuple[JobText, bytes]] = {}
        for text, digest in texts:
            if text.id in given:
                raise _twice(text)
            given[text.id] = (text, digest)
        with self._changing() as base:
            known = base.execute(
                f"SELECT run, {_KNOWN} FROM texts WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(given)),),
            ).fetchall()
            changed = []
            for run, *values in known:
                row = Row(*values)
                text, digest = given.pop(row.id)
                if run == self.run:
                    raise _twice(text)
                if row.digest != digest:
                    changed.append(row)
                    self._begin_anew(base, row, text, digest)
            base.executemany(
                "UPDATE texts SET run = ? WHERE place = ?",
                [(self.run, place) for _, place, *_ in known],
            )
            base.executemany(
                "INSERT INTO texts (id, text, options, digest, run) VALUES (?, ?, ?, ?, ?)",
                [(t.id, t.text, options_of(t), digest, self.run) for t, digest in given.values()],
            )
        return changed

    def _begin_anew(self, base: sqlite3.Connection, row: Row, text: JobText, digest: bytes) -> None:
        base.execute(
            "UPDATE texts SET text = ?, options = ?, digest = ?, state = 0, final = 0, "
            "error = NULL WHERE place = ?",
            (text.text, options_of(text), digest, row.place),
        )

    def forget_missing(self) -> None:
        """Forget texts without a sound that the input of this run does not hold any more."""
        with self._changing() as base:
            base.execute("DELETE FROM texts WHERE state != 1 AND run < ?", (self.run,))

    def forget_waiting(self) -> None:
        """Forget texts of which nothing is known but that they were read."""
        with self._changing() as base:
            base.execute("DELETE FROM texts WHERE state = 0")

    def rows_of(self, ids: Sequence[str]) -> list[Row]:
        """Return the rows of texts, in the order in which they came first."""
        rows = self._all(
            f"SELECT {_KNOWN} FROM texts WHERE id IN (SELECT value FROM json_each(?)) "
            "ORDER BY place",
            (json.dumps(ids),),
        )
        return [Row(*row) for row in rows]

    def spoken(self, digest: bytes) -> Row | None:
        """Return a text of this digest that is done; None where there is none."""
        rows = self._all(
            f"SELECT {_KNOWN} FROM texts WHERE state = 1 AND digest = ? LIMIT 1", (digest,)
        )
        return Row(*rows[0]) if rows else None

    def settle(self, rows: Iterable[Row]) -> None:
        """Write down what became of texts; it is on the disk when this returns."""
        with self._changing() as base:
            base.executemany(
                "UPDATE texts SET state = ?, final = ?, key = ?, seconds = ?, size = ?, rate = ?, "
                "sha256 = ?, attempts = ?, endpoint = ?, latency = ?, finished = ?, error = ? "
                "WHERE place = ? AND digest = ?",
                (
                    (
                        *(row.state, row.final, row.key, row.seconds, row.size, row.rate),
                        *(row.sha256, row.attempts, row.endpoint, row.latency, row.finished),
                        *(row.error, row.place, row.digest),
                    )
                    for row in rows
                ),
            )

    def rows(self, *, run: int | None = None) -> Iterator[Row]:
        """Yield the rows in the order in which their texts came first.

        Args:
            run: only what the input of this run holds: texts without options first, then those of
                the same options together.
        """
        if run is None:
            yield from self._pages("", ())
            return
        yield from self._pages("AND run = ? AND options = ''", (run,))
        options = ""
        while True:
            found = self._all(
                "SELECT min(options) FROM texts WHERE options != '' AND options > ?", (options,)
            )
            options = found[0][0]
            if options is None:
                return
            yield from self._pages("AND run = ? AND options != '' AND options = ?", (run, options))

    def _pages(self, condition: str, values: Sequence[Any]) -> Iterator[Row]:
        last = 0
        while True:
            found = self._all(
                f"SELECT {_KNOWN} FROM texts WHERE place > ? {condition} ORDER BY place LIMIT 1000",
                (last, *values),
            )
            yield from (Row(*each) for each in found)
            if len(found) < 1000:
                return
            last = found[-1][0]

    def counts(self) -> dict[int, int]:
        """Return how many texts are in each state."""
        return dict(self._all("SELECT state, count(*) FROM texts GROUP BY state"))

    def ask(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the answer to a question in SQL about the table `texts`."""
        return self._all(question, values)

    def find(self, condition: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows that meet a condition in SQL."""
        return [
            Row(*row) for row in self._all(f"SELECT {_KNOWN} FROM texts WHERE {condition}", values)
        ]

    def close(self) -> None:
        """Close it, when no thread uses it any more; another process may open it."""
        for base in self._connections:
            base.close()
        if self._lock_file is not None:
            self._lock_file.close()
        if self._mine is not None:
            _claimed.pop(self._mine, None)

    def _all(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        base = self._base()
        with _told(self.path):
            return base.execute(question, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        base = self._base()
        with _told(self.path):
            base.execute("BEGIN IMMEDIATE")
            try:
                yield base
                base.execute("COMMIT")
            except BaseException:
                if base.in_transaction:
                    base.execute("ROLLBACK")
                raise


def _lies_still(path: Path) -> bool:
    """Return whether nobody can write a journal here, which was closed in good order."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise what SQLite says as an error that names the file and what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        words = str(error)
        if "not a database" in words or "malformed" in words:
            raise ConfigError(
                f"{path}: damaged ({words}); the sounds are whole. Move this file away and run the "
                "job into another folder"
            ) from error
        raise OSError(f"{path}: {words} (is the disk full, or the folder read-only?)") from error


def _twice(text: JobText) -> ConfigError:
    return ConfigError(
        f"{text.place or 'in'}: the id {text.id!r} stands twice in the input; each text needs one "
        "of its own"
    )


def options_of(text: JobText) -> str:
    """Return how a text is to be spoken, as JSON; nothing for: as the client has it."""
    names = ("voice", "instruction", "speed")
    given = {name: value for name in names if (value := getattr(text, name)) is not None}
    return json.dumps(given, ensure_ascii=False) if given else ""
