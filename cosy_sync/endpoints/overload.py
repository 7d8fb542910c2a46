"""One endpoint's limits: learned from its answers, so that overload is met with fewer calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..config import ClientConfig, Endpoint
from ..errors import CosyError, OverloadError, ReplyTimeout, ResourceError, ThrottledError
from ..events import LimitsLowered, Observer
from ..models import Utterance
from ..policies import AdaptiveRate, Concurrency, QueueDelay, SlowStart, Throttle
from ..threads.permits import Permits
from .limiter import EndpointLimiter

__all__ = ["OverloadControl"]

# Seconds after which a call that was held back may ask again.
_PAUSE = 1.0
# The service says that it has too much to do; 504 is the time-out of a gateway before it.
_OVERLOAD_STATUSES = (429, 503, 504)
# Share of the first-byte limit within which a good reply shows that a service is only late.
_RECENT = 0.5


class OverloadControl:
    """Turns an endpoint's answers into its limits: slots, rate, and a share that is refused.

    It begins with a few requests in flight, and allows more as replies come in time (SlowStart).
    Three signs of overload, three answers. 429s close together lower the rate (AdaptiveRate). 429,
    503 and time-outs lower the requests in flight (Concurrency); a 429 that says that too many were
    in flight lowers nothing else. Where the endpoint accepts less than half of the calls, most are
    not sent at all (Throttle).

    The lock of the slots, which is the endpoint's, guards the policies. A method that says that it
    is held belongs to a step of the endpoint; every other one takes it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: ClientConfig,
        slots: Permits,
        limiter: EndpointLimiter,
        observer: Observer,
        *,
        label: str | None = None,
    ) -> None:
        # Guards the policies below. Their limits may be read without it.
        self._lock = slots.lock
        self._label = label or endpoint.label
        self._slots = slots
        self._limiter = limiter
        self._observer = observer
        overload, first_byte = config.overload, config.timeouts.first_byte
        self._longest = overload.patience
        self._patience = QueueDelay(overload.patience)
        self._throttle = Throttle(overload)
        most = endpoint.max_connections
        self._slow_start = SlowStart(
            most, min(first_byte, config.deadline), max(overload.start, most // 12)
        )
        self._concurrency = Concurrency(most, overload.decrease)
        self._rate_limit = endpoint.rate_limit
        self._pace = AdaptiveRate(endpoint.rate_limit, overload.decrease, overload.recovery)
        self._recent = _RECENT * first_byte
        # When a good reply ended last; when it was last told that this machine is out of something.
        self._succeeded_at = self._told_at = -math.inf
        self.resize()

    def admit(self, urgent: bool, now: float, waited: float = 0.0) -> None:
        """Let a call pass that has waited so many seconds, at the rate of this instant.

        An urgent call does not wait long for a service that is refusing calls. Raises
        OverloadError.
        """
        with self._lock:
            share = self._throttle.share(now) if self._throttle.refuses(now) else 0.0
            lowered, rate = self._pace.lowered, self._pace.rate(now)
        if share:
            raise OverloadError(
                f"the service accepts too few calls, so {100 * share:.0f} % of them are held back "
                "until it recovers: try again in a few seconds; bulk calls (synth_many) wait",
                endpoint=self._label,
                retry_after=_PAUSE,
            )
        if not lowered:
            return
        self._set_rate(rate)
        wait = self._limiter.next_free(now, urgent) - now
        with self._lock:
            bears = not urgent or self._patience.bears(waited + wait, rate, now)
        if not bears:
            raise OverloadError(
                f"the service refused calls (429), so only {rate:.3g} requests/s are sent, and the "
                f"slot would have come after {waited + wait:.1f} s: send less; bulk calls "
                "(synth_many) wait",
                endpoint=self._label,
                retry_after=max(wait, _PAUSE),
            )

    def longest_wait(self, urgent: bool, now: float) -> float:
        """Return the seconds that a call may wait for its place among the requests in flight.

        An urgent call does not wait long for a service that has too much to do; as long as one
        call takes, at least.
        """
        if not urgent or not self.is_strained(now):
            return math.inf
        return max(self._longest, self._concurrency.longest_trip)

    def no_place(self, seconds: float) -> OverloadError:
        """Return what a call ends with that has waited so long for its place."""
        return OverloadError(
            "the service has too much to do (429, 503 or time-outs), so only "
            f"{self._limit} requests are in flight, and none of them ended within "
            f"{seconds:.1f} s: send less; bulk calls (synth_many) wait",
            endpoint=self._label,
            retry_after=_PAUSE,
        )

    def why_no_slot(self, free_at: float, now: float) -> str:
        """Return why a request could not leave before its deadline; `free_at`: when it could, with
        the limit of all endpoints together."""
        pause = self._limiter.paused_until - now
        if pause > 0:
            return f"the service asked to be left alone for {pause:.1f} s more (Retry-After)"
        if free_at > self._limiter.next_free(now):
            return (
                "the rate limit of all endpoints together (LimitConfig.rate) is booked out; send "
                "less or raise it"
            )
        rate, full = self.limits(now)[0], self._rate_limit
        if rate < full:
            return (
                f"after refusals (429) only {rate:.3g} of {full:g} requests/s are sent; send less"
            )
        return f"the rate limit of {full:g} requests/s is booked out; send less or raise its rate"

    def is_only_late(self, error: CosyError, now: float) -> bool:
        """Return whether a call timed out while others at this endpoint are answered: that is
        overload, and no sign that the endpoint has failed."""
        return isinstance(error, ReplyTimeout) and now - self._succeeded_at < self._recent

    def is_strained(self, now: float) -> bool:
        """Return whether fewer may be in flight because the endpoint has too much to do, and not
        because more would only wait there: a limit that is not used does not rise either."""
        concurrency = self._concurrency
        return concurrency.strained(now) and concurrency.limit < self._slow_start.limit

    def restart(self, now: float) -> None:
        """Begin with a few requests again: the endpoint was away."""
        with self._lock:
            self._slow_start.restart(now)
        self.resize()

    def is_calm(self, now: float) -> bool:
        """Return whether `admit` would let any call pass at once. The lock is held."""
        throttle = self._throttle
        if throttle.calls.all != throttle.calls.some and throttle.share(now) > 0.0:
            return False
        return not self._pace.lowered

    def record(
        self,
        error: CosyError | None,
        started: float,
        now: float,
        texts: Sequence[Utterance] = (),
    ) -> None:
        """Learn from what became of a call that was sent at that instant, and has given its slot
        back.

        Errors that say nothing about the endpoint (`accepted` is None) count for nothing.
        """
        if error is None:
            with self._lock:
                more = self.succeed(started, now, texts)
            if more:
                self.resize()
            return
        with self._lock:
            tells = self._make_do(error, started, now)
            fewer, slower = self._fail(error, started, now)
            lowered = self._pace.lowered
            rate, in_flight = self._pace.rate(now), self._limit
        self.resize()
        if lowered:
            self._set_rate(rate)
        if fewer or slower or tells:
            self._observer.on_event(LimitsLowered(self._label, rate, in_flight, error))

    def succeed(self, started: float, now: float, texts: Sequence[Utterance]) -> bool:
        """Learn from a good reply to a call that has given its slot back; return whether `resize`
        must follow. The lock is held."""
        in_flight = self._slots.limit - self._slots.free + 1
        self._succeeded_at = now
        self._throttle.record(True, now)
        if self._pace.lowered:
            self._pace.passed += 1
        more = self._concurrency.succeed(in_flight, started, now)
        slow_start = self._slow_start
        if slow_start.limit < slow_start.ceiling or now - started > slow_start.late:
            chars = len(texts[0].text) if len(texts) == 1 else _chars_of(texts)
            more |= slow_start.succeed(in_flight, started, now, chars)
        return more

    def resize(self) -> None:
        """Allow as many slots as the policies do. The lock is not held."""
        # Two threads may set it in the wrong order, so each looks at the limit once more.
        while self._slots.limit != (limit := self._limit):
            self._slots.resize(limit)

    def limits(self, now: float) -> tuple[float, int]:
        """Return the requests per second and the requests in flight that it allows now."""
        with self._lock:
            lowered = self._pace.lowered
            rate, in_flight = self._pace.rate(now), self._limit
        if lowered:
            self._set_rate(rate)
        return rate, in_flight

    def _set_rate(self, rate: float) -> None:
        """Let requests leave at a rate that was lowered, or has just risen to the full one. The
        lock is not held."""
        self._limiter.set_rate(rate)
        # Of two threads the one with the lower rate may come last, and then nobody sets it again.
        if not self._pace.lowered:
            self._limiter.set_rate(self._rate_limit)

    @property
    def _limit(self) -> int:
        return min(self._concurrency.limit, self._slow_start.limit)

    # -- under the lock -------------------------------------------------------------------------

    def _fail(self, error: CosyError, started: float, now: float) -> tuple[bool, bool]:
        """Learn from a call that failed; return whether fewer requests may be in flight, and
        whether they leave at a lower rate."""
        if error.accepted is None:
            return False, False
        self._throttle.record(error.accepted, now)
        if self._pace.lowered and not isinstance(error, ThrottledError):
            self._pace.passed += 1
        if error.accepted:  # an unpaid bill comes as 429 too
            return False, False
        status = getattr(error, "status", None)
        if status not in _OVERLOAD_STATUSES and not isinstance(error, ReplyTimeout):
            return False, False
        in_flight = self._slots.used + 1  # the call that is recorded has given its slot back
        if not isinstance(error, ThrottledError):
            most = self._slow_start.limit
            return self._concurrency.overload(in_flight, started, now, most), False
        if error.crowded:
            return self._concurrency.crowd(in_flight, started, now), False
        slower = self._pace.refuse(started, now, error.retry_after or 0.0)
        if error.by_rate and self._rate_limit != math.inf:
            return False, slower  # it says nothing about the number in flight
        return self._concurrency.overload(in_flight, started, now), slower

    def _make_do(self, error: CosyError, started: float, now: float) -> bool:
        """Keep no more in flight than this machine can carry, where it is out of something; more is
        tried again after a while. Return whether that is to be told."""
        if not isinstance(error, ResourceError):
            return False
        fewer = self._concurrency.crowd(self._slots.used + 1, started, now)
        tells = fewer or now >= self._told_at + _PAUSE
        if tells:
            self._told_at = now
        return tells


def _chars_of(texts: Sequence[Utterance]) -> int:
    return sum([len(utterance.text) for utterance in texts])
