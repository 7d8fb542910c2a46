"""One endpoint, or one address of it, as the engine sees it: limits, breaker, load, health."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..atomic import Flag
from ..clock import Clock
from ..config import ClientConfig, Endpoint
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
from ..threads.permits import Permits, PermitWaiter
from .joint_limiter import JointLimiter
from .limiter import EndpointLimiter, make_limiter
from .overload import OverloadControl
from .sharing import EndpointSharing
from .sizes import EndpointSizes

__all__ = ["Attempt", "EndpointObserver", "EndpointState"]

# Seconds of Retry-After that are obeyed at most: one odd reply must not disable an endpoint.
_LONGEST_PAUSE = 600.0
# Seconds for which a 503 is not the text's fault, while fewer may be in flight because of such.
_OVERLOADED = 30.0

_ANY, _PATIENT = Call(), Call(patient=True)
# What the breaker is given in place of an error that does not tell of the endpoint.
_ONLY_LATE = RefusedError("too late, while others were answered")
_IN_COMPANY = RefusedError("one of its texts may be to blame")
_OWN_FAULT = RefusedError("the request fails while others succeed", accepted=True)


class Attempt:
    """An attempt in flight; `holds` a place there; `ended` when its reply had come, None before."""

    __slots__ = ("admission", "call", "ended", "endpoint", "holds", "sent")

    def __init__(
        self, endpoint: EndpointState, admission: Admission, sent: float, call: Call, *, holds: bool
    ) -> None:
        self.endpoint, self.admission, self.call = endpoint, admission, call
        self.sent, self.holds = sent, holds
        self.ended: float | None = None


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

    It has one lock, which its slots, limiter, breaker and overload control use as well. Mostly
    everything allows a request, which `admit` finds out in one step under it; what must wait asks
    one after the other, and holds nothing of them meanwhile. An answer is noted in one step too
    (`settle`). A shared limit has a lock of its own: no lock is taken under another.

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
        self._observer, self._clock = observer, clock
        # Guards what changes, here and in what is made with it, but for the number of attempts in
        # flight or waiting for their slot: a deque's length, of which each step is atomic.
        self._lock = lock = threading.Lock()
        self._here: deque[None] = deque()
        # Set when nobody is here any more. Every use of it is one atomic step.
        self._idle_waiters: list[Flag] = []
        self.slots = Permits(endpoint.max_connections, lock=lock)
        # Closes the idle connections to a URL's host; set by the endpoint pool.
        self.close_idle: Callable[[str], None] = lambda url: None
        self._sharing = sharing = EndpointSharing(
            endpoint, self.label, config, self._tell_sharing, lambda: self.close_idle(endpoint.url)
        )
        # This client's share of the places, where several share them; None where nobody does.
        self.shared_slots = sharing.slots
        self._own_limiter = own = make_limiter(
            self.label, endpoint.rate_limit, config.sharing, observer, clock, lock=lock
        )
        self.limiter: EndpointLimiter | JointLimiter = own
        # Whether its lock guards all that a request needs; else `admit` never lets one go.
        self._admits = own.lock is lock and self.shared_slots is None
        listeners, on_change = config.breaker.listeners, self._tell
        self.breaker = Breaker(
            config.breaker, self.label, on_change=on_change, listeners=listeners, lock=lock
        )
        sharing.link(self.breaker, clock)
        self._begin_to_learn(config)

    def _begin_to_learn(self, config: ClientConfig) -> None:
        limited = self.slots, self._own_limiter
        self.overload = OverloadControl(
            self.endpoint, config, *limited, self._observer, label=self.label
        )
        self.health = Health()  # its fields belong to the ejector
        self.silence = Silence()
        self._trouble = ""  # what the latest failure said, of several any
        self.sizes = EndpointSizes(self._lock)
        most = config.overload.throttle_min_calls
        self.faults = BatchFaults(config.breaker.window, config.breaker.failure_ratio, most)
        self._blame = Blame()
        self._latency = LatencyEwma()

    @property
    def places(self) -> int:
        """Return how many requests may be in flight at once."""
        return self.slots.limit

    @property
    def busy(self) -> int:
        """Return how many attempts are in flight or wait for their slot."""
        return len(self._here)

    def join(self, now: float) -> None:
        """Note that an attempt begins."""
        if self._sharing.active:
            self._sharing.join()
        if not self._here:
            self._latency.progress = now
        self._here.append(None)

    def leave(self, now: float) -> None:
        """Note that an attempt ended, or was not sent."""
        self._latency.progress = now
        self._here.pop()
        if self._idle_waiters:  # almost never
            self._tell_idle()

    def _tell_idle(self) -> None:
        for idle in () if self._here else list(self._idle_waiters):
            idle.set()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no attempt is here, at most `seconds`; return whether that came."""
        idle = Flag()
        self._idle_waiters.append(idle)
        # Whoever leaves looks at the waiters afterwards: of the two one sees the other.
        came = not self._here or idle.wait(seconds)
        self._idle_waiters.remove(idle)
        return came

    # -- one attempt ----------------------------------------------------------------------------

    def admit(self, urgent: bool, call: Call, now: float) -> Attempt | None:
        """Let an attempt go at once: give it a place and a slot where breaker, overload control,
        places and rate limit all allow it, in one step.

        Return None where any of them does not, or cannot be asked in this step: then nothing is
        held, and each is to be asked by itself.
        """
        if not self._admits:
            return None
        took = goes = False
        try:
            with self._lock:
                ticket = self.breaker.ticket
                if ticket is not None and self.overload.is_calm(now):
                    took = self.slots.take(urgent)
                    goes = took and self._own_limiter.go_first(now, urgent)
            if goes and ticket is not None:
                return Attempt(self, ticket, now, call, holds=True)
        except BaseException:  # Ctrl-C on the way out
            if took:
                self.slots.release()
            raise
        if took:
            self.slots.release()
        return None

    def settle(
        self,
        attempt: Attempt,
        error: CosyError | None,
        now: float,
        seconds: float,
        texts: Sequence[Utterance],
    ) -> CosyError | None:
        """Note what became of an attempt, and give its place back; return what it says of this."""
        self._latency.progress = now  # as `leave`: every text comes here
        self._here.pop()
        if self._idle_waiters:
            self._tell_idle()
        if error is not None:
            if attempt.holds:
                self.slots.release()
            return self._fail(attempt, error, now, seconds, texts)
        # An answer gives the place back, and all learn from it, in one step.
        call, overload, breaker = attempt.call, self.overload, self.breaker
        count, slow = len(texts), seconds >= breaker.slow_call
        woken: Sequence[PermitWaiter] = ()
        with self._lock:
            if attempt.holds:
                woken = self.slots.put_back()
            if count > 1 or call.apart or self.faults.held_back:
                self.faults.succeed(count, call.apart, now)
            self._blame.succeed(call, attempt.sent, now)
            resizes = overload.succeed(attempt.sent, now, texts)
            tells = not slow and breaker.succeed(attempt.admission, now)
        for waiter in woken:
            waiter.set()
        if resizes:
            overload.resize()
        if slow:
            breaker.record(attempt.admission, None, now, seconds)
        elif tells:
            breaker.report(True, None)
        return None

    def _fail(
        self,
        attempt: Attempt,
        error: CosyError,
        now: float,
        seconds: float,
        texts: Sequence[Utterance],
    ) -> CosyError:
        """Learn from an attempt that failed; return what that says about this endpoint."""
        failing_kind: int | None = None
        times = 1
        only_late = self.overload.is_only_late(error, now)
        if error.trips and not only_late:
            with self._lock:
                if self._blame.fail(attempt.call, now, error.sent):
                    error = _OWN_FAULT
                else:
                    failing_kind = self._blame.failing_kind(now)
                    if may_be_text(error):
                        kind = attempt.call.apart, attempt.admission.probe
                        times = self.faults.fail(len(texts), *kind, now, self.breaker.dies_of)
        if error.trips:
            self._trouble = error.message
        said = error if times else _IN_COMPANY
        for _ in range(times or 1):
            self.overload.record(said, attempt.sent, now, texts)
        if only_late:
            error = said = _ONLY_LATE
        for _ in range(times or 1):
            self.breaker.record(attempt.admission, said, now, seconds, failing_kind)
        return error

    def is_well_for(self, call: Call, now: float) -> bool:
        """Return whether calls failed lately, but only of another kind, which is to blame."""
        if not self._blame.failing:  # almost always
            return False
        with self._lock:
            return self._blame.only_others_fail(call.kind, now)

    @property
    def has_answered(self) -> bool:
        """Return whether anything was ever spoken there."""
        return self._blame.has_succeeded

    def is_away(self, kind: int, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text of this kind that first fared like this met an outage."""
        return self.breaker.seems_dead or self._blame.is_outage(kind, error, first, now)

    def is_overloaded(self, error: CosyError, first: FirstTry, now: float) -> bool:
        """Return whether a text that first fared like this met a service with too much to do."""
        busy = getattr(error, "status", None) == 503 and self.overload.is_strained(now)
        return busy and now - first.failed < _OVERLOADED

    def may_be_chance(self, error: CosyError, refusals: int, now: float) -> bool:
        """Return whether a service that is too busy may refuse a text so often in a row."""
        return getattr(error, "status", None) != 503 or self._blame.is_chance(refusals, now)

    def judge(
        self,
        texts: Sequence[Utterance],
        results: Sequence[Audio | CosyError],
        error: CosyError | None,
        sent: float,
        now: float,
        seconds: float,
    ) -> None:
        """Learn how well and how fast this endpoint speaks from an attempt of so many seconds."""
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

    def may_try(self, texts: int, now: float) -> bool:
        """Return whether so many texts may be sent after fewer passed: not as a breaker's probe."""
        return self.sizes.lets_try(texts, self.breaker.state == "closed", now)

    def limit_with(self, common: EndpointLimiter) -> None:
        """Let requests leave only when the limit of all endpoints together allows it too."""
        self.limiter = JointLimiter(self._own_limiter, common)
        self._admits = False

    def went_silent(self, deadline: Deadline, now: float) -> DeadlineError:
        """Return what a text ends with that waited, unsent, for an answer to others."""
        phase, seconds = "waiting to be sent", max(0.0, now - self.silence.since)
        trouble = f" (the latest failure: {self._trouble})" if self._trouble else ""
        return deadline.error(
            f"{phase}; {self.label} has answered nothing for {seconds:.1f} s{trouble}"
            ": is it up, and is the address right? Raise the deadline to wait longer"
        ).with_details(endpoint=self.label, phase=phase)

    def obey(self, error: CosyError, now: float) -> None:
        """Pause as long as the service said, not for ever, nor where waiting changes nothing."""
        retry_after: float | None = getattr(error, "retry_after", None)
        if error.retryable and retry_after is not None and retry_after > 0:
            self.limiter.pause(now + min(retry_after, _LONGEST_PAUSE))

    def close(self, seconds: float) -> None:
        """End what shares limiter and breaker with others; wait at most `seconds`."""
        self._own_limiter.close(seconds)
        self._sharing.close(seconds)

    def close_slots(self) -> None:
        """Wake everybody who waits for a place, and let nobody in any more."""
        self.slots.close()
        if self.shared_slots is not None:
            self.shared_slots.close()

    def _tell(self, old: str, new: str) -> None:
        self._sharing.publish(new)
        if new == "open":
            self.overload.restart(self._clock.now())
        self._observer.on_event(BreakerChanged(self.label, old, new))

    def _tell_sharing(self, what: str, shared: bool, reason: str) -> None:
        self._observer.on_event(SharingChanged(self.label, what, shared, reason))
