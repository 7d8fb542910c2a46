"""What happens, as frozen records, and the protocol of those who watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import CosyError, RefusedError
from .models import Audio, Timing
from .user_code import goes_on, log_failure

__all__ = [
    "AddressesChanged",
    "AttemptFinished",
    "AudioRefused",
    "BreakerChanged",
    "CacheAnswered",
    "CacheMissed",
    "CallRefused",
    "CanaryChanged",
    "EndpointEjected",
    "EndpointReadmitted",
    "Event",
    "EventCounts",
    "HedgeFinished",
    "LimitsLowered",
    "LookupFailed",
    "Observer",
    "RetryPlanned",
    "RetrySuppressed",
    "SharingChanged",
    "StreamStarted",
    "TextFailed",
    "TextsFinished",
    "TextsShared",
    "VariantSpoke",
]


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """One call to an endpoint ended. `reply_bytes` as they came over the network."""

    timing: Timing
    texts: int
    chars: int
    reply_bytes: int
    error: CosyError | None


@dataclass(frozen=True, slots=True)
class AudioRefused:
    """So many texts of one call came back with audio that was refused, all for one reason."""

    endpoint: str
    request_id: str
    texts: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """Some texts of a call will be sent again in `wait` seconds."""

    endpoint: str
    texts: int
    attempt: int
    wait: float
    error: CosyError


@dataclass(frozen=True, slots=True)
class RetrySuppressed:
    """A text was not sent again although its error may pass.

    `reason`: "budget" (too many retries lately) or "deadline" (the wait would outlast it).
    """

    endpoint: str
    text_hash: str
    reason: str
    error: CosyError


@dataclass(frozen=True, slots=True)
class CallRefused:
    """A call was not sent, by our own decision. Bulk work asks again later, and may be refused
    several times."""

    endpoint: str
    texts: int
    error: RefusedError


@dataclass(frozen=True, slots=True)
class LimitsLowered:
    """An endpoint gets less: requests per second, requests in flight. It showed overload, or this
    machine ran out of what more connections need (ResourceError)."""

    endpoint: str
    rate: float
    in_flight: int
    error: CosyError


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """An endpoint's breaker went from one state to another: closed, open, half-open."""

    endpoint: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class EndpointEjected:
    """One of several endpoints is left out for `seconds`; then a probe decides.

    `failures`: the share of its latest calls that failed.
    """

    endpoint: str
    seconds: float
    failures: float


@dataclass(frozen=True, slots=True)
class EndpointReadmitted:
    """An ejected endpoint takes part again."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The name of an endpoint with `per_address` leads to other addresses than before."""

    endpoint: str
    joined: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """The name of an endpoint could not be looked up; `kept` addresses go on in use."""

    endpoint: str
    kept: int
    error: CosyError


