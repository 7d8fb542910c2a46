"""Counters of a client: an observer, and the frozen snapshot that it gives."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ThrottledError
from .events import (
    AttemptFinished,
    AudioRefused,
    CacheAnswered,
    CacheMissed,
    CallRefused,
    EndpointEjected,
    Event,
    HedgeFinished,
    LimitsLowered,
    RetryPlanned,
    RetrySuppressed,
    StreamStarted,
    TextFailed,
    TextsFinished,
    TextsShared,
)

__all__ = ["Stats", "StatsObserver"]

# Latest latencies that the quantiles are taken over.
_KEPT = 4096
# What is only counted, by the names of the fields.
_SUMS = (
    *("texts_ok", "texts_failed", "texts_shared", "chars_ok", "audio_bytes", "streams"),
    *("requests", "connects", "retries", "throttled", "lowered", "ejections"),
    *("hedges", "hedges_won", "cache_hits", "cache_misses", "cache_bytes"),
)


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a client has done since it was made (in a forked child: since the fork).

    `latency_p50` and `latency_p99` in seconds, over the latest texts, each counted from being
    accepted until its reply was whole: `synth` and `submit` are accepted when they are called, so
    theirs holds what they waited in the client, also for workers that are busy with slow checks; a
    text of a bulk call when a worker begins with its batch. `texts_shared` of `texts_ok` were not
    sent, because the same text was in flight; `hedges` calls went to a second endpoint as well, and
    `hedges_won` of them were answered there first. `errors` counts failed attempts and texts by
    class, `suppressed` texts that were not repeated, by reason, `refused` texts that were not sent,
    by class (of bulk work each time that it had to wait), `lowered` how often an endpoint's limits
    fell, `ejections` how often one was left out because it kept failing, `bad_audio` the audio that
    was refused, by reason, whether a repetition helped or not. `streams` have begun to sound,
    `first_audio_p50` and `first_audio_p99` seconds after they were asked for; one that its listener
    left early is among neither the texts that are ok nor failed. `cache_hits` texts were answered
    out of the cache, `cache_bytes` of audio, and `cache_misses` were not in it. `limits` holds each
    endpoint's requests per second and requests in flight as they are now, `retry_budget` how many
    more texts of interactive calls may be repeated. `canary` is None without one, else its state
    ("running", "rolled back" or "promoted"), its share of the texts, and what it was worse in.
    """

    texts_ok: int
    texts_failed: int
    chars_ok: int
    audio_bytes: int
    audio_seconds: float
    requests: int
    connects: int
    retries: int
    throttled: int
    in_flight: int
    connections_open: int
    connections_idle: int
    latency_p50: float
    latency_p99: float
    errors: Mapping[str, int] = field(default_factory=dict)
    suppressed: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    lowered: int = 0
    bad_audio: Mapping[str, int] = field(default_factory=dict)
    texts_shared: int = 0
    hedges: int = 0
    hedges_won: int = 0
    breakers: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    retry_budget: float = 0.0
    streams: int = 0
    first_audio_p50: float = 0.0
    first_audio_p99: float = 0.0
    ejections: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0
    canary: tuple[str, float, str] | None = None


