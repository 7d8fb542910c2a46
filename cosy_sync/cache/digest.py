"""The digest of a text: what its audio depends on, as 40 hexadecimal digits.

It is the same in every process, on every machine and in every later version. It is BLAKE2b with 20
bytes of output over one line of JSON in ASCII (keys sorted, no spaces), a line feed, and the text
in UTF-8, as `prepare` leaves it. The line is a list: 1 (the version of this format), wire family,
voice name, instruction, transcript, the recording's SHA-256, model, format, quality as a float or
null, sample rate, speed as a float, `extra`, and the user's version. The family is the wire's name
without `_http`, `_ws` or `_grpc`. The key, headers, tenant and endpoint are not in it.

Format and quality are in it, as audio is kept encoded: encoding takes longer than any lookup.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..bounded import BoundedCache
from ..config import ClientConfig
from ..config.client import as_spoken
from ..models import Recording

__all__ = ["Prefixes", "digest_text", "prefix_of", "wire_family"]

_FORMAT = 1
_CARRIERS = ("_http", "_ws", "_grpc")
# Configurations that are known. A program that makes more must not grow for ever.
_MOST = 256


def wire_family(wire: str) -> str:
    """Return a wire's name without how it is carried: its audio is the same."""
    for carrier in _CARRIERS:
        wire = wire.removesuffix(carrier)
    return wire


def prefix_of(config: ClientConfig) -> Any:
    """Return the hash that the digests of all texts under a configuration begin with."""
    config = as_spoken(config)
    voice = config.voice
    recording = None if voice is None else voice.reference
    fields = [
        _FORMAT,
        wire_family(config.wire),
        None if voice is None else voice.name,
        None if voice is None else voice.instruction,
        None if voice is None else voice.transcript,
        recording.digest if isinstance(recording, Recording) else None,
        config.model,
        config.format,
        None if config.quality is None else float(config.quality),
        config.sample_rate,
        float(config.speed),
        dict(config.extra),
        "" if config.cache is None else config.cache.version,
    ]
    line = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(line.encode("ascii") + b"\n", digest_size=20)


def digest_text(prefix: Any, text: str) -> str:
    """Return the digest of a text."""
    whole = prefix.copy()
    whole.update(text.encode("utf-8"))
    digest: str = whole.hexdigest()
    return digest


class Prefixes:
    """What the digests under each configuration begin with. Shared by every thread, as BoundedCache
    says."""

    def __init__(self) -> None:
        # By the identity of the configurations, which stay for as long.
        self._kept: BoundedCache[int, tuple[ClientConfig, Any]] = BoundedCache(_MOST)

    def of(self, config: ClientConfig) -> Any:
        """Return the hash that digests under this configuration begin with."""
        known = self._kept.get(id(config))
        if known is None:
            known = self._kept.keep(id(config), (config, prefix_of(config)))
        return known[1]
