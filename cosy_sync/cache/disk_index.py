"""The index of a folder's entries: their sizes and when they were used, in SQLite.

Nothing is looked up in it: where it is locked or broken, texts are found all the same. A broken one
is removed, and made anew from the files.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["DiskIndex", "Row"]

# Seconds to wait for another process that writes.
_BUSY = 5.0
# Connections that are kept open.
_IDLE = 4
# The share of the bytes that is left where there was too much.
_LEFT = 0.9
# Entries that are dropped in one step.
_MOST = 1000

_TABLES = """
CREATE TABLE IF NOT EXISTS entries(digest TEXT PRIMARY KEY, size INTEGER, used REAL, until REAL)
  WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON entries(used);
CREATE INDEX IF NOT EXISTS by_end ON entries(until);
CREATE TABLE IF NOT EXISTS known(name TEXT PRIMARY KEY, value REAL);
CREATE TRIGGER IF NOT EXISTS more AFTER INSERT ON entries BEGIN
  UPDATE known SET value = value + NEW.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS less AFTER DELETE ON entries BEGIN
  UPDATE known SET value = value - OLD.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS other AFTER UPDATE OF size ON entries BEGIN
  UPDATE known SET value = value + NEW.size - OLD.size WHERE name = 'bytes'; END;
INSERT OR IGNORE INTO known VALUES('bytes', 0), ('swept', 0);
"""
_PUT = """
INSERT INTO entries VALUES(?, ?, ?, ?)
  ON CONFLICT(digest) DO UPDATE SET size = excluded.size, used = excluded.used,
                                    until = excluded.until
"""


class Row(NamedTuple):
    """An entry: its bytes, when it was used last and when it ends, in Unix seconds."""

    digest: str
    size: int
    used: float
    until: float


class DiskIndex:
    """Opened on first use, by each process for itself.

    Args:
        path: The file; its folder must be there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        # Every use of it is one atomic step: a thread that finds none opens another connection.
        self._idle: deque[Connection] = deque()
        weakref.finalize(self, _close_all, self._idle, self._pid)

    def swept(self) -> float:
        """Return when it was made from the files."""
        with self._open() as db:
            return float(db.execute("SELECT value FROM known WHERE name = 'swept'").fetchone()[0])

    def write(self, rows: Sequence[Row], touched: Mapping[str, float]) -> None:
        """Note new entries, and when others were used."""
        used = [(at, digest) for digest, at in touched.items()]
        with self._open() as db, _transaction(db):
            db.executemany(_PUT, rows)
            db.executemany("UPDATE entries SET used = ? WHERE digest = ?", used)

    def evict(self, now: float, most: int, unlink: Callable[[Sequence[str]], None]) -> None:
        """Drop what has ended, and, while there are more than so many bytes, what was used least
        lately."""
        with self._open() as db:
            goal = most
            while self._drop(db, now, goal, unlink):
                goal = int(_LEFT * most)

    def _drop(
        self, db: Connection, now: float, most: int, unlink: Callable[[Sequence[str]], None]
    ) -> bool:
        """Drop some; return whether there may be more to drop."""
        total = "SELECT value FROM known WHERE name = 'bytes'"
        ended = "SELECT digest FROM entries WHERE until < ? LIMIT ?"
        if db.execute(total).fetchone()[0] <= most and not db.execute(ended, (now, 1)).fetchone():
            return False
        # The files go within the transaction: whoever writes one of them anew notes it afterwards.
        with _transaction(db):
            gone = [digest for (digest,) in db.execute(ended, (now, _MOST))]
            if not gone:
                excess = db.execute(total).fetchone()[0] - most
                oldest = "SELECT digest, size FROM entries ORDER BY used LIMIT ?"
                for digest, size in db.execute(oldest, (_MOST,)):
                    if excess <= 0:
                        break
                    gone.append(digest)
                    excess -= size
            unlink(gone)
            self._delete(db, gone)
        return bool(gone)

    def forget(self, digests: Sequence[str]) -> None:
        """Drop entries whose files are gone."""
        if os.path.exists(self._path):
            with self._open() as db, _transaction(db):
                self._delete(db, digests)

    def replace(self, rows: Sequence[Row], now: float) -> None:
        """Note exactly these entries; of those that it knew, it knows the times better."""
        there = {row.digest for row in rows}
        with self._open() as db, _transaction(db):
            known = {digest for (digest,) in db.execute("SELECT digest FROM entries")}
            self._delete(db, list(known - there))
            db.executemany(_PUT, [row for row in rows if row.digest not in known])
            db.execute("UPDATE known SET value = ? WHERE name = 'swept'", (now,))

    def clear(self) -> None:
        """Forget all entries."""
        if os.path.exists(self._path):
            with self._open() as db, _transaction(db):
                db.execute("DELETE FROM entries")

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._renew()
        _close_all(self._idle, self._pid)

    def _delete(self, db: Connection, digests: Sequence[str]) -> None:
        db.executemany("DELETE FROM entries WHERE digest = ?", [(each,) for each in digests])

    @contextlib.contextmanager
    def _open(self) -> Iterator[Connection]:
        """Lend a connection."""
        import sqlite3

        self._renew()
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._connect()
        try:
            yield db
        except BaseException as error:
            db.close()
            broken = isinstance(error, sqlite3.DatabaseError)
            if broken and not isinstance(error, sqlite3.OperationalError):
                self._remove()  # not a lock or a full disk: it cannot be read
            raise
        if len(self._idle) < _IDLE:
            self._idle.append(db)
        else:
            db.close()

    def _connect(self) -> Connection:
        import sqlite3

        # Without an isolation level: transactions begin where they are said to.
        db = sqlite3.connect(
            self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            # Of a power cut the files know, by their checksums; without one nothing is lost.
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        except BaseException as error:
            db.close()
            if type(error) is sqlite3.DatabaseError:
                self._remove()
            raise
        return db

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(self._path + ending)

    def _renew(self) -> None:
        """In a forked child, leave the parent's connections alone: SQLite can do nothing with them
        there, not even close them."""
        if self._pid != os.getpid():
            _inherited.append(self._idle)
            self._idle, self._pid = deque(), os.getpid()
            weakref.finalize(self, _close_all, self._idle, self._pid)


def _close_all(idle: deque[Connection], pid: int) -> None:
    """Close connections in the process that opened them."""
    with contextlib.suppress(IndexError):
        while pid == os.getpid():
            idle.popleft().close()


# Connections of parents, which are never closed here.
_inherited: list[deque[Connection]] = []


@contextlib.contextmanager
def _transaction(db: Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
