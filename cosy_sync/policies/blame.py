"""Blame: whether a failed call tells of its endpoint, or only of the request itself."""

from __future__ import annotations

import math

from ..bounded import BoundedCache
from ..errors import CosyError, ReplyTimeout
from .admission import Call, FirstTry
from .failure_share import FailureShare

__all__ = ["Blame"]

# Failures in a row of one kind of request that count while other kinds succeed.
_FEW = 4
# Seconds for which a success excuses repetitions. Where few requests are in flight, many a text is
# repeated before another was sent and succeeded.
_LATELY = 0.5
# Seconds for which a success is evidence that the endpoint works.
_RECENT = 10.0
# Seconds that a kind which never succeeded lately may fail until other kinds' calls have shown
# whether the endpoint works.
_HESITATION = 1.5
# Seconds after its first failure in which a text is not blamed by successes that may be older.
_PATIENCE = 10.0
# Kinds that are remembered.
_MOST_KINDS = 256
# Below this probability it is no chance that a text is refused again and again, or that so many
# texts in a row break their calls.
_CHANCE_REFUSED, _CHANCE_BROKEN = 1e-4, 1e-2
# Texts to blame, at least, by which it is known how often texts are.
_SEVERAL = 2
# Share of texts to blame from which on it is rather the service that is.
_TOO_MANY = 0.5
# What stands before a service answers like this while the service is away.
_AWAY_STATUSES = (502, 503, 504, *range(520, 531))


class _Run:
    """Failures of one kind since its latest success."""

    __slots__ = ("began", "count", "latest")

    def __init__(self, now: float) -> None:
        self.began = self.latest = now
        self.count = 0


