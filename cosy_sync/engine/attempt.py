"""One try: admission, permits, a turn in the rate limit, the call itself, the judgement."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..audio import Verifier, read_audio
from ..clock import Clock
from ..errors import ClosedError, CosyError, RateLimitedError, RefusedError, ReplyTimeout
from ..events import AttemptFinished, Observer
from ..messages import Payload, Reply, Request
from ..models import Audio, Timing, Utterance
from ..wires.base import Wire
from .budget import Permits
from .job import Job
from .sizes import ReplySizes
from .station import Station

__all__ = ["Attempter", "Result", "Sender", "sleep"]

# Seconds by which a send may miss its booked instant and still count as booked there: 1 % of the
# second that the rate limit promises, less than what its rounding leaves free.
_PUNCTUAL = 0.01
# A time-out that had less than this share of the caller's time does not speak against the endpoint.
_FAIR_SHARE = 0.5

Result = Audio | CosyError


class Sender(Protocol):
    """What moves a request: the net's sender, or a fake."""

    def post(self, request: Request, seconds: float, max_bytes: int) -> Reply:
        """Send the request and return the reply within so many seconds, or raise CosyError."""
        ...


def sleep(clock: Clock, stop: threading.Event, seconds: float) -> None:
    """Sleep: the only place where a batch does, holding no permit and no lock.

    Raises ClosedError as soon as nobody wants the batch any more.
    """
    if clock.wait(stop, seconds):
        raise ClosedError("cancelled while it waited; the text was not finished")


@dataclass(frozen=True, kw_only=True)
class Attempter:
    """Makes single attempts. All of it is shared by every thread."""

    wires: Mapping[Station, Wire]
    sender: Sender
    bytes_in_flight: Permits
    sizes: ReplySizes
    verifier: Verifier
    observer: Observer
    clock: Clock
    sample_rate: int
    run_id: str = ""
    numbers: itertools.count[int] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_id", secrets.token_hex(6))
        object.__setattr__(self, "numbers", itertools.count(1))

    def attempt(
        self, job: Job, texts: Sequence[Utterance], station: Station, number: int
    ) -> Sequence[Result]:
        """Send texts to an endpoint and return audio or an error for each.

        Waits for a connection, memory and the rate limit, and then for the reply. Raises what
        failed for all of them: RefusedError or DeadlineError before sending, else what came.
        """
        clock, breaker = self.clock, station.breaker
        admission = breaker.admit(clock.now())
        verdict: CosyError | None = RefusedError("not sent")
        try:
            cost = self.sizes.expected(sum(len(text.text) for text in texts))
            self._enter(job, station, cost)
            started = clock.now()
            try:
                results = self._send(job, texts, station, number)
                verdict = None
            except CosyError as error:
                verdict = _verdict(job, error, started)
                raise
            finally:
                self._give(station, cost)
        finally:
            breaker.record(admission, verdict, clock.now())
        return results

    # -- before it is sent ----------------------------------------------------------------------

    def _enter(self, job: Job, station: Station, cost: int) -> None:
        """Wait for a free connection, room for the reply, and a turn in the rate limit.

        The wait for a turn holds neither of the others. Who then finds no connection free at once
        has missed the turn and books another: late sends must not bunch above the rate.
        """
        clock, deadline, limiter = self.clock, job.deadline, station.limiter
        while True:
            self._take(job, station, cost)
            now = clock.now()
            turn = limiter.reserve(now, deadline.at)
            if turn is not None and turn <= now:
                return
            self._give(station, cost)
            if turn is None:
                raise RateLimitedError(
                    f"the rate limit of {station.endpoint.rate:g} requests/s has no turn within "
                    f"the deadline of {deadline.seconds:g} s; send less or raise Endpoint(rate=)",
                    endpoint=station.label,
                    retry_after=limiter.next_free(now) - now,
                )
            sleep(clock, job.stop, turn - now)
            now = clock.now()
            punctual = now - turn <= _PUNCTUAL and limiter.paused_until <= now
            if punctual and self._take_now(job, station, cost):
                return

    def _take(self, job: Job, station: Station, cost: int) -> None:
        left = job.deadline.remaining(self.clock.now())
        if not self._permit(self.bytes_in_flight, job, cost, left):
            raise job.deadline.error("waiting for room in LimitConfig(max_bytes_in_flight)")
        left = job.deadline.remaining(self.clock.now())
        try:
            free = self._permit(station.slots, job, 1, left)
        except BaseException:
            self.bytes_in_flight.release(cost)
            raise
        if not free:
            self.bytes_in_flight.release(cost)
            raise job.deadline.error("waiting for a free connection")

    def _take_now(self, job: Job, station: Station, cost: int) -> bool:
        if not self._permit(self.bytes_in_flight, job, cost, 0.0):
            return False
        if self._permit(station.slots, job, 1, 0.0):
            return True
        self.bytes_in_flight.release(cost)
        return False

    def _give(self, station: Station, cost: int) -> None:
        station.slots.release()
        self.bytes_in_flight.release(cost)

    @staticmethod
    def _permit(permits: Permits, job: Job, cost: int, seconds: float) -> bool:
        return permits.acquire(cost, key=job.tenant, urgent=job.interactive, seconds=seconds)

    # -- the call -------------------------------------------------------------------------------

    def _send(
        self, job: Job, utterances: Sequence[Utterance], station: Station, number: int
    ) -> Sequence[Result]:
        texts = [utterance.text for utterance in utterances]
        request_id = f"{self.run_id}-{next(self.numbers)}"
        request = self.wires[station].encode(texts, request_id)
        started = self.clock.now()
        left = job.deadline.remaining(started)
        reply: Reply | None = None
        failure: CosyError | None = None
        payloads: Sequence[Payload | CosyError] = ()
        try:
            reply = self.sender.post(request, left, self.sizes.most(texts))
            payloads = self.wires[station].decode(reply, texts)
        except CosyError as error:
            failure = error.with_details(endpoint=station.label)
        timing = self._timing(job, station, started, reply, request_id, number)
        self._tell(timing, texts, reply, failure)
        if failure is not None:
            raise failure
        assert reply is not None
        self.sizes.learn(sum(map(len, texts)), len(reply.body))
        results = [self._open(payload, timing) for payload in payloads]
        return self.verifier.check(texts, results)

    def _open(self, payload: Payload | CosyError, timing: Timing) -> Result:
        if isinstance(payload, CosyError):
            return payload
        try:
            return read_audio(payload, sample_rate=self.sample_rate, timing=timing)
        except CosyError as error:
            return error

    def _timing(
        self,
        job: Job,
        station: Station,
        started: float,
        reply: Reply | None,
        request_id: str,
        number: int,
    ) -> Timing:
        return Timing(
            started=started,
            queued=started - job.deadline.started,
            connect=reply.connect if reply else 0.0,
            first_byte=reply.first_byte if reply else 0.0,
            total=self.clock.now() - started,
            attempts=number,
            endpoint=station.label,
            request_id=request_id,
        )

    def _tell(
        self, timing: Timing, texts: Sequence[str], reply: Reply | None, error: CosyError | None
    ) -> None:
        self.observer.on_event(
            AttemptFinished(
                timing=timing,
                texts=len(texts),
                chars=sum(map(len, texts)),
                reply_bytes=reply.received if reply else 0,
                error=error,
            )
        )


def _verdict(job: Job, error: CosyError, started: float) -> CosyError:
    had = job.deadline.at - started
    if isinstance(error, ReplyTimeout) and had < _FAIR_SHARE * job.deadline.seconds:
        return RefusedError("too little time to judge the endpoint by")
    return error
