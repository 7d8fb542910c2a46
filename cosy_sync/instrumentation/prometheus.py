"""Metrics for Prometheus: counters and histograms of texts, requests, retries, refusals."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from cosy_sync import ConfigError, Event
from cosy_sync.events import (
    AttemptFinished,
    AudioRefused,
    BreakerChanged,
    CacheAnswered,
    CacheMissed,
    CallRefused,
    CanaryChanged,
    HedgeFinished,
    LimitsLowered,
    RetryPlanned,
    RetrySuppressed,
    StreamStarted,
    TextFailed,
    TextsFinished,
    TextsShared,
    VariantSpoke,
)

from .names import METRICS

__all__ = ["PrometheusObserver"]

# Seconds: from a cached answer to a call that waited for its deadline.
_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
_STATES = {"closed": 0, "half-open": 1, "open": 2}
_CANARY_STATES = {"running": 0, "promoted": 1, "rolled back": 2}


class PrometheusObserver:
    """Counts events as metrics; give it to a client: CosyClient(url, observers=[...]).

    One for all clients of a process: their metrics are added up. It works in the library's
    multiprocess mode too (PROMETHEUS_MULTIPROC_DIR, under gunicorn or Celery's prefork). Labels are
    endpoints, classes of errors and reasons; never a text, a voice or a key.

    Args:
        registry: where the metrics are registered; left out, the library's own.

    Raises ConfigError where prometheus-client is not installed, ValueError for a second one in the
    same registry.
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            library = importlib.import_module("prometheus_client")
        except ImportError:
            raise ConfigError(
                "observers: PrometheusObserver needs prometheus-client: "
                "pip install 'cosy-sync[prometheus]'"
            ) from None
        made = _Metrics(library, library.REGISTRY if registry is None else registry)
        self._takers: Mapping[type, Callable[[Any], None]] = {
            AttemptFinished: made.attempt,
            TextsFinished: made.finished,
            TextFailed: made.failed,
            TextsShared: made.shared,
            CacheAnswered: made.cached,
            CacheMissed: made.missed,
            StreamStarted: made.stream,
            AudioRefused: made.bad_audio,
            RetryPlanned: made.retry,
            RetrySuppressed: made.suppressed,
            CallRefused: made.refused,
            BreakerChanged: made.breaker,
            LimitsLowered: made.lowered,
            HedgeFinished: made.hedge,
            CanaryChanged: made.canary,
            VariantSpoke: made.variant,
        }

    def taker(self, kind: type) -> Callable[[Any], None] | None:
        """Return what is called with events of a class, None where they are not counted."""
        return self._takers.get(kind)

    def on_event(self, event: Event) -> None:
        """Count an event."""
        take = self._takers.get(type(event))
        if take is not None:
            take(event)


class _Metrics:
    """The metrics themselves."""

    def __init__(self, library: Any, registry: Any) -> None:
        def counter(name: str) -> Any:
            words, labels = METRICS[name]
            return library.Counter(f"cosy_sync_{name}", words, labels, registry=registry)

        def seconds(name: str) -> Any:
            words, labels = METRICS[name]
            full = f"cosy_sync_{name}"
            return library.Histogram(full, words, labels, registry=registry, buckets=_BUCKETS)

        def gauge(name: str, mode: str) -> Any:
            words, labels = METRICS[name]
            full, modes = f"cosy_sync_{name}", {"registry": registry, "multiprocess_mode": mode}
            return library.Gauge(full, words, labels, **modes)

        self._texts = counter("texts")
        # Every text comes by the methods that are kept by themselves here.
        self._ok, self._shared = self._texts.labels("ok").inc, self._texts.labels("shared")
        self._cached = self._texts.labels("cached")
        results = map(counter("cache_lookups").labels, ("hit", "refused", "miss"))
        self._hits, self._known_refusals, self._misses = results
        self._saved = counter("cache_saved_bytes")
        self._characters, self._audio = counter("characters").inc, counter("audio_seconds").inc
        self._latency, self._first = seconds("text_seconds").observe, seconds("first_audio_seconds")
        self._request = seconds("request_seconds")
        # By endpoint: what takes how long good requests were. Two threads at once make the same.
        self._good: dict[str, Callable[[float], None]] = {}
        self._bad = counter("bad_audio_texts")
        self._retries, self._suppressed = counter("retried_texts"), counter("suppressed_texts")
        self._refusals, self._hedges = counter("refused_texts"), counter("hedges")
        self._lowered = counter("limits_lowered")
        self._breaker = gauge("breaker_state", "livemax")
        self._canary = gauge("canary_share", "livemin")
        self._canary_state = gauge("canary_state", "livemax")
        self._rollbacks = counter("canary_rollbacks")
        self._spoken = counter("canary_texts")

    def attempt(self, event: AttemptFinished) -> None:
        endpoint = event.timing.endpoint
        if event.error is not None:
            result = type(event.error).__name__
            self._request.labels(endpoint, result).observe(event.timing.total)
            return
        observe = self._good.get(endpoint)
        if observe is None:
            observe = self._good[endpoint] = self._request.labels(endpoint, "ok").observe
        observe(event.timing.total)

    def finished(self, event: TextsFinished) -> None:
        self._ok(event.texts)
        self._characters(event.chars)
        self._audio(event.audio_seconds)
        for _ in range(event.texts):
            self._latency(event.latency)

    def failed(self, event: TextFailed) -> None:
        self._texts.labels(type(event.error).__name__).inc()

    def shared(self, event: TextsShared) -> None:
        self._shared.inc(event.texts)

    def cached(self, event: CacheAnswered) -> None:
        self._cached.inc(event.texts)
        self._hits.inc(event.texts)
        self._known_refusals.inc(event.refused)
        self._saved.inc(event.audio_bytes)

    def missed(self, event: CacheMissed) -> None:
        self._misses.inc(event.texts)

    def stream(self, event: StreamStarted) -> None:
        self._first.observe(event.timing.first_audio)

    def bad_audio(self, event: AudioRefused) -> None:
        self._bad.labels(event.endpoint, event.reason).inc(event.texts)

    def retry(self, event: RetryPlanned) -> None:
        self._retries.labels(event.endpoint, type(event.error).__name__).inc(event.texts)

    def suppressed(self, event: RetrySuppressed) -> None:
        self._suppressed.labels(event.reason).inc()

    def refused(self, event: CallRefused) -> None:
        self._refusals.labels(event.endpoint, type(event.error).__name__).inc(event.texts)

    def breaker(self, event: BreakerChanged) -> None:
        self._breaker.labels(event.endpoint).set(_STATES.get(event.new, 0))

    def lowered(self, event: LimitsLowered) -> None:
        self._lowered.labels(event.endpoint).inc()

    def hedge(self, event: HedgeFinished) -> None:
        self._hedges.labels("yes" if event.won else "no").inc()

    def canary(self, event: CanaryChanged) -> None:
        self._canary.labels(event.name).set(event.share)
        self._canary_state.labels(event.name).set(_CANARY_STATES.get(event.state, 0))
        if event.state == "rolled back":
            self._rollbacks.labels(event.name).inc()

    def variant(self, event: VariantSpoke) -> None:
        self._spoken.labels(event.name, event.variant, event.error or "ok").inc(event.texts)
