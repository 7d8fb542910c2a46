"""A file that appears whole under its name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WholeFile"]

# Seconds for which a file waits for a descriptor, and between two looks: connections leave some
# once there were none, on a busy machine later.
_PATIENCE, _LOOK = 10.0, 0.02
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class WholeFile:
    """A file that is written beside its place, and renamed when it is complete.

    Use it in a `with` block: an exception there leaves nothing, and a process that dies leaves no
    more than a hidden part, which the next one that writes this file takes over: a part is locked
    for as long as somebody writes it. Raises OSError when the directory is missing or full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes."""
        try:
            self.file.write(data)
        except OSError as error:
            raise _name(error, self.path) from error

    def __enter__(self) -> Self:
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(os.stat(self.path).st_mode):  # or its name is too long
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._part, self.file, self._lock = _open_patiently(self.path)
        except OSError as error:
            raise _name(error, self.path) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.name == "nt":  # no open file can be renamed there
            os.close(self._lock)
        renamed = False
        try:
            self.file.close()
            if error is None:
                os.replace(self._part, self.path)
                renamed = True
        except OSError as failure:
            if error is None:  # else what went wrong first is told
                raise _name(failure, self.path) from failure
        finally:
            if not renamed:  # of a renamed one the name may be somebody else's by now
                self._part.unlink(missing_ok=True)
            if os.name != "nt":
                os.close(self._lock)


def _open_patiently(path: Path) -> tuple[Path, BinaryIO, int]:
    """Open a part and its lock; wait for a descriptor where connections hold them all."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            part, file = _open_part(path)
            try:
                # Holds the lock until the part has been renamed, or is gone: else somebody could
                # take it for one that was left behind.
                return part, file, os.dup(file.fileno())
            except OSError:
                with file:
                    part.unlink(missing_ok=True)
                raise
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or time.monotonic() >= until:
                raise
        time.sleep(_LOOK)


def _open_part(path: Path) -> tuple[Path, BinaryIO]:
    """Open an empty part of a file that nobody else writes."""
    # Not made of the name itself, which may be as long as the system allows.
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    number = 0
    while fcntl is not None:
        part = path.with_name(f".{name}{number or ''}.part")
        try:
            file = _lock_part(part)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                break  # nothing can be locked there
            if not os.path.lexists(part):
                raise
            file = None  # somebody else's
        if file is not None:
            return part, file
        number += 1
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    return part, open(part, "xb")


def _lock_part(part: Path) -> BinaryIO | None:
    """Open a part and lock it, unless somebody writes it."""
    assert fcntl is not None
    # O_NOFOLLOW: nobody shall have us write elsewhere through a link of that name.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.fdopen(os.open(part, flags, 0o666), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been renamed in between, by who wrote it.
        found = os.fstat(file.fileno())
        if os.path.samestat(found, os.lstat(part)):
            if found.st_size:  # ext4 writes a file that was cut to nothing to the disk as it closes
                file.truncate(0)
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        with file:
            part.unlink(missing_ok=True)
        raise
    file.close()
    return None


def _name(error: OSError, path: Path) -> OSError:
    # The caller knows nothing of the part; from the number Python finds the class again.
    return OSError(error.errno, error.strerror, str(path))
