"""Which errors the embedded server's faults end as, on every wire over HTTP."""

from __future__ import annotations

import cosy_sync

__all__ = ["HTTP_TROUBLE"]

HTTP_TROUBLE: dict[str, type[cosy_sync.CosyError]] = {
    "status-500": cosy_sync.UnavailableError,
    "status-502": cosy_sync.UnavailableError,
    "status-503": cosy_sync.UnavailableError,
    "status-504": cosy_sync.UnavailableError,
    "throttle": cosy_sync.ThrottledError,
    "throttle-bare": cosy_sync.ThrottledError,
    "throttle-date": cosy_sync.ThrottledError,
    "throttle-ms": cosy_sync.ThrottledError,
    "reset": cosy_sync.CutError,
    "reset-mid": cosy_sync.CutError,
    "cut": cosy_sync.CutError,
    "cut-chunked": cosy_sync.CutError,
    "stall": cosy_sync.ReplyTimeout,
    "stall-mid": cosy_sync.ReplyTimeout,
    # All of it comes, but more is announced, or less, or two things at once.
    "length-long": cosy_sync.ReplyTimeout,
    "length-short": cosy_sync.BadAudioError,
    "length-twice": cosy_sync.TransportError,
    "not-json": cosy_sync.BadAudioError,
    "json-object": cosy_sync.ServerError,
}
