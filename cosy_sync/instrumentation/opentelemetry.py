"""Spans and metrics for OpenTelemetry: one span for each request, with what became of it."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cosy_sync import ConfigError, Event, __version__
from cosy_sync.events import (
    AttemptFinished,
    AudioRefused,
    BreakerChanged,
    CacheAnswered,
    CacheMissed,
    CallRefused,
    CanaryChanged,
    RetryPlanned,
    TextFailed,
    TextsFinished,
    TextsShared,
    VariantSpoke,
)

from . import names

__all__ = ["OpenTelemetryObserver"]

# Endpoints whose attributes are kept.
_MOST_KNOWN = 256
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OpenTelemetryObserver:
    """Tells OpenTelemetry of requests and texts; give it to a client: observers=[...].

    A request is a span of its own, below the one that is current where its call was made; one that
    several callers may share has no parent. Attributes hold endpoints, classes of errors and
    reasons; never a text, a voice or a key.

    Args:
        attributes: beside them, such as {"gen_ai.request.model": "cosyvoice-v2"}.
        tracer_provider, meter_provider: left out, the global ones.

    Raises ConfigError where opentelemetry-api is not installed.
    """

    def __init__(
        self,
        attributes: Mapping[str, str] | None = None,
        *,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        try:
            trace = importlib.import_module("opentelemetry.trace")
            metrics = importlib.import_module("opentelemetry.metrics")
        except ImportError:
            raise ConfigError(
                "observers: OpenTelemetryObserver needs opentelemetry-api: "
                "pip install 'cosy-sync[opentelemetry]'"
            ) from None
        tracer = trace.get_tracer("cosy_sync", __version__, tracer_provider)
        meter = metrics.get_meter("cosy_sync", __version__, meter_provider)
        more = {names.OPERATION: "generate_content", names.OUTPUT: "speech", **(attributes or {})}

        # Looked up for each request, and the same for all of an endpoint's: nobody changes one.
        @functools.lru_cache(_MOST_KNOWN)
        def facts(endpoint: str) -> dict[str, Any]:
            return {**more, **_server(endpoint)}

        counts = _Metrics(metrics, meter)
        spans = _Spans(trace, tracer, counts.duration, facts)
        self._takers: Mapping[type, Callable[[Any], None]] = {
            AttemptFinished: spans.attempt,
            TextsFinished: counts.finished,
            TextFailed: counts.failed,
            TextsShared: counts.shared,
            CacheAnswered: counts.cached,
            CacheMissed: counts.missed,
            AudioRefused: counts.bad_audio,
            RetryPlanned: counts.retry,
            CallRefused: counts.refused,
            BreakerChanged: counts.breaker,
            CanaryChanged: counts.canary,
            VariantSpoke: counts.variant,
        }

    def taker(self, kind: type) -> Callable[[Any], None] | None:
        """Return what is called with events of a class, None where they are not told."""
        return self._takers.get(kind)

    def on_event(self, event: Event) -> None:
        """Tell of an event."""
        take = self._takers.get(type(event))
        if take is not None:
            take(event)


class _Spans:
    """A span of each request, and its duration."""

    def __init__(
        self, trace: Any, tracer: Any, duration: Any, facts: Callable[[str], dict[str, Any]]
    ) -> None:
        self._trace, self._start, self._record = trace, tracer.start_span, duration.record
        self._kind, self._facts = trace.SpanKind.CLIENT, facts

    def attempt(self, event: AttemptFinished) -> None:
        timing, end = event.timing, time.time_ns()
        facts, error = self._facts(timing.endpoint), event.error
        span = self._start(
            "generate_content speech",
            kind=self._kind,
            start_time=end - int(timing.total * 1e9),
            attributes=facts,
        )
        if span.is_recording():
            span.set_attributes(
                {
                    names.REQUEST: timing.request_id,
                    names.TEXTS: event.texts,
                    names.CHARACTERS: event.chars,
                    names.BYTES: event.reply_bytes,
                }
            )
        if error is not None:
            facts = {**facts, names.ERROR: type(error).__name__}
            span.set_attribute(names.ERROR, type(error).__name__)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, error.message))
        span.end(end_time=end)
        self._record(timing.total, facts)


class _Metrics:
    def __init__(self, metrics: Any, meter: Any) -> None:
        self._observe = metrics.Observation

        def made(create: Any, name: str, *more: Any) -> Any:
            words, unit = names.MEASURES[name]
            return create(f"cosy_sync.{name}", *more, unit, words)

        counter = functools.partial(made, meter.create_counter)

        self.duration = meter.create_histogram(names.DURATION, "s", "Requests by result.")
        self._latency = made(meter.create_histogram, "text.duration")
        self._texts = counter("texts")
        self._lookups, self._saved = counter("cache.lookups"), counter("cache.saved")
        self._audio, self._bad = counter("audio.duration"), counter("bad_audio")
        self._retries, self._refused = counter("retries"), counter("refused")
        self._breaker = counter("breaker.changes")
        self._changes, self._spoken = counter("canary.changes"), counter("canary.texts")
        # By canary, as each was told last.
        self._shares: dict[str, float] = {}
        made(meter.create_observable_gauge, "canary.share", [self._tell_shares])

    def finished(self, event: TextsFinished) -> None:
        self._texts.add(event.texts)
        self._audio.add(event.audio_seconds)
        self._latency.record(event.latency)

    def failed(self, event: TextFailed) -> None:
        self._texts.add(1, {names.ERROR: type(event.error).__name__})

    def shared(self, event: TextsShared) -> None:
        self._texts.add(event.texts)

    def cached(self, event: CacheAnswered) -> None:
        self._texts.add(event.texts, {names.RESULT: "cached"})
        for result, texts in (("hit", event.texts), ("refused", event.refused)):
            if texts:
                self._lookups.add(texts, {names.RESULT: result})
        self._saved.add(event.audio_bytes)

    def missed(self, event: CacheMissed) -> None:
        self._lookups.add(event.texts, {names.RESULT: "miss"})

    def bad_audio(self, event: AudioRefused) -> None:
        self._bad.add(event.texts, {**_server(event.endpoint), names.REASON: event.reason})

    def retry(self, event: RetryPlanned) -> None:
        facts = {**_server(event.endpoint), names.ERROR: type(event.error).__name__}
        self._retries.add(event.texts, facts)

    def refused(self, event: CallRefused) -> None:
        facts = {**_server(event.endpoint), names.ERROR: type(event.error).__name__}
        self._refused.add(event.texts, facts)

    def breaker(self, event: BreakerChanged) -> None:
        self._breaker.add(1, {**_server(event.endpoint), names.STATE: event.new})

    def canary(self, event: CanaryChanged) -> None:
        self._shares[event.name] = event.share
        self._changes.add(1, {names.CANARY: event.name, names.CANARY_STATE: event.state})

    def variant(self, event: VariantSpoke) -> None:
        facts = {names.CANARY: event.name, names.VARIANT: event.variant}
        if event.error:
            facts[names.ERROR] = event.error
        self._spoken.add(event.texts, facts)

    def _tell_shares(self, _: Any) -> list[Any]:
        shares = list(self._shares.items())
        return [self._observe(share, {names.CANARY: name}) for name, share in shares]


def _server(endpoint: str) -> dict[str, Any]:
    """Return an endpoint's attributes."""
    parts = urlsplit(endpoint)
    facts: dict[str, Any] = {names.ADDRESS: parts.hostname or endpoint}
    port = parts.port or _PORTS.get(parts.scheme)
    return {**facts, names.PORT: port} if port else facts
