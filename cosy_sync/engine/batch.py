"""One batch: its texts, its time, and what has become of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import CosyError, DeadlineError, RefusedError
from ..models import Audio, Outcome, Utterance
from ..policies import Call, Deadline, FirstTry, RetryBudget, Unanimity, begin_of
from ..policies.refusals import common_refusal, may_be_key
from ..threads.stop import Stop
from ..user_code import unexpected
from .reorder import ReorderBuffer

__all__ = ["ANY_TIME", "Batch", "HeldBack", "after", "failed"]


class HeldBack(RefusedError):
    """Not sent yet: its call was refused meanwhile, and what is in flight may tell more."""


_UNSENT = Call()
# Bulk work waits for a place as long as others before it are spoken.
ANY_TIME = Deadline(0.0, math.inf)


class Batch:
    """Texts that are sent together until each has an outcome.

    `stop` is set when nobody wants the rest any more; a waiting batch then ends at once.

    Two hooks tell whoever made it, where that is wanted; each runs on the thread that makes the
    attempt. `on_seal` gets the texts that are about to be sent and returns those that are;
    `on_deliver` gets the outcomes that have come since it was called last.
    """

    __slots__ = (  # noqa: RUF023 (in the order of their meaning)
        # What is sent, where its first text stands in its call, and whose it is.
        "texts",
        "first",
        "interactive",
        "tenant",
        "stop",
        # Bounds the audio of its call that waits to be handed out.
        "reorder",
        # Until when its texts may take; until when they may wait for a place and a slot before they
        # are first sent, None where that time counts for the deadline as well; when they came.
        "deadline",
        "queue_deadline",
        "accepted_at",
        # Since when its call has had work in flight, and its endpoint has answered nothing, as it
        # was last looked at: what waits behind a silent service shares one deadline.
        "call_began",
        "silent",
        # What has become of its texts; an error that every further text would end with as well; how
        # many outcomes were delivered.
        "outcomes",
        "hopeless",
        "told",
        # What its call was refused with, once that matters; of a call of many texts, from the
        # start. Its request in flight, or the next one, has this number there, 0 for none.
        # `alone`: there is no other endpoint.
        "record",
        "number",
        "alone",
        # Its texts belong to several callers; others may still join before it is sealed, which
        # replaces `texts` then; the hooks.
        "shared",
        "may_grow",
        "on_seal",
        "on_deliver",
        # Failures in a row that the size of the batch may have caused; how many more of its parts
        # were answered than were halved without another success.
        "strikes",
        "credit",
        # Whether the next repetition is paid from the retry budget already, or cannot be; None:
        # each text pays for itself.
        "paid",
        # Other parts of it: yet to be sent, and those that wait for what becomes of them.
        "waiting",
        "parked",
        # Each failed text's errors so far, newest last, how many of them used up no attempt, and
        # how many came in a row while its endpoint was not away.
        "tries",
        "spared",
        "refusals",
        # Of the texts that are being sent: whether it is one that was parted from others with which
        # it had failed, and how they first fared, by the endpoint, where they failed before.
        "apart",
        "first_tries",
        # When the latest attempt was sent and when it ended, 0 before, and what it is judged by.
        "sent",
        "ended",
        "call",
        # Whether an attempt is being made of which no error is noted yet; whether a reply is there,
        # and only the user's check follows.
        "in_flight",
        "arrived",
        # Whether its first request was counted for or against a canary.
        "judged",
    )

    def __init__(
        self,
        texts: Sequence[Utterance],
        deadline: Deadline,
        *,
        interactive: bool,
        tenant: str,
        stop: Stop,
        reorder: ReorderBuffer | None = None,
    ) -> None:
        self.texts = texts
        self.first = texts[0].index if len(texts) == 1 else min([each.index for each in texts])
        self.interactive, self.tenant, self.stop, self.reorder = interactive, tenant, stop, reorder
        self.deadline = deadline
        self.queue_deadline: Deadline | None = None
        self.accepted_at = deadline.started
        self.call_began = self.silent = math.inf
        self.outcomes: list[Outcome] = []
        self.hopeless: CosyError | None = None
        self.record: Unanimity | None = None
        self.alone = self.shared = self.may_grow = False
        self.on_seal: Callable[[Sequence[Utterance]], Sequence[Utterance]] | None = None
        self.on_deliver: Callable[[Sequence[Outcome]], None] | None = None
        self.number = self.told = self.strikes = self.credit = self.waiting = self.parked = 0
        self.paid: bool | None = None
        self.tries: dict[int, list[CosyError]] = {}
        self.spared: dict[int, int] = {}
        self.refusals: dict[int, int] = {}
        self.apart = self.in_flight = self.arrived = self.judged = False
        self.first_tries: Mapping[Any, FirstTry] = {}
        self.sent = self.ended = 0.0
        self.call = _UNSENT

    def begin(self, deadline: Deadline, now: float, call_began: float, silent: float) -> None:
        """Note that a worker begins: the texts' time runs from now on.

        Only the deadline of a whole call (`within`) began before.

        Args:
            deadline: The texts' deadline.
            now: The instant.
            call_began: Since when the call has had texts in flight.
            silent: Since when its endpoints have answered nothing.
        """
        self.deadline = deadline
        self.accepted_at = now
        self.call_began = call_began
        self.share_time(silent, now)

    def fail(self, utterance: Utterance, error: CosyError) -> CosyError:
        """Note the error that ends a text; it carries the attempts before it."""
        outcome = failed(utterance, self.last_word(utterance, error))
        self.outcomes.append(outcome)
        assert outcome.error is not None
        if outcome.error.hopeless:
            self.hopeless = outcome.error
        return outcome.error

    def last_word(self, utterance: Utterance, error: CosyError) -> CosyError:
        """Return the error that ends a text, with the attempts before it."""
        earlier = tuple(self.tries.get(utterance.index, ()))
        if earlier and earlier[-1] is error:
            earlier = earlier[:-1]
        return after(error, earlier)

    def given_up(self, error: CosyError) -> list[Outcome]:
        """Return an outcome for each text: this error where there is none yet. A worker may go on
        with it."""
        known = list(self.outcomes)
        indexes = {outcome.index for outcome in known}
        open_ones = [text for text in self.texts if text.index not in indexes]
        return known + [failed(text, self.last_word(text, error)) for text in open_ones]

    def end(self, cause: BaseException) -> None:
        """End the texts that have no outcome yet: something broke that never should."""
        self.settle()
        error = unexpected(cause)
        known = {outcome.index for outcome in self.outcomes}
        for text in self.texts:
            if text.index not in known:
                self.fail(text, error)

    def note(self, utterance: Utterance, error: CosyError) -> list[CosyError]:
        """Note a failed attempt of a text; return all of its errors so far."""
        errors = self.tries.setdefault(utterance.index, [])
        errors.append(error)
        self.in_flight = False
        return errors

    def queued(self, seconds: float) -> None:
        """Note a wait for a place or a slot: it does not count for a deadline that counts from the
        first sending."""
        queue = self.queue_deadline
        if queue is not None:
            later = self.deadline.later(seconds)
            self.deadline = later if later.at < queue.at else queue

    def share_time(self, silent: float, now: float) -> None:
        """Let its time begin with that of the call's texts before it, where the service has
        answered nothing since that instant (`begin_of`)."""
        self.silent = silent
        begun = begin_of(now, max(self.call_began, silent), self.deadline.seconds)
        early = self.deadline.started - begun
        if early > 0.0:
            self.deadline = self.deadline.later(-early)

    def is_behind(self, silent: float, now: float) -> bool:
        """Return whether it waits behind texts that its service does not answer, and so shares
        their time."""
        since = max(self.call_began, silent)
        return begin_of(now, since, self.deadline.seconds) < now

    def patience(self, silent: float, now: float) -> float:
        """Return the seconds for which it may still wait, unsent, for a service that has answered
        nothing since that instant: its call has waited as long as one text may."""
        if self.queue_deadline is None:
            return math.inf
        return max(0.0, max(self.call_began, silent) + self.deadline.seconds - now)

    def is_paid(self, budget: RetryBudget, now: float) -> bool:
        """Return whether a repetition is paid for; take it from the budget if need be."""
        return budget.withdraw(1, now) if self.paid is None else self.paid

    def spare(self, utterance: Utterance) -> int:
        """Note that a text's latest failure used up no attempt; return how many did not."""
        times = self.spared[utterance.index] = self.spared.get(utterance.index, 0) + 1
        return times

    def refuse(self, utterance: Utterance, away: bool) -> int:
        """Note whether a text's latest failure met an outage; return how many in a row did not."""
        times = 0 if away else self.refusals.get(utterance.index, 0) + 1
        self.refusals[utterance.index] = times
        return times

    def seal(self, texts: Sequence[Utterance]) -> Sequence[Utterance]:
        """Note that these texts are sent now: they have their connection and their slot. Return
        those that are sent: of a batch that grew until now, all of its texts.

        Raises RefusedError when their call has ended meanwhile, or is in doubt, or when nobody
        waits for any of them.
        """
        if self.on_seal is not None:
            texts = self.on_seal(texts)
        record = self.record
        if record is not None:
            if record.verdict is not None:
                raise RefusedError("not sent: every text of its call is refused", retryable=False)
            if not self.number and record.in_doubt:
                # A text alone tells as much as whatever would go in its place.
                self.number = record.begin_in_doubt() if len(self.texts) == 1 else 0
                if not self.number:
                    raise HeldBack("not sent: it waits for what another refusal means")
            self.number = self.number or record.begin()
        self.queue_deadline = None
        self.in_flight = True
        return texts

    def refused(self, errors: Sequence[Audio | CosyError]) -> None:
        """Note a reply without any sound, before its place in flight is given back: what goes next
        must know."""
        record = self.record
        error = None if record is None else common_refusal(errors)
        if record is not None and error is not None:
            record.doubt(alone=len(errors) > 1 or may_be_key(error))

    def settle(self) -> int:
        """Note that its request is no more in flight, and got no sound; return the number of the
        latest one of its call, 0 where none are counted."""
        number, self.number = self.number, 0
        return self.record.end(number) if self.record is not None else 0

    def deliver(self) -> None:
        """Hand out the outcomes that are new: the batch goes on to wait for the others."""
        if self.on_deliver is not None and self.told < len(self.outcomes):
            news, self.told = self.outcomes[self.told :], len(self.outcomes)
            self.on_deliver(news)


def after(error: CosyError, attempts: tuple[CosyError, ...]) -> CosyError:
    """Return an error that knows the attempts before it. Where no reply but time or a decision of
    our own ended the text, it also says how the latest of them failed, which is its cause."""
    latest = next((each for each in reversed(attempts) if each is not error.__cause__), None)
    if latest is None or not isinstance(error, (DeadlineError, RefusedError)):
        return error.with_details(attempts=attempts)
    message = f"{error.message}; before that: {latest.message}"
    told = error.with_details(attempts=attempts, message=message)
    told.__cause__ = latest
    return told


def failed(utterance: Utterance, error: CosyError) -> Outcome:
    """Return the outcome of a text that ended with an error."""
    own = error.with_details(index=utterance.index, text_hash=utterance.hash)
    return Outcome(utterance.index, utterance.text, None, own)