class StatsObserver:
    """Counts events."""

    def __init__(self) -> None:
        # What went well, not counted yet (EventCounts): taken out under the lock.
        self.most_fresh = 128
        self.fresh: deque[float | tuple[int, int, int, float, float]] = deque()
        # Guards: everything below.
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._audio_seconds = 0.0
        self._errors: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._bad_audio: Counter[str] = Counter()
        self._latencies: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._first_audio: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._takers: Mapping[type, Callable[..., None]] = {
            AudioRefused: self._bad,
            CacheAnswered: self._answered,
            CacheMissed: self._missed,
            RetryPlanned: self._retry,
            RetrySuppressed: self._suppress,
            CallRefused: self._refuse,
            EndpointEjected: self._eject,
            LimitsLowered: self._lower,
            StreamStarted: self._started,
            TextFailed: self._failed,
            TextsShared: self._shared,
            HedgeFinished: self._hedge,
        }

    def taker(self, kind: type) -> Callable[..., None] | None:
        """Return what is called with events of a class, None where they are not counted."""
        if kind is AttemptFinished:
            return self._attempt
        if kind is TextsFinished:
            return self._finished
        return self._count if kind in self._takers else None

    def on_event(self, event: Event) -> None:
        """Count an event."""
        taker = self.taker(type(event))
        if taker is not None:
            taker(event)

    def _count(self, event: Event) -> None:
        with self._lock:
            self._takers[type(event)](event)

    def _attempt(self, event: AttemptFinished) -> None:
        self.fresh.append(event.timing.connect)
        error = event.error
        if error is not None:
            with self._lock:
                self._count_fresh()
                self._errors[type(error).__name__] += 1
                if isinstance(error, ThrottledError):
                    self._counts["throttled"] += 1
        elif len(self.fresh) >= self.most_fresh:
            self.count_fresh()

    def _finished(self, event: TextsFinished) -> None:
        # The attempt was told of before: there they are counted.
        times = event.audio_seconds, event.latency
        self.fresh.append((event.texts, event.chars, event.audio_bytes, *times))

    def count_fresh(self) -> None:
        """Count what is fresh."""
        with self._lock:
            self._count_fresh()

    def snapshot(
        self,
        *,
        in_flight: int,
        connections: tuple[int, int],
        breakers: Mapping[str, str],
        limits: Mapping[str, tuple[float, int]],
        retry_budget: float,
    ) -> Stats:
        """Return the counters as they are now, with the gauges that others know."""
        with self._lock:
            counts, seconds = self._counted()
            errors, suppressed = dict(self._errors), dict(self._suppressed)
            refused, bad_audio = dict(self._refused), dict(self._bad_audio)
            latencies, first_audio = list(self._latencies), list(self._first_audio)
        sums: dict[str, Any] = {name: counts[name] for name in _SUMS}
        return Stats(
            **sums,
            audio_seconds=seconds,
            in_flight=in_flight,
            connections_open=connections[0],
            connections_idle=connections[1],
            latency_p50=quantile(latencies, 0.5),
            latency_p99=quantile(latencies, 0.99),
            errors=errors,
            suppressed=suppressed,
            refused=refused,
            bad_audio=bad_audio,
            breakers=dict(breakers),
            limits=dict(limits),
            retry_budget=retry_budget,
            first_audio_p50=quantile(first_audio, 0.5),
            first_audio_p99=quantile(first_audio, 0.99),
        )

    # -- under the lock -------------------------------------------------------------------------

    def _counted(self) -> tuple[Counter[str], float]:
        """Return the counts and the seconds of audio, with what is fresh."""
        self._count_fresh()
        return self._counts.copy(), self._audio_seconds

    def _count_fresh(self) -> None:
        # In one place, as two of these come for every text.
        fresh, counts = self.fresh, self._counts
        while fresh:
            entry = fresh.popleft()
            if isinstance(entry, tuple):
                texts, chars, size, seconds, latency = entry
                counts["texts_ok"] += texts
                counts["chars_ok"] += chars
                counts["audio_bytes"] += size
                self._audio_seconds += seconds
                self._latencies.append((latency, texts))
                continue
            counts["requests"] += 1
            if entry:
                counts["connects"] += 1

    def _bad(self, event: AudioRefused) -> None:
        self._bad_audio[event.reason] += event.texts

    def _retry(self, event: RetryPlanned) -> None:
        self._counts["retries"] += 1

    def _suppress(self, event: RetrySuppressed) -> None:
        self._suppressed[event.reason] += 1

    def _refuse(self, event: CallRefused) -> None:
        self._refused[type(event.error).__name__] += event.texts

    def _eject(self, event: EndpointEjected) -> None:
        self._counts["ejections"] += 1

    def _lower(self, event: LimitsLowered) -> None:
        self._counts["lowered"] += 1

    def _started(self, event: StreamStarted) -> None:
        self._counts["streams"] += 1
        self._first_audio.append((event.timing.queued + event.timing.first_audio, 1))

    def _shared(self, event: TextsShared) -> None:
        self._counts["texts_ok"] += event.texts
        self._counts["texts_shared"] += event.texts

    def _answered(self, event: CacheAnswered) -> None:
        self._counts["texts_ok"] += event.texts
        self._counts["chars_ok"] += event.chars
        self._counts["cache_hits"] += event.texts + event.refused
        self._counts["cache_bytes"] += event.audio_bytes
        self._counts["audio_bytes"] += event.audio_bytes
        self._audio_seconds += event.audio_seconds

    def _missed(self, event: CacheMissed) -> None:
        self._counts["cache_misses"] += event.texts

    def _hedge(self, event: HedgeFinished) -> None:
        self._counts["hedges"] += 1
        self._counts["hedges_won"] += event.won

    def _failed(self, event: TextFailed) -> None:
        self._counts["texts_failed"] += 1
        self._errors[type(event.error).__name__] += 1


def quantile(weighted: list[tuple[float, int]], share: float) -> float:
    """Return the value below which this share of the weight lies; 0 without values."""
    ordered = sorted(weighted)
    wanted = share * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        wanted -= weight
        if wanted <= 0:
            return value
    return ordered[-1][0] if ordered else 0.0
