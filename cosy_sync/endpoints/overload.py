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
        self._pace = AdaptiveRate(endpoint.rate_limit, overload.decrease, overload.recovery)
        self._recent = _RECENT * first_byte
        # When a good reply ended last. Written without a lock: of several at once any one will do.
        self._succeeded_at = -math.inf
        # When it was last told that this machine is out of something; as above.
        self._told_at = -math.inf
        self._resize()

    def admit(self, urgent: bool, now: float, waited: float = 0.0) -> None:
        """Let a call pass that has waited so many seconds, at the rate of this instant.

        An urgent call does not wait long for a service that is refusing calls. Raises
        OverloadError.
        """
        if self._throttle.refuses(now):
            share = self._throttle.share(now)
            raise OverloadError(
                f"the service accepts too few calls, so {100 * share:.0f} % of them are held back "
                "until it recovers: try again in a few seconds; bulk calls (synth_many) wait",
                endpoint=self._label,
                retry_after=_PAUSE,
            )
        if not self._pace.lowered:
            return
        rate = self._pace.rate(now)
        self._limiter.set_rate(rate)
        wait = self._limiter.next_free(now, urgent) - now
        if urgent and not self._patience.bears(waited + wait, rate, now):
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
        if not urgent or not self._concurrency.strained(now):
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

    def is_only_late(self, error: CosyError, now: float) -> bool:
        """Return whether a call timed out while others at this endpoint are answered: that is
        overload, and no sign that the endpoint has failed."""
        return isinstance(error, ReplyTimeout) and now - self._succeeded_at < self._recent

    def is_strained(self, now: float) -> bool:
        """Return whether fewer may be in flight because the endpoint has too much to do."""
        return self._concurrency.strained(now)

    def restart(self, now: float) -> None:
        """Begin with a few requests again: the endpoint was away."""
        self._slow_start.restart(now)
        self._resize()

    def record(
        self,
        error: CosyError | None,
        started: float,
        now: float,
        texts: Sequence[Utterance] = (),
    ) -> None:
        """Learn from what became of a call that was sent at that instant.

        Errors that say nothing about the endpoint (`accepted` is None) count for nothing.
        """
        if error is None:
            self._succeeded_at = now
            self._throttle.record(True, now)
            in_flight = self._slots.used + 1  # as in `_in_flight`: every call comes here
            more = self._concurrency.succeed(in_flight, started, now)
            if self._slow_start.asks(now - started):
                chars = len(texts[0].text) if len(texts) == 1 else _chars_of(texts)
                more |= self._slow_start.succeed(in_flight, started, now, chars)
            if more:
                self._resize()
            return
        if isinstance(error, ResourceError):
            self._make_do(error, started, now)
        if error.accepted is None:
            return
        self._throttle.record(error.accepted, now)
        if error.accepted:  # an unpaid bill comes as 429 too
            return
        status = getattr(error, "status", None)
        if status not in _OVERLOAD_STATUSES and not isinstance(error, ReplyTimeout):
            return
        slower = False
        if isinstance(error, ThrottledError) and error.crowded:
            fewer = self._concurrency.crowd(self._in_flight(), started, now)
        else:
            # A rate that is too high says nothing about the number in flight.
            throttled = isinstance(error, ThrottledError)
            most = math.inf if throttled else self._slow_start.limit
            fewer = self._concurrency.overload(self._in_flight(), started, now, most)
        if isinstance(error, ThrottledError) and not error.crowded:
            slower = self._pace.refuse(started, now, error.retry_after or 0.0)
        if fewer:
            self._resize()
        if slower:
            self._limiter.set_rate(self._pace.rate(now))
        if fewer or slower:
            rate, in_flight = self.limits(now)
            self._observer.on_event(LimitsLowered(self._label, rate, in_flight, error))

    def _make_do(self, error: ResourceError, started: float, now: float) -> None:
        """Keep no more in flight than this machine can carry; more is tried again after a while."""
        fewer = self._concurrency.crowd(self._in_flight(), started, now)
        if fewer:
            self._resize()
        if fewer or now >= self._told_at + _PAUSE:
            self._told_at = now
            rate, in_flight = self.limits(now)
            self._observer.on_event(LimitsLowered(self._label, rate, in_flight, error))

    def limits(self, now: float) -> tuple[float, int]:
        """Return the requests per second and the requests in flight that it allows now."""
        return self._pace.rate(now), self._limit

    @property
    def _limit(self) -> int:
        return min(self._concurrency.limit, self._slow_start.limit)

    def _in_flight(self) -> int:
        return self._slots.used + 1  # the call that is recorded has given its slot back

    def _resize(self) -> None:
        # Two threads may set it in the wrong order, so each looks at the limit once more.
        while self._slots.limit != (limit := self._limit):
            self._slots.resize(limit)


def _chars_of(texts: Sequence[Utterance]) -> int:
    return sum([len(utterance.text) for utterance in texts])
