"""How many texts a call may have at one endpoint: learned from what was too large there."""

from __future__ import annotations

__all__ = ["BatchSize"]

# Seconds for which a learned size is kept before twice as many texts are tried, and full calls
# that do the same earlier; each trial that fails doubles both, up to the second number.
_KEPT_SECONDS = 60.0, 600.0
_KEPT_CALLS = 16, 1_024
# Failures of calls of a size that never passed, after which one more shows that it never will.
_MANY_FAILURES = 3
# Seconds for which one larger call is waited for before another one is tried, and for which others
# follow it where it passed.
_TRIED, _TRUSTED = 30.0, 10.0
# More texts than any call has.
_ANY = 1 << 30


class BatchSize:
    """The most texts that a call to one endpoint may have. Its owner's lock guards what changes it.

    Something before the service (a gateway with a time-out, a proxy that bounds bodies) may take
    fewer texts than the service itself. `limit` is None until a call was too large, and then
    what was not; later twice as many are tried, and each success doubles it again, until nothing
    is known to fail.
    """

    __slots__ = (
        "_calls",
        "_doubts",
        "_enough",
        "_failed",
        "_failures",
        "_keep",
        "_tried_until",
        "_trusted_until",
        "_try_at",
        "best",
        "least_failed",
        "limit",
    )

    def __init__(self) -> None:
        # Read without the lock: one step of the past does no harm.
        self.limit: int | None = None
        # The largest call that was answered, as far as that still holds.
        self.best = 0
        self._failed = 0
        # The smallest call that failed since one was answered.
        self.least_failed = _ANY
        self._doubts = self._failures = 0
        self._tried_until = self._trusted_until = float("-inf")
        self._try_at = 0.0
        self._keep = _KEPT_SECONDS[0]
        self._calls = 0
        self._enough = _KEPT_CALLS[0]

    def most(self, texts: int, now: float) -> int:
        """Return how many of so many texts the next call may have: now and then, as a trial, up to
        twice the limit."""
        limit = self.limit
        if limit is None or texts <= limit:
            return texts
        if now < self._try_at and self._calls < self._enough:
            return limit
        self._wait_again(now)
        return min(texts, 2 * limit)

    def may_try(self, texts: int, now: float) -> bool:
        """Return whether so many texts may be sent after fewer of them passed: where many have
        failed, one call tries it for all."""
        if texts <= self.best or self._failures < _MANY_FAILURES or now < self._trusted_until:
            return True
        if now < self._tried_until:
            return False
        self._tried_until = now + _TRIED
        return True

    def may_be_too_many(self, texts: int) -> bool:
        """Return whether so many texts may be too many: calls like it failed, and none passed."""
        return self.limit is None and texts > self.best and self._failures >= _MANY_FAILURES

    @property
    def sure(self) -> bool:
        """Return whether so many calls have failed that the next failure is no chance."""
        return self._failures > _MANY_FAILURES

    def doubt(self, failed: int, passed: int, now: float) -> None:
        """Note that a call of `failed` texts failed, and the same texts in smaller calls did not.

        That may have been chance, so it takes a second time to learn from it.
        """
        self._trusted_until = now + _TRUSTED
        if self.limit is not None or self.best >= failed:
            return
        self._failed = failed
        self._doubts += 1
        if self._doubts > 1:
            self.learn(failed, passed, now)

    def learn(self, failed: int, passed: int, now: float) -> None:
        """Note that calls of `failed` texts were too large, and of `passed` texts were not."""
        limit = self.limit
        if limit is not None and (passed <= limit < failed):
            return  # it is no news that more than the limit is too much
        self._doubts = self._failures = 0
        self._tried_until = float("-inf")
        self.limit, self.best = passed, min(self.best, passed)
        self._failed = failed
        self._keep, self._enough = _KEPT_SECONDS[0], _KEPT_CALLS[0]
        self._wait_again(now)

    def succeed(self, texts: int, now: float) -> None:
        """Note that a call of so many texts was answered."""
        self.least_failed = _ANY
        if texts > self.best:
            self.best = texts
        limit = self.limit
        if texts >= self._failed:
            self.limit, self._doubts, self._failures = None, 0, 0
        elif limit is None:
            return
        elif texts > limit:
            self.limit = texts
            self._try_at = now
        elif texts == limit:
            self._calls += 1

    def fail(self, texts: int, now: float) -> None:
        """Note that a call of so many texts was too large, or may have been: a trial's counts."""
        limit = self.limit
        self.least_failed = min(self.least_failed, texts)
        if limit is None and texts > self.best:
            self._failures += 1
            self._failed = max(self._failed, texts)
        if limit is not None and texts > limit:
            self._failed = min(self._failed, texts)
            self._keep = min(2 * self._keep, _KEPT_SECONDS[1])
            self._enough = min(2 * self._enough, _KEPT_CALLS[1])
            self._wait_again(now)

    def _wait_again(self, now: float) -> None:
        self._try_at = now + self._keep
        self._calls = 0