@dataclass(frozen=True, slots=True)
class SharingChanged:
    """What is shared with other processes can be reached no longer, or again.

    `what` is "rate limit", "connections", "breaker" or "canary" (then the endpoint is the name of
    the canary). Until it can, the client decides by itself.
    """

    endpoint: str
    what: str
    shared: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CanaryChanged:
    """A canary, known by the name of its variant, speaks another share of the texts.

    `state` is "running", "rolled back" or "promoted"; `reason` says what it was worse in.
    """

    name: str
    state: str
    old_share: float
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class VariantSpoke:
    """Texts of one request of a client with a canary, known by the name of its variant, came to
    audio, or to errors of one class, whose name `error` is.

    `variant` is "canary" or "stable"; "control" is the stable one as well, and "fallback" is it in
    place of the canary, which has failed. Streams are told of when they end.
    """

    name: str
    variant: str
    texts: int
    error: str


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The first sound of a stream is there. Its AttemptFinished follows when it ends, and then
    TextsFinished, TextFailed, or neither, when its listener did not want the rest."""

    timing: Timing
    chars: int


@dataclass(frozen=True, slots=True)
class TextsFinished:
    """Texts got their audio. `latency`: seconds from being accepted until the reply was whole, in
    a stream without what its listener took."""

    texts: int
    chars: int
    audio_bytes: int
    audio_seconds: float
    latency: float


@dataclass(frozen=True, slots=True)
class TextsShared:
    """Texts got the audio of the same text, which another caller had in flight."""

    texts: int
    chars: int


@dataclass(frozen=True, slots=True)
class CacheAnswered:
    """Texts got their audio out of the cache; of `refused` ones it knew that the service refuses
    them (TextFailed tells of each)."""

    texts: int
    refused: int
    chars: int
    audio_bytes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class CacheMissed:
    """Texts were not in the cache."""

    texts: int


@dataclass(frozen=True, slots=True)
class HedgeFinished:
    """A late call was sent to a second endpoint as well. `won`: its answer was used."""

    endpoint: str
    texts: int
    won: bool


@dataclass(frozen=True, slots=True)
class TextFailed:
    """One text ended as an error."""

    text_hash: str
    chars: int
    error: CosyError


Event = (
    AttemptFinished
    | AudioRefused
    | RetryPlanned
    | RetrySuppressed
    | CallRefused
    | LimitsLowered
    | BreakerChanged
    | SharingChanged
    | CanaryChanged
    | VariantSpoke
    | EndpointEjected
    | EndpointReadmitted
    | AddressesChanged
    | LookupFailed
    | StreamStarted
    | TextsFinished
    | TextsShared
    | CacheAnswered
    | CacheMissed
    | HedgeFinished
    | TextFailed
)


class Observer(Protocol):
    """Somebody who is told of every event, on the thread where it happened: be quick."""

    def on_event(self, event: Event) -> None:
        """Take notice of an event. An exception is logged and goes no further."""
        ...


class EventCounts(Observer, Protocol):
    """An observer that counts what goes well without an event: every text comes by."""

    # What is not counted yet: of an attempt the seconds that connecting took, of texts what
    # TextsFinished has, in its order. Appended without a lock.
    fresh: deque[float | tuple[int, int, int, float, float]]
    # So many of these wait to be counted together.
    most_fresh: int

    def count_fresh(self) -> None:
        """Count what is fresh."""
        ...


class Observers:
    """Tells several observers; one that fails does not disturb the others or the work.

    An observer with a method `taker` names, once for each class of events, what is called with
    them, None for nothing: so an event passes no function that has no use for it.

    Args:
        observers: Whom to tell.
        counts: Is told first. Where nobody else takes the events of what went well, none are made.
        log: Is told next; it takes those events while `log_takes` says so.
        log_takes: Returns whether it does now.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        counts: EventCounts | None = None,
        log: Observer | None = None,
        log_takes: Callable[[], bool] = lambda: True,
    ) -> None:
        ours = [each for each in (counts, log) if each is not None]
        self._observers = (*ours, *observers)
        self._counts = None if observers else counts
        self._log_takes = log_takes if log is not None else lambda: False
        # By the event's class. Written without a lock: two threads find the same.
        self._takers: dict[type, tuple[Callable[[Any], None], ...]] = {}

    @classmethod
    def around(cls, observer: Observer) -> Observers:
        """Return what tells an observer, which may be such a one."""
        return observer if isinstance(observer, cls) else cls([observer])

    def tell_answer(self, timing: Timing, texts: Sequence[str], received: int) -> None:
        """Tell of an attempt that was answered (AttemptFinished)."""
        counts = self._counts
        if counts is None or self._log_takes():
            chars = sum(map(len, texts))
            self.on_event(AttemptFinished(timing, len(texts), chars, received, None))
            return
        counts.fresh.append(timing.connect)
        if len(counts.fresh) >= counts.most_fresh:
            counts.count_fresh()

    def tell_finished(self, finished: Sequence[Audio], chars: int) -> None:
        """Tell of texts of one batch that were spoken (TextsFinished)."""
        timing = finished[0].timing
        size, seconds = 0, 0.0
        for audio in finished:
            size += len(audio.data)
            # Its `duration`, without the call: every text comes here.
            seconds += audio.pcm_size / (2 * audio.channels * audio.sample_rate)
        latency = timing.queued + timing.total if timing else 0.0
        counts = self._counts
        if counts is None:
            self.on_event(TextsFinished(len(finished), chars, size, seconds, latency))
        else:
            # The attempt was told of before: there they are counted.
            counts.fresh.append((len(finished), chars, size, seconds, latency))

    def _find_takers(self, kind: type) -> tuple[Callable[[Any], None], ...]:
        found = []
        for observer in self._observers:
            choose = getattr(observer, "taker", None)
            take = observer.on_event if choose is None else choose(kind)
            if take is not None:
                found.append(take)
        self._takers[kind] = takers = tuple(found)
        return takers

    def on_event(self, event: Event) -> None:
        """Tell each in turn."""
        for take in self._takers.get(type(event)) or self._find_takers(type(event)):
            try:
                take(event)
            except BaseException as error:
                if goes_on(error):
                    raise
                log_failure("an observer failed on %s", type(event).__name__)
