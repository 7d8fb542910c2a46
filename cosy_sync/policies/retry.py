"""When a failed text is sent again: backoff's schedule, our jitter and limits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import islice

from ..config import RetryConfig
from ..errors import BadAudioError, CosyError

__all__ = ["RetryPolicy"]

# So many doublings reach any sensible `max_wait`; later steps repeat the last one.
_MOST_STEPS = 64
# The longest step, in seconds, between attempts that use up none: a service that was away is
# noticed within that time of its return.
_LONGEST_NAP = 2.0


class RetryPolicy:
    """Says how long to wait before the next attempt, or that there must be none.

    Whether an error may be repeated, its `retryable` says. The jitter shortens each step to between
    50 % and 100 % of itself: half a step is always waited, which spares the server, and the other
    half spreads the clients.

    Args:
        config: The limits and the steps.
        random: Draws a number in [0, 1).
    """

    def __init__(self, config: RetryConfig, random: Callable[[], float] = random.random) -> None:
        self._max_retries = config.max_retries
        self._max_bad_audio = config.max_bad_audio
        self._outlast = math.inf if config.outlast is None else config.outlast
        self._first_contact = math.inf if config.first_contact is None else config.first_contact
        self._steps = _steps(config)
        self._longest_nap = max(_LONGEST_NAP, config.base)
        self._random = random

    @property
    def tries(self) -> int:
        """Return how often a text is sent at most."""
        return self._max_retries + 1

    @property
    def max_retries(self) -> int:
        """Return how many repetitions there are at most."""
        return self._max_retries

    @property
    def repeats(self) -> bool:
        """Return whether anything is sent again at all."""
        return self._max_retries > 0

    def outlasts(self, seconds: float) -> bool:
        """Return whether a text that first failed so long ago still waits for its endpoint."""
        return seconds < self._outlast

    def gives_up(self, seconds: float) -> bool:
        """Return whether an endpoint that has answered nothing for so long is no service."""
        return seconds >= self._first_contact

    def wait(
        self,
        errors: Sequence[CosyError],
        *,
        elsewhere: bool = False,
        spared: int = 0,
        shared: int = 0,
    ) -> float | None:
        """Return the seconds to wait before sending again; None when it must not be repeated.

        A Retry-After is a lower bound; clients that got the same one come back spread over one step
        after it.

        Args:
            errors: One text's failed attempts, newest last, at least one. Refusals of our own
                are no attempts and do not belong here.
            elsewhere: Another endpoint takes requests, and the text has not failed there: no wait.
            spared: How many of the errors used up no attempt.
            shared: How often the text has failed together with others that were sent apart then.
        """
        newest, used = errors[-1], len(errors) - spared + shared
        if not newest.retryable or used > self._max_retries:
            return None
        if sum(isinstance(error, BadAudioError) for error in errors) > self._max_bad_audio:
            return None
        return 0.0 if elsewhere else self._pause(newest, self._step(used))

    def nap(self, error: CosyError, times: int, *, elsewhere: bool = False) -> float:
        """Return the seconds to wait after an attempt that used up none; it was one of `times`."""
        if elsewhere:
            return 0.0
        return self._pause(error, min(self._step(times), self._longest_nap))

    def _step(self, number: int) -> float:
        return self._steps[min(number, len(self._steps)) - 1]

    def _pause(self, newest: CosyError, step: float) -> float:
        spread = step * (1.0 - self._random())  # in (0, step]: never 0
        wait = (step + spread) / 2
        retry_after: float | None = getattr(newest, "retry_after", None)
        return wait if retry_after is None else max(wait, retry_after + spread)


def _steps(config: RetryConfig) -> tuple[float, ...]:
    # Not at the top: backoff brings asyncio along, 50 ms that `import cosy_sync` should not cost.
    from backoff import expo

    schedule = expo(base=2, factor=config.base, max_value=config.max_wait)
    next(schedule)  # it first yields nothing, for the sake of send()
    return tuple(islice(schedule, _MOST_STEPS))
