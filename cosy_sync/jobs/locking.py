"""One process works on a journal at a time: the system's lock, which goes with the process."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import BinaryIO

from cosy_sync import ConfigError

__all__ = ["JobIsBusy", "busy", "lock_journal"]


class JobIsBusy(ConfigError):
    """Another process works on this job, or on this part of it."""


def lock_journal(path: Path) -> BinaryIO:
    """Lock a journal's lock file. Raises ConfigError where another process holds it."""
    file = open(path.with_suffix(".lock"), "wb")  # noqa: SIM115  closed with the journal
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise busy(path) from None
    return file


def busy(path: Path) -> JobIsBusy:
    """Return the error of a journal that another process has locked."""
    return JobIsBusy(
        f"{path.parent}: another process works on this job now; wait for its end, or give each "
        "process a shard of its own (--shard 1/2)"
    )
