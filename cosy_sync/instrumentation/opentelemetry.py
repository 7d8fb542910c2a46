"""Spans and metrics for OpenTelemetry: one span for each request, with what became of it."""

from __future__ import annotations

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
    RetryPlanned,
    TextFailed,
    TextsFinished,
    TextsShared,
)

__all__ = ["OpenTelemetryObserver"]

# Names of OpenTelemetry's conventions (generative AI, servers, errors), and our own beside them.
_OPERATION, _OUTPUT = "gen_ai.operation.name", "gen_ai.output.type"
_DURATION = "gen_ai.client.operation.duration"
_ADDRESS, _PORT, _ERROR = "server.address", "server.port", "error.type"
_REQUEST, _TEXTS, _CHARACTERS = "cosy_sync.request_id", "cosy_sync.texts", "cosy_sync.characters"
_REASON, _STATE, _BYTES = "cosy_sync.reason", "cosy_sync.breaker.state", "cosy_sync.reply.bytes"
_RESULT = "cosy_sync.result"
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
        more = {_OPERATION: "generate_content", _OUTPUT: "speech", **(attributes or {})}
        spans, counts = _Spans(trace, tracer, more), _Metrics(meter, more)

        def both(event: AttemptFinished) -> None:
            spans.attempt(event)
            counts.attempt(event)

        self._takers: Mapping[type, Callable[[Any], None]] = {
            AttemptFinished: both,
            TextsFinished: counts.finished,
            TextFailed: counts.failed,
            TextsShared: counts.shared,
            CacheAnswered: counts.cached,
            CacheMissed: counts.missed,
            AudioRefused: counts.bad_audio,
            RetryPlanned: counts.retry,
            CallRefused: counts.refused,
            BreakerChanged: counts.breaker,
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
    def __init__(self, trace: Any, tracer: Any, attributes: Mapping[str, Any]) -> None:
        self._trace, self._tracer = trace, tracer
        self._attributes = attributes

    def attempt(self, event: AttemptFinished) -> None:
        timing, end = event.timing, time.time_ns()
        span = self._tracer.start_span(
            "generate_content speech",
            kind=self._trace.SpanKind.CLIENT,
            start_time=end - int(timing.total * 1e9),
            attributes={
                **self._attributes,
                **_server(timing.endpoint),
                _REQUEST: timing.request_id,
                _TEXTS: event.texts,
                _CHARACTERS: event.chars,
                _BYTES: event.reply_bytes,
            },
        )
        if event.error is not None:
            span.set_attribute(_ERROR, type(event.error).__name__)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, event.error.message))
        span.end(end_time=end)


class _Metrics:
    def __init__(self, meter: Any, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes

        def counter(name: str, words: str, unit: str = "{text}") -> Any:
            return meter.create_counter(f"cosy_sync.{name}", unit, words)

        self._duration = meter.create_histogram(_DURATION, "s", "Requests by result.")
        self._latency = meter.create_histogram("cosy_sync.text.duration", "s", "Until its reply.")
        self._texts = counter("texts", "Texts by how they ended.")
        self._lookups = counter("cache.lookups", "Texts looked up in the cache.")
        self._saved = counter("cache.saved", "Bytes of audio that were not fetched.", "By")
        self._audio = counter("audio.duration", "Seconds of audio.", "s")
        self._bad = counter("bad_audio", "Texts with refused audio.")
        self._retries = counter("retries", "Texts sent again.")
        self._refused = counter("refused", "Texts not sent, each time.")
        self._breaker = counter("breaker.changes", "Changes of a breaker.", "{change}")

    def attempt(self, event: AttemptFinished) -> None:
        facts = {**self._attributes, **_server(event.timing.endpoint)}
        if event.error is not None:
            facts[_ERROR] = type(event.error).__name__
        self._duration.record(event.timing.total, facts)

    def finished(self, event: TextsFinished) -> None:
        self._texts.add(event.texts)
        self._audio.add(event.audio_seconds)
        self._latency.record(event.latency)

    def failed(self, event: TextFailed) -> None:
        self._texts.add(1, {_ERROR: type(event.error).__name__})

    def shared(self, event: TextsShared) -> None:
        self._texts.add(event.texts)

    def cached(self, event: CacheAnswered) -> None:
        self._texts.add(event.texts, {_RESULT: "cached"})
        for result, texts in (("hit", event.texts), ("refused", event.refused)):
            if texts:
                self._lookups.add(texts, {_RESULT: result})
        self._saved.add(event.audio_bytes)

    def missed(self, event: CacheMissed) -> None:
        self._lookups.add(event.texts, {_RESULT: "miss"})

    def bad_audio(self, event: AudioRefused) -> None:
        self._bad.add(event.texts, {**_server(event.endpoint), _REASON: event.reason})

    def retry(self, event: RetryPlanned) -> None:
        facts = {**_server(event.endpoint), _ERROR: type(event.error).__name__}
        self._retries.add(event.texts, facts)

    def refused(self, event: CallRefused) -> None:
        facts = {**_server(event.endpoint), _ERROR: type(event.error).__name__}
        self._refused.add(event.texts, facts)

    def breaker(self, event: BreakerChanged) -> None:
        self._breaker.add(1, {**_server(event.endpoint), _STATE: event.new})


def _server(endpoint: str) -> dict[str, Any]:
    """Return an endpoint's attributes."""
    parts = urlsplit(endpoint)
    facts: dict[str, Any] = {_ADDRESS: parts.hostname or endpoint}
    port = parts.port or _PORTS.get(parts.scheme)
    return {**facts, _PORT: port} if port else facts
