"""A folder as a store."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError
from .sink import Stored

__all__ = ["LocalStore"]

_T = TypeVar("_T")


class LocalStore:
    """Keeps objects as files of a folder; a key's `/` makes folders in it.

    A file appears whole or not at all, and is on the disk when `put` returns, so that it outlives
    a power cut. What is put beside an object (`meta`) is not kept: a file has no place for it.

    Args:
        path: the folder; it is made when something is put.
        durable: wait until the disk has each file. Without it, a power cut may take the latest.
        scratch: the folder for files that are not complete, on the same file system and nobody
            else's: what a killed process has left there is removed. Without it, they lie beside
            their places, and those of a killed process stay.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = True,
        scratch: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.address = str(self.path)
        self._durable = durable
        self._scratch = None if scratch is None else Path(scratch)
        if self._scratch is not None:
            for part in self._scratch.glob(".*.part"):
                part.unlink(missing_ok=True)

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        *,
        if_absent: bool = False,
    ) -> bool:
        """Write a file; return whether it was made. Raises OSError where that cannot be."""
        path = self._place(key)
        if if_absent and path.exists():
            return False
        part = self._part(path)
        try:
            self._write(part, data)
            return _within_folder(path, lambda: _publish(part, path, if_absent=if_absent))
        finally:
            part.unlink(missing_ok=True)

    def put_file(self, key: str, path: str | os.PathLike[str], meta: Mapping[str, str]) -> None:
        """Copy a file here, in place of what is there."""
        place = self._place(key)
        part = self._part(place)
        try:
            _within_folder(part, lambda: shutil.copyfile(path, part))
            _within_folder(place, lambda: os.replace(part, place))
        finally:
            part.unlink(missing_ok=True)

    def link(self, source: str, key: str) -> None:
        """Give an object a second key; it takes no room again where the file system can do that."""
        old, new = self._place(source), self._place(key)
        part = self._part(new)
        try:
            _within_folder(part, lambda: _duplicate(old, part))
            _within_folder(new, lambda: os.replace(part, new))
        finally:
            part.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError where there is none."""
        return self._place(key).read_bytes()

    def head(self, key: str) -> Stored | None:
        """Return a file's size; None where there is none."""
        try:
            return Stored(os.stat(self._place(key)).st_size)
        except FileNotFoundError:
            return None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`, folder by folder."""
        start = self.path / prefix.rpartition("/")[0]
        for folder, folders, files in os.walk(start):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = Path(folder).relative_to(self.path)
            for name in sorted(files):
                key = (inside / name).as_posix()
                if not name.startswith(".") and key.startswith(prefix):
                    yield key

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files, and the folders in which nothing is left."""
        places = [self._place(key) for key in keys]
        for place in places:
            place.unlink(missing_ok=True)
        for folder in {place.parent for place in places} - {self.path}:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()

    def url(self, key: str, seconds: float = 3600.0) -> str:
        """Return the file's address; it holds for as long as the file is there."""
        return self._place(key).absolute().as_uri()

    def close(self) -> None:
        """Do nothing: a folder holds nothing open."""

    def __repr__(self) -> str:
        return f"<LocalStore {self.path}>"

    def _place(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..") or "\0" in part for part in parts):
            raise ConfigError(f"key: {key!r} must be names with / between them, without . and ..")
        return self.path.joinpath(*parts)

    def _part(self, path: Path) -> Path:
        name = f".{secrets.token_hex(8)}.part"
        return path.with_name(name) if self._scratch is None else self._scratch / name

    def _write(self, part: Path, data: bytes) -> None:
        with _within_folder(part, lambda: open(part, "xb")) as file:
            file.write(data)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())


def _within_folder(path: Path, step: Callable[[], _T]) -> _T:
    """Do something in a file's folder, which is made if it is not there."""
    try:
        return step()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return step()


def _duplicate(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links, or too many of them
        shutil.copyfile(old, new)


def _publish(part: Path, path: Path, *, if_absent: bool) -> bool:
    """Give a file its name; return whether it got it."""
    if not if_absent:
        os.replace(part, path)
        return True
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.replace(part, path)
            return True
        return False
    return True
