"""Counters of a client: an observer, and the frozen snapshot that it gives."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .errors import ThrottledError
from .events import AttemptFinished, Event, RetryPlanned, TextFailed, TextsFinished

__all__ = ["Stats", "StatsObserver"]

# Latest latencies that the quantiles are taken over.
_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a client has done since it was made (in a forked child: since the fork).

    `latency_p50` and `latency_p99` in seconds, over the latest texts, each counted from being
    taken up until its reply was whole. `errors` counts failed attempts and texts by class.
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
    breakers: Mapping[str, str] = field(default_factory=dict)


class StatsObserver:
    """Counts events."""

    def __init__(self) -> None:
        # Guards: everything below.
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._audio_seconds = 0.0
        self._errors: Counter[str] = Counter()
        self._latencies: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._takers: Mapping[type, Callable[..., None]] = {
            AttemptFinished: self._attempt,
            RetryPlanned: self._retry,
            TextsFinished: self._finished,
            TextFailed: self._failed,
        }

    def on_event(self, event: Event) -> None:
        """Count an event."""
        taker = self._takers.get(type(event))
        if taker is not None:
            with self._lock:
                taker(event)

    def snapshot(
        self, *, in_flight: int, connections: tuple[int, int], breakers: Mapping[str, str]
    ) -> Stats:
        """Return the counters as they are now, with the gauges that others know."""
        with self._lock:
            counts, errors = self._counts.copy(), dict(self._errors)
            latencies, seconds = list(self._latencies), self._audio_seconds
        return Stats(
            texts_ok=counts["texts_ok"],
            texts_failed=counts["texts_failed"],
            chars_ok=counts["chars_ok"],
            audio_bytes=counts["audio_bytes"],
            audio_seconds=seconds,
            requests=counts["requests"],
            connects=counts["connects"],
            retries=counts["retries"],
            throttled=counts["throttled"],
            in_flight=in_flight,
            connections_open=connections[0],
            connections_idle=connections[1],
            latency_p50=quantile(latencies, 0.5),
            latency_p99=quantile(latencies, 0.99),
            errors=errors,
            breakers=dict(breakers),
        )

    def _attempt(self, event: AttemptFinished) -> None:
        self._counts["requests"] += 1
        if event.timing.connect:
            self._counts["connects"] += 1
        if event.error is not None:
            self._errors[type(event.error).__name__] += 1
            if isinstance(event.error, ThrottledError):
                self._counts["throttled"] += 1

    def _retry(self, event: RetryPlanned) -> None:
        self._counts["retries"] += 1

    def _finished(self, event: TextsFinished) -> None:
        self._counts["texts_ok"] += event.texts
        self._counts["chars_ok"] += event.chars
        self._counts["audio_bytes"] += event.audio_bytes
        self._audio_seconds += event.audio_seconds
        self._latencies.append((event.latency, event.texts))

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
