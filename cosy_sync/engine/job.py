"""One batch on its way: its texts, its time, and what has become of each."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..errors import CosyError, UnexpectedError
from ..models import Audio, Outcome, Utterance
from ..policies import Deadline
from .backlog import Backlog

__all__ = ["Job", "failed", "unexpected"]


class Job:
    """Texts that travel together until each has an outcome.

    `stop` is set when nobody wants the rest any more; a waiting job then ends at once.
    """

    __slots__ = (
        "backlog",
        "deadline",
        "first",
        "hopeless",
        "interactive",
        "outcomes",
        "stop",
        "taken_up",
        "tenant",
        "texts",
        "tries",
    )

    def __init__(
        self,
        texts: Sequence[Utterance],
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        stop: threading.Event,
        backlog: Backlog | None = None,
    ) -> None:
        self.texts = texts
        self.first = min([utterance.index for utterance in texts])
        self.backlog = backlog
        self.deadline = deadline
        self.taken_up = deadline.started
        self.interactive = interactive
        self.tenant = tenant
        self.stop = stop
        self.outcomes: list[Outcome] = []
        # An error that every further text would end with as well.
        self.hopeless: CosyError | None = None
        # Each failed text's errors so far, newest last.
        self.tries: dict[int, list[CosyError]] = {}

    def take_up(self, deadline: Deadline, now: float) -> None:
        """Note that a worker begins: until then the texts' time does not run.

        The deadline of a whole call began before.
        """
        self.deadline = deadline
        self.taken_up = now

    def finish(self, utterance: Utterance, audio: Audio) -> None:
        """Note a text's audio."""
        self.outcomes.append(Outcome(utterance.index, utterance.text, audio))

    def fail(self, utterance: Utterance, error: CosyError) -> CosyError:
        """Note the error that ends a text; it carries the attempts before it."""
        earlier = self.tries.get(utterance.index, [])
        if earlier and earlier[-1] is error:
            earlier = earlier[:-1]
        outcome = failed(utterance, error.with_details(attempts=tuple(earlier)))
        self.outcomes.append(outcome)
        assert outcome.error is not None
        if outcome.error.hopeless:
            self.hopeless = outcome.error
        return outcome.error

    def end(self, cause: BaseException) -> None:
        """End the texts that have no outcome yet: something broke that never should."""
        error = unexpected(cause)
        known = {outcome.index for outcome in self.outcomes}
        for text in self.texts:
            if text.index not in known:
                self.fail(text, error)

    def note(self, utterance: Utterance, error: CosyError) -> list[CosyError]:
        """Note a failed attempt of a text; return all of its errors so far."""
        errors = self.tries.setdefault(utterance.index, [])
        errors.append(error)
        return errors

    def depart(self) -> None:
        """Note that the texts are sent now: they have their connection and their turn."""

    def arrive(self) -> None:
        """Note that the reply is there, and only the user's check follows."""

    def deliver(self) -> None:
        """Hand out the outcomes so far: the job goes on to wait for the others."""


def unexpected(cause: BaseException) -> UnexpectedError:
    """Return the error that a foreign exception becomes."""
    error = UnexpectedError(
        f"an unexpected {type(cause).__name__}, see the cause: a hook, a mock or a check of "
        "yours, or a bug of cosy_sync"
    )
    error.__cause__ = cause
    return error


def failed(utterance: Utterance, error: CosyError) -> Outcome:
    """Return the outcome of a text that ended with an error."""
    own = error.with_details(index=utterance.index, text_hash=utterance.hash)
    return Outcome(utterance.index, utterance.text, None, own)
