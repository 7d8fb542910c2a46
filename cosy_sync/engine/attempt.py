"""One try: admission, permits, a slot of the rate limit, the call itself, the judgement."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..audio import Verifier, read_audio
from ..clock import Clock
from ..endpoints.endpoint import Attempt, EndpointState
from ..errors import (
    BadAudioError,
    ClosedError,
    CosyError,
    RefusedError,
    ReplyTimeout,
    ThrottledError,
)
from ..events import AttemptFinished, AudioRefused, Observer, Observers, RetryPlanned
from ..messages import Payload, Reply
from ..models import Audio, Timing, Utterance
from ..policies import Call
from ..threads import leave
from ..threads.permits import Permits
from ..user_code import unexpected
from ..wires.base import Wire
from .admission import Entry
from .audio_check import ask
from .batch import Batch
from .encoding import Encoding
from .ports import ReplyStream, Result, Sender
from .reply_bounds import ReplyBounds
from .request_ids import next_request_id
from .sending import Sending

__all__ = ["Attempt", "AttemptRunner", "fair_verdict", "sleep"]

# If an attempt had less than this many seconds, its deadline is to blame for a time-out, not the
# endpoint.
_FAIR_SECONDS = 2.0

# How audio is refused that was right, but another request's: had a reply come twice, the same would
# become of each that follows, and not all of them could be told.
ANOTHERS = frozenset({"identical", "misplaced", "long", "short", "count", "index", "missing"})

# What is noted of an attempt that says nothing about the endpoint.
NOT_SENT = RefusedError("not sent")


def sleep(clock: Clock, stop: threading.Event, seconds: float) -> None:
    """Sleep between two attempts, holding no permit and no lock.

    Raises ClosedError as soon as the batch is cancelled.
    """
    leave()
    if clock.wait(stop, seconds):
        raise ClosedError("cancelled while it waited; the text was not finished")


@dataclass(frozen=True, kw_only=True)
class AttemptRunner:
    """Makes single attempts. All of it is shared by every thread."""

    wires: Mapping[str, Wire]  # by the endpoint's URL
    sender: Sender
    memory: Permits
    connections: Permits | None
    # Since when no endpoint has answered, though it was asked.
    silent_since: Callable[[], float]
    bounds: ReplyBounds
    verifier: Verifier
    observer: Observer
    clock: Clock
    sample_rate: int
    format: str
    # What the requests say beside their texts.
    kind: int = 0
    # What checked audio is encoded in, if it is.
    encoding: Encoding | None = None
    entry: Entry = field(init=False)
    _observers: Observers = field(init=False)
    # What most attempts are judged by: those of texts that have not failed, by their priority.
    _usual: Mapping[bool, Call] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", Entry(self.connections, self.clock, self.silent_since))
        object.__setattr__(self, "_observers", Observers.around(self.observer))
        usual = {urgent: Call(self.kind, not urgent) for urgent in (False, True)}
        object.__setattr__(self, "_usual", usual)

    def attempt(
        self, batch: Batch, texts: Sequence[Utterance], endpoint: EndpointState, number: int
    ) -> Sequence[Result]:
        """Send texts to an endpoint, which was joined, and return audio or an error for each.

        Waits for a connection, memory and the rate limit, and then for the reply. Raises what
        failed for all of them: RefusedError or DeadlineError before sending, else what came.
        """
        attempt = self.enter(batch, endpoint, number)
        verdict: CosyError | None = NOT_SENT
        results: Sequence[Result] = ()
        timing: Timing | None = None
        asks = self.verifier.asks
        try:
            endpoint.silence.ask(attempt, attempt.sent)
            if batch.on_seal is None and batch.record is None:  # as `seal`
                batch.queue_deadline, batch.in_flight = None, True
            else:
                texts = batch.seal(texts)
            results, timing = self._send(batch, texts, attempt, number)
            verdict = None
            if not isinstance(results[0], Audio):
                batch.refused(results)
        except CosyError as error:
            batch.refused([error])
            verdict = fair_verdict(batch, error, attempt.sent)
            raise
        finally:
            now = batch.ended = self.clock.now() if attempt.ended is None else attempt.ended
            seconds = now - attempt.sent
            verdict = self.leave(attempt, texts, verdict, seconds, now)
            if endpoint.pool is not None and (timing is None or not asks):
                self.judge(attempt, texts, results, verdict, seconds)
        if asks:
            batch.arrived = True
            results = ask(self.verifier, batch, [each.text for each in texts], before := results)
            new = [b for a, b in zip(before, results, strict=True) if a is not b]
            self.tell_refused(timing, new)
            self.judge(attempt, texts, results, verdict, seconds)
        if self.encoding is not None:
            batch.arrived = True
            results = self.encoding.encode(batch, results)
        return results

    # -- the way in, and out --------------------------------------------------------------------

    def enter(self, batch: Batch, endpoint: EndpointState, number: int) -> Attempt:
        """Wait for a connection and a slot of the rate limit; the caller must `leave` afterwards.

        The attempt has joined the endpoint. Raises RefusedError, DeadlineError or ClosedError, and
        then it has left, and nothing is held.
        """
        try:
            if batch.first_tries or batch.apart:
                first, again = batch.first_tries.get(endpoint), bool(batch.first_tries)
                call = Call(self.kind, not batch.interactive, again, first, batch.apart)
            else:
                call = self._usual[batch.interactive]
            batch.call = call
            if batch.queue_deadline is None and self.connections is None:
                attempt = endpoint.admit(batch.interactive, call, self.clock.now())
            else:
                attempt = self.entry.go(batch, endpoint, call, self.clock.now())
            while True:
                if attempt is not None:
                    break
                attempt = self._enter_slowly(batch, endpoint, call, number)
            batch.sent = attempt.sent
            return attempt
        except BaseException:
            endpoint.leave(self.clock.now())
            raise

    def _enter_slowly(
        self, batch: Batch, endpoint: EndpointState, call: Call, number: int
    ) -> Attempt | None:
        """Ask breaker, overload control, places and rate limit one after the other, waiting for
        each; return None where the breaker opened while this waited for the others."""
        now = self.clock.now()
        admission = endpoint.breaker.admit(now, call)
        try:
            # The breaker's probes are few, and must get through.
            if not admission.probe and not endpoint.is_well_for(call, now):
                waited = now - batch.deadline.started if number == 1 else 0.0
                endpoint.overload.admit(batch.interactive, now, waited)
            sent = self.entry.wait(batch, endpoint, now)
        except BaseException:
            endpoint.breaker.record(admission, NOT_SENT, self.clock.now(), 0.0)
            raise
        if endpoint.breaker.still_admits(admission):
            return Attempt(endpoint, admission, sent, call, holds=True)
        self.entry.give_back(endpoint)
        return None

    def leave(
        self,
        attempt: Attempt,
        texts: Sequence[Utterance],
        verdict: CosyError | None,
        seconds: float,
        now: float | None = None,
    ) -> CosyError | None:
        """Give back what `enter` took, and note what came of it, and how long the service took;
        return what that says about the endpoint. `now`: the instant, where it is known."""
        endpoint = attempt.endpoint
        if now is None:
            now = self.clock.now()
        # Before the place is given back: whoever gets it looks at the silence.
        # A text that was parted from others, as it breaks them, is answered by its failure.
        answered = verdict is None or attempt.call.apart or _answers(verdict)
        endpoint.silence.end(attempt, answered, now)
        if attempt.holds and (self.connections is not None or endpoint.shared_slots is not None):
            self.entry.give_back_shared(endpoint)
        return endpoint.settle(attempt, verdict, now, seconds, texts)

    def judge(
        self,
        attempt: Attempt,
        texts: Sequence[Utterance],
        results: Sequence[Result],
        verdict: CosyError | None,
        seconds: float,
    ) -> None:
        """Note how well and fast the endpoint spoke, where there are others to choose from;
        `verdict` as `leave` returned it."""
        endpoint = attempt.endpoint
        if endpoint.pool is not None:
            endpoint.judge(texts, results, verdict, attempt.sent, self.clock.now(), seconds)

    def enter_again(
        self,
        batch: Batch,
        attempt: Attempt,
        texts: Sequence[str],
        request_id: str,
        number: int,
        lost: CosyError,
    ) -> None:
        """Report a sending that was lost unread with its connection; wait for a place and a slot
        for the second.

        It is a request and a retry like any other, but for the attempt that it does not use up.
        Raises like `enter`.
        """
        endpoint = attempt.endpoint
        lost.endpoint = endpoint.label
        sent = attempt.sent
        timing = Timing(
            started=sent,
            queued=sent - batch.accepted_at,
            connect=0.0,
            first_byte=0.0,
            total=self.clock.now() - sent,
            attempts=number,
            endpoint=endpoint.label,
            request_id=request_id,
        )
        self.tell(timing, texts, 0, lost)
        self.observer.on_event(RetryPlanned(endpoint.label, len(texts), number, 0.0, lost))
        attempt.holds = False
        self.entry.give_back(endpoint)
        attempt.sent = self.entry.wait(batch, endpoint, self.clock.now())
        attempt.holds = True

    # -- the call -------------------------------------------------------------------------------

    def _send(
        self, batch: Batch, utterances: Sequence[Utterance], attempt: Attempt, number: int
    ) -> tuple[Sequence[Result], Timing]:
        endpoint, started = attempt.endpoint, attempt.sent
        one = len(utterances) == 1
        texts = [utterances[0].text] if one else [each.text for each in utterances]
        request_id = next_request_id()
        failure: CosyError | None = None
        sending, kept = Sending(self, batch, attempt, texts, request_id, number), 0
        try:
            try:
                payloads = self.wires[endpoint.endpoint.url].exchange(
                    texts, sending.send, request_id
                )
            except CosyError as error:
                failure = error.with_details(endpoint=endpoint.label)
            attempt.ended = ended = self.clock.now()
            reply = sending.reply
            timing = Timing(
                started=started,
                queued=started - batch.accepted_at,
                connect=reply.connect if reply else 0.0,
                first_byte=reply.first_byte if reply else 0.0,
                total=ended - started,
                attempts=number,
                endpoint=endpoint.label,
                request_id=request_id,
            )
            if failure is not None:
                self._tell_failure(timing, texts, attempt, failure, reply)
                raise failure
            self._observers.tell_answer(timing, texts, reply.received if reply else 0)
            results = self.verifier.check(texts, self._open(batch, payloads, timing))
            size = heard = 0
            for result in results:
                size += len(result.data) if isinstance(result, Audio) else 0
                heard += isinstance(result, Audio)
            if heard < len(results):
                self.tell_refused(timing, results, reply)
            kept = size
            return results, timing
        finally:
            sending.leave(kept)

    def _open(
        self, batch: Batch, payloads: Sequence[Payload | CosyError], timing: Timing
    ) -> list[Result]:
        # Sound that lies in its reply is copied where it stays and the reply need not.
        copies = batch.reorder is None or not batch.reorder.bounded
        results: list[Result] = []
        for payload in payloads:
            if isinstance(payload, CosyError):
                results.append(payload)
                continue
            if copies:
                payload.data = bytes(payload.data)
            try:
                audio = read_audio(payload, sample_rate=self.sample_rate, timing=timing)
                same = audio.format == self.format
                results.append(audio if same else audio.as_format(self.format))
            except CosyError as error:
                results.append(error)
            except Exception as error:  # a bug: of one text's audio, not of the others'
                results.append(unexpected(error))
        return results

    def _tell_failure(
        self,
        timing: Timing,
        texts: Sequence[str],
        attempt: Attempt,
        failure: CosyError,
        reply: Reply | None,
    ) -> None:
        if len(texts) > 1:  # a piece of a batch is of no use, and would be kept for long
            failure.partial = b""
        if attempt.holds:  # else there was no second sending, and the first was reported
            self.tell(timing, texts, reply.received if reply else 0, failure)
        self.tell_refused(timing, [failure] * len(texts), reply)

    def tell(
        self, timing: Timing, texts: Sequence[str], received: int, error: CosyError | None
    ) -> None:
        """Tell that an attempt ended."""
        self.observer.on_event(
            AttemptFinished(
                timing=timing,
                texts=len(texts),
                chars=sum(map(len, texts)),
                reply_bytes=received,
                error=error,
            )
        )

    def tell_refused(
        self, timing: Timing, results: Sequence[Result], reply: Reply | ReplyStream | None = None
    ) -> None:
        """Tell of the audio among the results that was refused. What may be another request's
        takes the trust from the link that its reply came over."""
        reasons = Counter(r.reason for r in results if isinstance(r, BadAudioError))
        if reply and reply.link and not ANOTHERS.isdisjoint(reasons):
            reply.link.distrust()
        for reason, texts in reasons.items():
            self.observer.on_event(AudioRefused(timing.endpoint, timing.request_id, texts, reason))


def _answers(verdict: CosyError) -> bool:
    """Return whether a service that this was said of is there, though perhaps too busy."""
    return verdict.accepted is True or isinstance(verdict, ThrottledError)


def fair_verdict(batch: Batch, error: CosyError, started: float) -> CosyError:
    """Return what an error says about the endpoint, where the attempt was sent at that instant."""
    if isinstance(error, ReplyTimeout) and batch.deadline.at - started < _FAIR_SECONDS:
        return RefusedError("too little time to judge the endpoint by")
    return error
