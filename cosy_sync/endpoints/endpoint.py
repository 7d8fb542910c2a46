"""One endpoint, or one address of it, as the engine sees it: limits, breaker, load, health."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..atomic import Flag
from ..clock import Clock
from ..config import ClientConfig, Endpoint, SharingConfig
from ..errors import (
    BadAudioError,
    ConnectError,
    CosyError,
    DeadlineError,
    RefusedError,
    ReplyTimeout,
)
from ..events import BreakerChanged, Observer, SharingChanged
from ..models import Audio, Utterance
from ..policies import (
    Admission,
    BatchFaults,
    BatchSize,
    Blame,
    Breaker,
    Call,
    Deadline,
    FirstTry,
    Health,
    LatencyEwma,
    Silence,
)
from ..policies.balancer import SOON
from ..policies.refusals import may_be_text
from ..shared import BreakerLink, PlaceBook, SharedPlaces
from ..threads.permits import Permits
from .joint_limiter import JointLimiter
from .limiter import EndpointLimiter, make_limiter
from .overload import OverloadControl
from .shared_breaker import link_breaker

__all__ = ["Attempt", "EndpointObserver", "EndpointState"]

# Seconds of Retry-After that are obeyed at most: one odd reply must not disable an endpoint.
_LONGEST_PAUSE = 600.0
# Seconds for which a 503 is not the text's fault, while fewer may be in flight because of such.
_OVERLOADED = 30.0

_ANY, _PATIENT = Call(), Call(patient=True)
# What the breaker is given for a time-out that is overload, and for a request that is itself to
# blame: the endpoint took that one.
_ONLY_LATE = RefusedError("too late, while others were answered")
_IN_COMPANY = RefusedError("one of its texts may be to blame")
_OWN_FAULT = RefusedError("the request fails while others succeed", accepted=True)


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt in flight: where, how the breaker admitted it, when it was sent, and whether it
    holds a place there."""

    endpoint: EndpointState
    admission: Admission
    sent: float
    call: Call
    holds: bool = True


class EndpointObserver(Protocol):
    """The other endpoints, as one of several needs them."""

    def judge(self, endpoint: EndpointState, failed: float, sent: float, now: float) -> None:
        """Note a call, `failed` being the share of its texts that did."""
        ...

    def look_again(self, now: float) -> None:
        """Look the addresses up soon: one of them does not answer."""
        ...


