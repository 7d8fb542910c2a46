"""Whether and when a text that failed is sent again, and who pays for it."""

from __future__ import annotations

from ..clock import Clock
from ..endpoints.endpoint import EndpointState
from ..endpoints.pool import EndpointPool
from ..errors import BadAudioError, CosyError, ThrottledError
from ..events import Observer, RetrySuppressed
from ..models import Utterance
from ..policies import FirstTry, RetryBudget, RetryPolicy
from ..policies.refusals import may_be_size, may_be_text
from .batch import Batch
from .group import Group
from .splitting import Splitter

__all__ = ["RetryPlanner", "needs_own_request"]


class RetryPlanner:
    """Asks the policies whether a text is sent again. Shared by every thread.

    Args:
        retry: How often, and after how many seconds.
        budget: What interactive texts pay for it.
        endpoints: Where else it could be sent.
        splitter: Knows whether others were spoken lately.
    """

    def __init__(
        self,
        retry: RetryPolicy,
        budget: RetryBudget,
        endpoints: EndpointPool,
        splitter: Splitter,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.retry, self.budget = retry, budget
        self._endpoints, self._splitter = endpoints, splitter
        self._observer, self._clock = observer, clock
        splitter.retry = retry

    def plan(
        self, batch: Batch, group: Group, endpoint: EndpointState, text: Utterance, error: CosyError
    ) -> float | None:
        """Note a text's failure; return the seconds until it is sent again, None where it is not:
        it has had its attempts, or its time or the budget does not suffice."""
        if batch.interactive and group.attempt == 1 and error.retryable:
            self.budget.note_failure(self._clock.now())
        wait = self._wait(batch, group, endpoint, text, error)
        if wait is None or not self._may_repeat(batch, text, error, wait):
            return None
        return wait

    def gives_up(
        self, batch: Batch, group: Group, endpoint: EndpointState, error: CosyError
    ) -> bool:
        """Return whether a bulk call has waited long enough for an endpoint that has answered
        nothing yet, and there is no other.

        The call's wait counts, not the text's: an open breaker is probed by texts that have not
        failed yet.
        """
        if batch.interactive or not error.trips or endpoint.has_answered:
            return False
        if error.sent and endpoint not in group.firsts:  # it is asked once more
            return False
        now = self._clock.now()
        began = min(batch.call_began, batch.accepted_at)
        if not self.retry.gives_up(now - began):
            return False
        return not self._endpoints.elsewhere((*group.avoid, endpoint), now)

    def pay(self, batch: Batch, group: Group, part: Group, error: CosyError) -> int:
        """Return how many texts of a group are tried next, as a part failed; 0 where none are.

        An interactive batch pays for these alone: the others wait for what becomes of them. It
        leaves half of the retry budget to other batches that are too large as well.
        """
        size = self._splitter.probe_size(part, error)
        if not batch.interactive:
            return size
        now, tries = self._clock.now(), batch.tries.get(part.texts[0].index, [])
        speaks = may_be_text(error) and self._splitter.speaks(now)
        if not speaks and self.retry.wait([*tries, error]) is None:
            return 0
        size = max(1, min(size, int(self.budget.balance(now) / 2)))
        batch.paid = self.budget.withdraw(size, now)
        return size if batch.paid else 0

    def _wait(
        self, batch: Batch, group: Group, endpoint: EndpointState, text: Utterance, error: CosyError
    ) -> float | None:
        """Note a text's failure; return the seconds until it may be sent again, None for never."""
        now = self._clock.now()
        first = group.firsts.setdefault(endpoint, FirstTry(batch.sent, now))
        elsewhere = self._endpoints.elsewhere((*group.avoid, endpoint), now)
        errors = batch.note(text, error)
        away = endpoint.is_away(batch.call.kind, error, first, now)
        spared, shared = 0, 0
        # Else it was the text all the time, and each of its attempts counts.
        if endpoint.may_be_chance(error, batch.refuse(text, away), now):
            if self._is_spared(batch, group, endpoint, error, away):
                return self.retry.nap(error, batch.spare(text), elsewhere=elsewhere)
            spared = batch.spared.get(text.index, 0)
        if len(group.texts) == 1 and may_be_text(error):
            # It is repeated once at least, unless the budget must pay for that.
            most = self.retry.max_retries - (0 if batch.interactive else 1)
            shared = max(0, min(group.splits, most))
        return self.retry.wait(errors, elsewhere=elsewhere, spared=spared, shared=shared)

    def _is_spared(
        self, batch: Batch, group: Group, endpoint: EndpointState, error: CosyError, away: bool
    ) -> bool:
        """Return whether a failure uses up no attempt, so that the deadline alone bounds the text.

        Bulk work waits for a service that throttles it, and for one that is away; and a text that
        has failed together with others is sent alone, where something was spoken lately.
        """
        if not error.retryable or not self.retry.repeats:
            return False
        now, first = self._clock.now(), group.firsts[endpoint]
        by_text = error.trips and may_be_text(error)
        by_any = by_text or may_be_size(error)
        together = by_any and len(group.texts) > 1 and self._splitter.speaks(now)
        if batch.interactive:
            return together and batch.paid is True
        if isinstance(error, ThrottledError):
            return True
        if not error.trips or not self.retry.outlasts(now - first.failed):
            return False
        if together or self._splitter.waits(endpoint, error, first, now):
            return True
        if by_text and group.splits and len(group.texts) == 1:
            return False  # it has failed with others that were spoken without it
        return away

    def _may_repeat(self, batch: Batch, text: Utterance, error: CosyError, wait: float) -> bool:
        """Return whether a retry fits into the deadline and, if interactive, is paid for."""
        now = self._clock.now()
        if wait >= batch.deadline.remaining(now):
            reason = "deadline"
        elif needs_own_request(error):
            return True  # the service works, and is only asked whom it meant
        elif batch.interactive and not batch.is_paid(self.budget, now):
            reason = "budget"
        else:
            return True
        self._observer.on_event(RetrySuppressed(error.endpoint or "", text.hash, reason, error))
        return False


def needs_own_request(error: CosyError) -> bool:
    """Return whether a text that failed is sent alone, as its reply may be another one's."""
    return isinstance(error, BadAudioError) and error.alone
