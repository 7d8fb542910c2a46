"""Files that a job's folder holds and its journal does not know: none is replaced unasked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from cosy_sync import ConfigError
from cosy_sync.jobs.journal import Journal, Row, State
from cosy_sync.jobs.names import key_of
from cosy_sync.storage import LocalStore, Sink

__all__ = ["refuse_foreign"]

# The number of the first run that stored sounds; nothing while files of others are in the way.
_FACT = "storing since"
_JOURNAL = re.compile(r"journal(?:-\d+-of-(\d+))?\.sqlite")


def refuse_foreign(
    sink: Sink, journal: Journal, rows: Iterable[Row], ending: str, *, whole: bool
) -> None:
    """Raise ConfigError where the sound of a row would replace a file that is none of this job's.

    Only the first run under a journal that stores anything asks: later, a file that it does not
    know may be from a run that was killed.

    Args:
        whole: nothing is in flight yet, and what the input holds is forgotten again.
    """
    first, run = journal.fact(_FACT), str(journal.run)
    if first is None and journal.ask("SELECT 1 FROM texts WHERE state = 1 LIMIT 1"):
        first = "0"  # of a version that did not ask
    if first not in (None, "", run):
        return
    if isinstance(sink, LocalStore) and next(sink.keys(""), None):
        for row in rows:
            key = key_of(row.id, ending)
            if sink.head(key) is not None:
                journal.note(_FACT, "")
                if whole:
                    journal.forget_waiting()
                raise ConfigError(
                    f"{sink.path}: holds {key}, which this job has not made ({journal.path} is "
                    f"new); choose another folder{_other_journals(journal)}, or pass "
                    "overwrite=True to replace such files"
                )
    if first != run:
        journal.note(_FACT, run)


def _other_journals(journal: Journal) -> str:
    """Say how the folder's texts were divided, where that was otherwise."""
    own = _JOURNAL.fullmatch(journal.path.name)
    found = set()
    for path in journal.path.parent.glob("journal*.sqlite"):
        match = _JOURNAL.fullmatch(path.name)
        if match and (own is None or match[1] != own[1]) and _has_sounds(path):
            found.add(match[1])
    ways = [f"in {of} parts" if of else "undivided" for of in sorted(found, key=str)]
    return f", go on with the job that was run here {' or '.join(ways)}" if ways else ""


def _has_sounds(path: Path) -> bool:
    try:
        with closing(Journal(path, reading=True)) as book:
            return State.DONE in book.counts()
    except (OSError, ConfigError):  # it is just being made, or damaged
        return False