class EndpointState:
    """The state that all callers of one endpoint, or of one of its addresses, share.

    `pool` is None where there is no other endpoint and never will be: then nothing is measured
    that only a choice needs.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: ClientConfig,
        observer: Observer,
        clock: Clock,
        *,
        address: str | None = None,
        pool: EndpointObserver | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.weight = endpoint.weight
        self.address = address
        self.label = endpoint.label if address is None else f"{endpoint.label} ({address})"
        self.pool = pool
        self._observer = observer
        self.slots = Permits(endpoint.max_connections)
        # Closes the idle connections to a URL's host; set by the endpoint pool.
        self.close_idle: Callable[[str], None] = lambda url: None
        # This client's share of them, where several share them; None where nobody does.
        self.shared_slots: Permits | None = None
        self._places = self._share_places(config.sharing)
        self._own_limiter = own = make_limiter(
            self.label, endpoint.rate_limit, config.sharing, observer, clock
        )
        self.limiter: EndpointLimiter | JointLimiter = own
        self.breaker, self._link = self._make_breaker(config, clock)
        self.overload = OverloadControl(
            endpoint, config, self.slots, own, observer, label=self.label
        )
        self._clock = clock
        self.health = Health()  # its fields belong to the ejector
        self.silence = Silence()
        self._trouble = ""  # what the latest failure said, of several any

        # Guards what changes below: busy counts attempts in flight or waiting for their slot.
        self._lock = threading.Lock()
        self.sizes = BatchSize()
        self.busy = 0
        most = config.overload.throttle_min_calls
        self.faults = BatchFaults(config.breaker.window, config.breaker.failure_ratio, most)
        # Set when nobody is here any more.
        self._idle_waiters: list[Flag] = []
        self._blame = Blame()
        self._latency = LatencyEwma()

    def _make_breaker(
        self, config: ClientConfig, clock: Clock
    ) -> tuple[Breaker, BreakerLink | None]:
        listeners = config.breaker.listeners
        breaker = Breaker(config.breaker, self.label, on_change=self._tell, listeners=listeners)
        tell = functools.partial(self._tell_sharing, "breaker")
        return breaker, link_breaker(config, self.label, clock, breaker, tell)

    @property
    def places(self) -> int:
        """Return how many requests may be in flight at once."""
        return self.slots.limit

    def join(self, now: float) -> None:
        """Note that an attempt begins."""
        if self._link is not None:
            self._link.start()
        if self._places is not None:
            self._places.look()
        with self._lock:
            if not self.busy:
                self._latency.progress = now
            self.busy += 1

    def leave(self, now: float) -> None:
        """Note that an attempt ended before it was sent."""
        with self._lock:
            self._latency.progress = now
            self.busy -= 1
        if self._idle_waiters:  # almost never
            self._wake_idle()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no attempt is here, at most so many seconds; return whether that came."""
        idle = Flag()
        with self._lock:
            if not self.busy:
                return True
            self._idle_waiters.append(idle)
        return idle.wait(seconds)

    def _wake_idle(self) -> None:
        """Tell those who wait for it that nobody is here, if that is so."""
        with self._lock:
            if self.busy:
                return
            waiters, self._idle_waiters = self._idle_waiters, []
        for idle in waiters:
            idle.set()

    def settle(
        self,
        attempt: Attempt,
        error: CosyError | None,
        now: float,
        seconds: float,
        texts: Sequence[Utterance],
    ) -> CosyError | None:
        """Note what became of an attempt that was sent, and how long the service took; return what
        that says about this endpoint."""
        culprit: int | None = None
        times = 1
        only_late = error is not None and self.overload.is_only_late(error, now)
        with self._lock:
            self._latency.progress = now
            self.busy -= 1
            if error is None:
                self.faults.succeed(len(texts), attempt.call.apart, now)
                self._blame.succeed(attempt.call, attempt.sent, now)
            elif error.trips and not only_late:
                if self._blame.fail(attempt.call, now, error.sent):
                    error = _OWN_FAULT
                else:
                    culprit = self._blame.culprit(now)
                    if may_be_text(error):
                        kind = attempt.call.apart, attempt.admission.probe
                        times = self.faults.fail(len(texts), *kind, now, self.breaker.dies_of)
        if self._idle_waiters:  # almost never
            self._wake_idle()
        if error is not None and error.trips:
            self._trouble = error.message
        said = error if times else _IN_COMPANY
        for _ in range(times or 1):
            self.overload.record(said, attempt.sent, now, texts)
        if only_late:
            error = said = _ONLY_LATE
        for _ in range(times or 1):
            self.breaker.record(attempt.admission, said, now, seconds, culprit)
        return error

    def is_well_for(self, call: Call, now: float) -> bool:
        """Return whether calls failed lately, but only of another kind, which is to blame."""
        if not self._blame.failing:  # almost always
            return False
        with self._lock:
            return self._blame.acquits(call.kind, now)

    def is_away(self, kind: int, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text of this kind that first fared like this met an outage."""
        return self.breaker.seems_dead or self._blame.is_outage(kind, error, first, now)

    def is_overloaded(self, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text that first fared like this met a service with too much to do."""
        busy = getattr(error, "status", None) == 503 and self.overload.is_strained(now)
        return busy and now - first.failed < _OVERLOADED

    def judge(
        self,
        texts: Sequence[Utterance],
        results: Sequence[Audio | CosyError],
        error: CosyError | None,
        sent: float,
        now: float,
        seconds: float,
    ) -> None:
        """Learn from an attempt how well and how fast this endpoint speaks, for the next choice.

        It took so many seconds; a stream's listener may have made it last longer.
        """
        assert self.pool is not None
        if error is None or isinstance(error, ReplyTimeout):
            chars = sum([len(utterance.text) for utterance in texts])
            with self._lock:
                self._latency.add(seconds, chars, now)
        if error is None:
            bad = [result for result in results if isinstance(result, BadAudioError)]
            self.pool.judge(self, len(bad) / len(results), sent, now)
        elif error.trips or isinstance(error, BadAudioError):
            self.pool.judge(self, 1.0, sent, now)
            if isinstance(error, ConnectError):
                self.pool.look_again(now)

    def wait(self, now: float, patient: bool = False) -> float:
        """Return the seconds until it takes a request: breaker, rate limit, Retry-After.

        One that is ejected is never soon. To a patient caller an open breaker opens early.
        """
        asked = self.breaker.remaining(now, _PATIENT if patient else _ANY)
        wait = max(asked, self.limiter.next_free(now) - now)
        if self.health.ejected and (left := self.health.wait(now)) > 0:
            return max(wait, left + SOON)
        return wait

    def load(self) -> str:
        """Return how many requests are in flight here, in words."""
        count = self.slots.used + 1  # the call that asks has given its place back
        return f"{count} request{'s were' if count > 1 else ' was'} in flight there"

    def pace(self, now: float) -> float | None:
        """Return the seconds per character that it takes lately, None when not known."""
        return self._latency.per_char(now, self.busy)

    def texts_at_most(self, texts: int, now: float) -> int:
        """Return how many of so many texts its next call may have."""
        if self.sizes.limit is None:
            return texts
        with self._lock:
            return self.sizes.most(texts, now)

    def may_try(self, texts: int, now: float) -> bool:
        """Return whether so many texts may be sent after fewer of them passed: not by the few
        probes that its breaker lets through."""
        with self._lock:
            safe = texts <= self.sizes.best or self.breaker.state == "closed"
            return safe and self.sizes.may_try(texts, now)

    def note_size(self, texts: int, answered: bool, now: float) -> None:
        """Note whether a call of so many texts was answered, or was or may have been too large."""
        with self._lock:
            if answered:
                self.sizes.succeed(texts, now)
            else:
                self.sizes.fail(texts, now)

    def learn_size(self, failed: int, passed: int, sure: bool, now: float) -> None:
        """Note that so many texts failed in one call, and all of them passed in smaller ones;
        whether that is sure to be no chance."""
        with self._lock:
            if sure:
                self.sizes.learn(failed, passed, now)
            else:
                self.sizes.doubt(failed, passed, now)

    def limit_with(self, common: EndpointLimiter) -> None:
        """Let requests leave only when the limit of all endpoints together allows it too."""
        self.limiter = JointLimiter(self._own_limiter, common)

    def why_no_slot(self, now: float) -> str:
        """Return why a request could not leave before its deadline."""
        own = self._own_limiter
        pause = own.paused_until - now
        if pause > 0:
            return f"the service asked to be left alone for {pause:.1f} s more (Retry-After)"
        if self.limiter.next_free(now) > own.next_free(now):
            return (
                "the rate limit of all endpoints together (LimitConfig.rate) is booked out; send "
                "less or raise it"
            )
        rate, full = self.overload.limits(now)[0], self.endpoint.rate_limit
        if rate < full:
            return (
                f"after refusals (429) only {rate:.3g} of {full:g} requests/s are sent; send less"
            )
        return f"the rate limit of {full:g} requests/s is booked out; send less or raise its rate"

    def went_silent(self, deadline: Deadline, now: float) -> DeadlineError:
        """Return what a text ends with that waited, unsent, for an answer to others."""
        phase, seconds = "waiting to be sent", max(0.0, now - self.silence.since)
        trouble = f" (the latest failure: {self._trouble})" if self._trouble else ""
        return deadline.error(
            f"{phase}; {self.label} has answered nothing for {seconds:.1f} s{trouble}"
            ": is it up, and is the address right? Raise the deadline to wait longer"
        ).with_details(endpoint=self.label, phase=phase)

    def obey(self, error: CosyError, now: float) -> None:
        """Pause when the service said when to come back, but not for ever; and not for a refusal
        that waiting does not change, such as one of the key."""
        retry_after: float | None = getattr(error, "retry_after", None)
        if error.retryable and retry_after is not None and retry_after > 0:
            self.limiter.pause(now + min(retry_after, _LONGEST_PAUSE))

    def close(self, seconds: float) -> None:
        """End what shares limiter and breaker with others; wait at most so many seconds."""
        self._own_limiter.close(seconds)
        if self._places is not None:
            self._places.close(seconds)
        if self._link is not None:
            self._link.close(seconds)

    def _share_places(self, sharing: SharingConfig) -> SharedPlaces | None:
        if sharing.redis_url is None or not sharing.connections:
            return None
        most, url = self.endpoint.max_connections, self.endpoint.url
        self.shared_slots = Permits(most)
        return SharedPlaces(
            self.shared_slots,
            PlaceBook(sharing, self.label, most),
            sharing.clients,
            lambda: self.close_idle(url),
            functools.partial(self._tell_sharing, "connections"),
        )

    def close_slots(self) -> None:
        """Wake everybody who waits for a place, and let nobody in any more."""
        self.slots.close()
        if self.shared_slots is not None:
            self.shared_slots.close()

    def _tell(self, old: str, new: str) -> None:
        if self._link is not None:
            self._link.publish(new)
        if new == "open":
            self.overload.restart(self._clock.now())
        self._observer.on_event(BreakerChanged(self.label, old, new))

    def _tell_sharing(self, what: str, shared: bool, reason: str) -> None:
        self._observer.on_event(SharingChanged(self.label, what, shared, reason))