class Blame:
    """Tells an endpoint's failures from those of requests that fail while others succeed.

    Its owner's lock guards it; `is_outage` and `has_succeeded` need none.

    * A text that fails again, although something succeeded that was sent after its first failure,
      or came a moment ago, says nothing new: its repetitions do not count. Where others were to
      blame lately, neither do those of texts that failed last, if they are no more than chance
      brings; and of a single text only a few, shortly after a success.
    * Of a kind of request of which nothing but failures comes, the first few count and the rest
      does not, as long as other kinds succeed.
    """

    def __init__(self) -> None:
        # The latest success: when it came, and the latest instant at which one was sent.
        self.good_at = -math.inf
        self.good_sent = -math.inf
        # Calls that succeeded.
        self._answers = 0
        # Texts whose first attempt failed since the latest success.
        self._fresh = 0
        # First attempts that failed lately; texts that were to blame for theirs; and the one that
        # failed again last, which is to blame if another succeeds next.
        self._first_failures, self._texts = FailureShare(), FailureShare()
        self._repeated: FirstTry | None = None
        self._repeated_at = 0.0
        # When the latest success of each kind was sent; of the kind that succeeded last, and of
        # the others.
        self._good: BoundedCache[int, float] = BoundedCache(_MOST_KINDS)
        self._latest: int | None = None
        self._latest_sent = self._others_sent = -math.inf
        # Kinds that have not succeeded since they failed. Whether there are any may be read without
        # the lock.
        self.failing: dict[int, _Run] = {}

    @property
    def has_succeeded(self) -> bool:
        """Return whether any call ever did."""
        return self.good_at > -math.inf

    def succeed(self, call: Call, sent: float, now: float) -> None:
        """Note a call that succeeded, and when it was sent."""
        kind = call.kind
        if self._repeated is not None and sent > self._repeated_at:
            if call.first is None:
                self._texts.add(self._repeated.failed, self._answers, now)
            self._repeated = None
        self._answers += 1
        self.good_at = now
        if sent > self.good_sent:
            self.good_sent = sent
        self._fresh = 0
        if self.failing:
            self.failing.pop(kind, None)
        if kind != self._latest:
            self._latest, self._others_sent = kind, self._latest_sent
            self._latest_sent = sent
            self._good.keep(kind, sent)
        if sent > self._latest_sent:
            self._latest_sent = sent
        self._good[kind] = sent

    def fail(self, call: Call, now: float, sent: bool = True) -> bool:
        """Note a call that failed; return whether that says nothing about the endpoint.

        What was never sent, as there was no connection, is no request's fault.
        """
        if len(self.failing) >= _MOST_KINDS:
            del self.failing[next(iter(self.failing))]
        run = self.failing.setdefault(call.kind, _Run(now))
        run.latest = now
        run.count += 1
        if call.first is None:
            self._fresh += 1
            self._first_failures.add(now, self._answers, now)
        elif sent and self._is_repetition(call.first, run, now):
            return True
        if not sent or run.count <= _FEW:
            return False
        if self._fails_alone(call.kind):
            return True
        others = self._others(call.kind)
        if now - others >= _RECENT:
            return False
        new = now - self._good.get(call.kind, -math.inf) >= _RECENT
        return others > run.began or (new and now - run.began < _HESITATION)

    def _is_repetition(self, first: FirstTry, run: _Run, now: float) -> bool:
        """Return whether a text that was sent and failed again says nothing new."""
        self._repeated, self._repeated_at = first, now
        if self.good_sent > first.failed:
            self._texts.add(first.failed, self._answers, now)
            return True
        if now - self.good_at < _LATELY or self._is_usual(now):
            return True
        return self._fresh <= 1 and run.count > _FEW and now - self.good_at < _RECENT

    def failing_kind(self, now: float) -> int | None:
        """Return the only kind of request that failed lately and did not succeed since."""
        self.failing = {k: run for k, run in self.failing.items() if now - run.latest < _RECENT}
        return next(iter(self.failing)) if len(self.failing) == 1 else None

    def only_others_fail(self, kind: int, now: float) -> bool:
        """Return whether calls failed lately, but only of another kind, which is to blame."""
        failing_kind = self.failing_kind(now)
        if failing_kind is None or failing_kind == kind:
            return False
        return self._fails_alone(failing_kind) or now - self._good.get(kind, -math.inf) < _RECENT

    def is_outage(self, kind: int, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text failed because the endpoint is away, as far as anybody knows.

        It is, while nothing succeeded since the text's first attempt was sent. In-flight replies
        may still come when a service dies, so afterwards it may be, for a while, unless something
        succeeded that was sent after the text's first failure.

        Args:
            kind: What the text's requests say beside it.
            error: How the latest attempt failed.
            first: The first attempt of the text at this endpoint, which may be the latest.
            now: The instant.
        """
        if not error.sent:  # no connection: no text is to blame; a name may be misspelt
            return self.has_succeeded or getattr(error, "phase", None) != "dns"
        if isinstance(error, ReplyTimeout) or self._fails_alone(kind) or self._is_usual(now):
            return False
        waits = now - first.failed < _PATIENCE
        succeeded = self.good_at > first.sent
        status = getattr(error, "status", None)
        if self._fresh <= 1 and status is not None and status not in _AWAY_STATUSES:
            # A service that answers, and nothing else fails.
            return not succeeded and (waits or first.sent - self.good_at >= _RECENT)
        return not succeeded or (waits and self.good_sent <= first.failed)

    def is_chance(self, refusals: int, now: float) -> bool:
        """Return whether a text may be refused so often in a row by a service that refuses any,
        as often as it lately refused texts that it had not seen. Needs no lock."""
        share = self._first_failures.of(self._answers, now, more=1)
        return share == 0.0 or share**refusals >= _CHANCE_REFUSED

    def _is_usual(self, now: float) -> bool:
        """Return whether no more texts failed since the latest success than chance brings in a
        row, as often as texts were to blame lately."""
        share = self._texts.of(self._answers, now, fewest=_SEVERAL)
        if share >= _TOO_MANY:
            return False
        return share ** max(1, self._fresh) >= _CHANCE_BROKEN

    def _others(self, kind: int) -> float:
        """Return when the latest success of any other kind was sent."""
        return self._others_sent if kind == self._latest else self._latest_sent

    def _fails_alone(self, kind: int) -> bool:
        """Return whether a kind that had not succeeded for a while failed while others succeeded,
        and never succeeded since."""
        run = self.failing.get(kind)
        if run is None or run.count <= _FEW or self._others(kind) <= run.began:
            return False
        return run.began - self._good.get(kind, -math.inf) >= _RECENT
