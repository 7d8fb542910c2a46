"""What one endpoint bears: watches its answers, and holds back what would only add to overload."""

from __future__ import annotations

import math

from ..config import Endpoint, OverloadConfig
from ..errors import CosyError, OverloadError, ReplyTimeout, ThrottledError
from ..events import LimitsLowered, Observer
from ..policies import Concurrency, Pace, Patience, Throttle
from .budget import Permits
from .turns import Turns

__all__ = ["Governor"]

# Seconds after which a call that was held back may ask again.
_PAUSE = 1.0
# The service says that it has too much to do; 504 is the time-out of a gateway before it.
_OVERLOAD_STATUSES = (429, 503, 504)


class Governor:
    """Turns an endpoint's answers into its limits: slots, rate, and a share that is refused.

    Three signs, three answers. 429s close together lower the rate (Pace). 429, 503 and time-outs
    lower the requests in flight (Concurrency); a 429 that says that too many were in flight lowers
    nothing else. Where the endpoint accepts less than half of the calls, most are not sent at all
    (Throttle).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: OverloadConfig,
        slots: Permits,
        limiter: Turns,
        observer: Observer,
        *,
        label: str | None = None,
    ) -> None:
        self._label = label or endpoint.label
        self._slots = slots
        self._limiter = limiter
        self._observer = observer
        self._longest = config.patience
        self._patience = Patience(config.patience)
        self._throttle = Throttle(config)
        self._concurrency = Concurrency(endpoint.max_connections, config.decrease)
        self._pace = Pace(endpoint.rate, config.decrease, config.recovery)

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
                f"turn would have come after {waited + wait:.1f} s: send less; bulk calls "
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
        return max(self._longest, self._concurrency.round_trip)

    def no_place(self, seconds: float) -> OverloadError:
        """Return what a call ends with that has waited so long for its place."""
        return OverloadError(
            "the service has too much to do (429, 503 or time-outs), so only "
            f"{self._concurrency.limit} requests are in flight, and none of them ended within "
            f"{seconds:.1f} s: send less; bulk calls (synth_many) wait",
            endpoint=self._label,
            retry_after=_PAUSE,
        )

    def record(self, error: CosyError | None, started: float, now: float) -> None:
        """Learn from what became of a call that was sent at that instant.

        Errors that say nothing about the endpoint (`accepted` is None) count for nothing.
        """
        if error is None:
            self._throttle.record(True, now)
            if self._concurrency.succeed(self._in_flight(), started, now):
                self._resize()
            return
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
            fewer = self._concurrency.overload(self._in_flight(), started, now)
        if isinstance(error, ThrottledError) and not error.crowded:
            slower = self._pace.refuse(started, now, error.retry_after or 0.0)
        if fewer:
            self._resize()
        if slower:
            self._limiter.set_rate(self._pace.rate(now))
        if fewer or slower:
            rate, in_flight = self.limits(now)
            self._observer.on_event(LimitsLowered(self._label, rate, in_flight, error))

    def limits(self, now: float) -> tuple[float, int]:
        """Return the requests per second and the requests in flight that it allows now."""
        return self._pace.rate(now), self._concurrency.limit

    def _in_flight(self) -> int:
        return self._slots.used + 1  # the call that is recorded has given its slot back

    def _resize(self) -> None:
        # Two threads may come in the wrong order: whoever sets the slots looks once more.
        while self._slots.limit != (limit := self._concurrency.limit):
            self._slots.resize(limit)
