"""What metrics and attributes are called: one table, which docs/metrics.md follows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["MEASURES", "METRICS"]

# Prometheus' metrics, without `cosy_sync_`: what they tell, and their labels. The library adds
# `_total` to what is counted.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "texts": ("Texts by how they ended.", ("result",)),
        "text_seconds": ("From a text's acceptance until its reply was whole.", ()),
        "characters": ("Characters of texts that got audio.", ()),
        "audio_seconds": ("Seconds of audio.", ()),
        "cache_lookups": ("Texts looked up in the cache.", ("result",)),
        "cache_saved_bytes": ("Bytes of audio that were not fetched.", ()),
        "request_seconds": ("Of requests, until they ended.", ("endpoint", "result")),
        "first_audio_seconds": ("From a stream's call to its first audio.", ()),
        "bad_audio_texts": ("Texts with refused audio.", ("endpoint", "reason")),
        "retried_texts": ("Texts sent again.", ("endpoint", "error")),
        "suppressed_texts": ("Texts not sent again.", ("reason",)),
        "refused_texts": ("Texts not sent, each time.", ("endpoint", "error")),
        "hedges": ("Late calls sent twice.", ("won",)),
        "limits_lowered": ("An endpoint showed overload.", ("endpoint",)),
        "breaker_state": ("0 closed, 1 half-open, 2 open.", ("endpoint",)),
        "canary_share": (
            "Share of the texts that the new model speaks; 0 once it is rolled back.",
            ("canary",),
        ),
        "canary_state": ("0 running, 1 promoted, 2 rolled back.", ("canary",)),
        "canary_rollbacks": ("Processes that rolled back.", ("canary",)),
        "canary_texts": (
            "Texts of requests, by who was to speak them and what came.",
            ("canary", "variant", "result"),
        ),
    }
)

# OpenTelemetry's, without `cosy_sync.`: what they tell, and their unit.
MEASURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "text.duration": ("Until its reply.", "s"),
        "texts": ("Texts by how they ended.", "{text}"),
        "cache.lookups": ("Texts looked up in the cache.", "{text}"),
        "cache.saved": ("Bytes of audio that were not fetched.", "By"),
        "audio.duration": ("Seconds of audio.", "s"),
        "bad_audio": ("Texts with refused audio.", "{text}"),
        "retries": ("Texts sent again.", "{text}"),
        "refused": ("Texts not sent, each time.", "{text}"),
        "breaker.changes": ("Changes of a breaker.", "{change}"),
        "canary.share": ("Share of the texts that the new model speaks.", "1"),
        "canary.changes": ("Changes of a canary, by the state that it came to.", "{change}"),
        "canary.texts": ("Texts of requests, by who was to speak them and what came.", "{text}"),
    }
)

# Attributes: those of OpenTelemetry's conventions (generative AI, servers, errors), and our own.
OPERATION, OUTPUT = "gen_ai.operation.name", "gen_ai.output.type"
DURATION = "gen_ai.client.operation.duration"
ADDRESS, PORT, ERROR = "server.address", "server.port", "error.type"
REQUEST, TEXTS, CHARACTERS = "cosy_sync.request_id", "cosy_sync.texts", "cosy_sync.characters"
BYTES, REASON, RESULT = "cosy_sync.reply.bytes", "cosy_sync.reason", "cosy_sync.result"
STATE = "cosy_sync.breaker.state"
CANARY, VARIANT = "cosy_sync.canary.name", "cosy_sync.canary.variant"
CANARY_STATE = "cosy_sync.canary.state"
