"""A cache in a folder, which the processes of one machine share: a file for each text.

A file is written beside its place and then renamed, so that a process that is killed leaves none
that is torn; what a power cut tears is known by its checksum. Reading opens the file and nothing
else. `index.sqlite` knows sizes and ages only, for the bound on the bytes: it is written in groups,
and made anew from the files where it is lost (`disk_index.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..forks import renew_after_fork
from ..loading import load
from ..threads import leave_behind
from .disk_index import DiskIndex, Row
from .ports import Entry

__all__ = ["DiskCache"]

# Entries that were read, whose times are noted together.
_MOST_TOUCHED = 512
# Entries that wait for a locked index; others it finds among the files.
_MOST_LATE = 10_000
# Seconds after which what a killed process left half-written is removed.
_LEFT = 3600.0
# Seconds between two looks at all files.
_DAY = 86_400.0


class DiskCache:
    """Keeps each entry in a file below `path`, in a folder that only its owner can read.

    Many processes and threads may use one folder. It must be on this machine's disk.

    Args:
        path: A folder; it is made on first use. `~` is the home folder.
        max_bytes: Where there is more, what was used least lately goes: some time later, as sizes
            are counted in groups.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_bytes: int = 4 << 30,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not os.fspath(path):
            raise ConfigError("path: expected a folder for the cache, got nothing")
        if not (type(max_bytes) is int and max_bytes > 0):
            raise ConfigError(f"max_bytes: must be a whole number above 0, got {max_bytes!r}")
        load("sqlite3")  # not in the middle of a call
        self.path = Path(path).expanduser().absolute()
        self.max_bytes = max_bytes
        self._now = now
        # Of this version of the layout; the folder above may be the user's own.
        self._root = str(self.path / "v1")
        self._index = DiskIndex(f"{self._root}/index.sqlite")
        # What the index does not know yet. Every use of these is one atomic step.
        self._news: deque[Row] = deque()
        self._touched: dict[str, float] = {}
        # Whether a thread was sent to write down what was read.
        self._behind = False
        # Taken by the thread that writes the index.
        self._turn: list[tuple[()]] = [()]
        # Leases of this process, and when they end.
        self._leases: dict[str, float] = {}
        _all.add(self)

    # -- entries --------------------------------------------------------------------------------

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return those that are there, by their digests. Raises OSError."""
        found, now = {}, self._now()
        for digest in digests:
            try:
                file = os.open(self._place(digest), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            found[digest] = _read(file)
            self._touched[digest] = now
        if len(self._touched) >= _MOST_TOUCHED and not self._behind:
            self._behind = True
            leave_behind(self._flush_behind)
        return found

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, in place of what is there for their digests. Raises OSError."""
        now = self._now()
        for digest, data, seconds in entries:
            self._write(digest, data)
            self._touched.pop(digest, None)
            self._news.append(Row(digest, len(data), now, now + seconds))
        self.flush()

    def delete(self, digests: Sequence[str] | None) -> None:
        """Forget these, or everything for None. Raises OSError."""
        if digests is None:
            self._news.clear()
            self._touched.clear()
            for folder in self._folders():
                shutil.rmtree(folder, ignore_errors=True)
            self._index.clear()
            return
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._place(digest))
        self._index.forget(digests)

    def usage(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes: looks at every file."""
        entries = size = 0
        for _, length, _ in self._files():
            entries, size = entries + 1, size + length
        return entries, size

    def flush(self) -> None:
        """Tell the index what it does not know, and drop what is too much or too old.

        One thread at a time does it: another one that comes meanwhile leaves it to that. Where the
        index is locked or broken, sizes are counted later.
        """
        import sqlite3

        try:
            self._turn.pop()
        except IndexError:
            return
        try:
            if self._make_folder():
                self._tell_index(self._now())
        except (sqlite3.Error, OSError) as error:
            logging.getLogger("cosy_sync").debug("the index of %r failed: %s", self, error)
        finally:
            self._turn.append(())

    def _flush_behind(self) -> None:
        self._behind = False
        self.flush()

    def close(self) -> None:
        """Write down what is not, and let go of the index; what comes later opens it again."""
        if self._news or self._touched:
            self.flush()
        self._index.close()

    # -- leases ---------------------------------------------------------------------------------

    # A lease is a symbolic link: made in one step, and by one process only. It leads nowhere; its
    # target is when the lease ends. Two that take over a dead process's lease at the same instant
    # may both get it: then a text is spoken twice, as it would be without leases.

    def lease(self, digests: Sequence[str], seconds: float) -> Collection[str]:
        """Take those that nobody has, for `seconds`; return them. Raises OSError."""
        return {digest for digest in digests if self._take_lease(digest, seconds)}

    def release(self, digests: Sequence[str]) -> None:
        """Give back what is still one's own. Raises OSError."""
        now = self._now()
        for digest in digests:
            if self._leases.pop(digest, 0.0) > now:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._lease(digest))

    def _take_lease(self, digest: str, seconds: float) -> bool:
        path, now = self._lease(digest), self._now()
        for _ in range(3):
            try:
                os.symlink(repr(now + seconds), path)
            except FileNotFoundError:
                self._make_folders()
            except FileExistsError:
                if not self._is_over(path, now):
                    return False
            else:
                self._leases[digest] = now + seconds
                return True
        return False

    def _is_over(self, path: str, now: float) -> bool:
        """Return whether a lease has ended, and take it away then."""
        try:
            end = float(os.readlink(path))
        except (FileNotFoundError, ValueError):
            end = now  # given back just now, or nobody's
        if end > now:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return True

    # -- files ----------------------------------------------------------------------------------

    def _write(self, digest: str, data: bytes) -> None:
        temporary, place = self._temporary(), self._place(digest)
        try:
            self._create(temporary, data)
            try:
                os.replace(temporary, place)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
                os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _create(self, path: str, data: bytes) -> None:
        """Make a file that was not there. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make_folders()
            file = os.open(path, flags, 0o600)
        try:
            _write_all(file, data)
        finally:
            os.close(file)

    def _make_folders(self) -> None:
        self.path.mkdir(0o700, parents=True, exist_ok=True)
        for name in ("", "/leases", "/writing"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._root + name, 0o700)

    def _make_folder(self) -> bool:
        """Return whether there is anything; the index needs its folder."""
        if not os.path.isdir(self._root):
            if not self._news:
                self._touched.clear()
                return False
            self._make_folders()
        return True

    def _place(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _lease(self, digest: str) -> str:
        return f"{self._root}/leases/{digest}"

    def _temporary(self) -> str:
        return f"{self._root}/writing/{os.getpid()}-{secrets.token_hex(8)}"

    def _folders(self) -> list[str]:
        """Return the folders of entries."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root) as inside:
            return [each.path for each in inside if len(each.name) == 2]
        return []

    def _files(self) -> Iterator[tuple[str, int, float]]:
        """Yield each entry's digest, its bytes and when it was written."""
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as inside:
                for each in inside:
                    with contextlib.suppress(FileNotFoundError):
                        known = each.stat()
                        yield each.name, known.st_size, known.st_mtime

    def _unlink(self, digests: Sequence[str]) -> None:
        for digest in digests:
            with contextlib.suppress(OSError):
                os.unlink(self._place(digest))

    def _sweep(self, now: float) -> None:
        """Let the index know the files that there are, and remove what killed processes left."""
        self._index.replace(
            [Row(digest, size, at, at + _DAY * 366) for digest, size, at in self._files()], now
        )
        for folder in ("/writing", "/leases"):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._root + folder) as inside:
                for each in inside:
                    with contextlib.suppress(OSError):
                        if each.stat(follow_symlinks=False).st_mtime < now - _LEFT:
                            os.unlink(each.path)

    # -- what the index does not know -----------------------------------------------------------

    def _tell_index(self, now: float) -> None:
        if self._index.swept() < now - _DAY:
            self._sweep(now)
        while self._news or self._touched:
            rows, touched = self._taken_news(), self._taken_touches()
            try:
                self._index.write(rows, touched)
            except BaseException:
                if len(self._news) < _MOST_LATE:
                    self._news.extend(rows)
                raise
        self._index.evict(now, self.max_bytes, self._unlink)

    def _taken_news(self) -> list[Row]:
        rows = []
        with contextlib.suppress(IndexError):
            while True:
                rows.append(self._news.popleft())
        return rows

    def _taken_touches(self) -> dict[str, float]:
        touched, self._touched = self._touched, {}
        return touched

    def __repr__(self) -> str:
        return f"DiskCache({str(self.path)!r})"


def _read(file: int) -> bytes:
    """Return what an open file holds, and close it."""
    try:
        return _read_all(file)
    finally:
        os.close(file)


def _read_all(file: int) -> bytes:
    size = os.fstat(file).st_size
    data = os.read(file, size + 1)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


_all: weakref.WeakSet[DiskCache] = weakref.WeakSet()


def _renew_all() -> None:
    # The parent's leases, and what its threads were writing, are none of a forked child's.
    for cache in list(_all):
        cache._turn, cache._leases, cache._behind = [()], {}, False
        cache._news, cache._touched = deque(), {}


renew_after_fork(_renew_all)
