"""How a call of many texts ends that lost some, or was broken off: nothing finished is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import BatchError
from .models import Audio, Outcome, Utterance

__all__ = ["InterruptedBatch", "audios_of", "refuse_failed", "refuse_invalid", "take_along"]


class InterruptedBatch(KeyboardInterrupt):
    """Ctrl-C in the middle of a call. `outcomes` holds what was finished before it."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        words = "1 text" if len(outcomes) == 1 else f"{len(outcomes)} texts"
        super().__init__(f"interrupted with {words} finished")
        self.outcomes = outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.outcomes,)


def refuse_invalid(texts: Iterable[Utterance | Outcome]) -> None:
    """Raise the error of the first text that cannot be sent, if there is one: InvalidTextError, or
    ConfigError for an item's own voice or speed."""
    bad = [text for text in texts if isinstance(text, Outcome)]
    if not bad:
        return
    error = bad[0].error
    assert error is not None
    if len(bad) > 1:
        more = "1 more text" if len(bad) == 2 else f"{len(bad) - 1} more texts"
        error = error.reworded(f"{error.message} (and {more} cannot be sent)")
    raise error


def take_along(error: BaseException, outcomes: list[Outcome]) -> None:
    """Let an exception that ends a call carry what was finished; raise InterruptedBatch in place of
    Ctrl-C's."""
    if type(error) in (KeyboardInterrupt, InterruptedBatch):
        raise InterruptedBatch(outcomes) from (error if error.args else None)
    if not isinstance(error, BatchError):  # it has its own: another call's, in this one's progress
        with contextlib.suppress(Exception):  # it may let nothing be added
            error.outcomes = outcomes  # type: ignore[attr-defined]


def audios_of(outcomes: Sequence[Outcome]) -> list[Audio]:
    """Return the audio of a call's texts. Raises BatchError where one failed."""
    audios = [outcome.audio for outcome in outcomes if outcome.audio is not None]
    if len(audios) != len(outcomes):
        refuse_failed(outcomes)
    return audios


def refuse_failed(outcomes: Sequence[Any]) -> None:
    """Raise BatchError where one of a call's outcomes is an error."""
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not failed:
        return
    raise BatchError(
        f"{len(failed)} of {len(outcomes)} texts failed; .outcomes has them all, finished audio "
        f"included. The first: {type(failed[0]).__name__}: {failed[0]}",
        outcomes=outcomes,
    ) from failed[0]
