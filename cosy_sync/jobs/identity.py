"""Which text is which: what stands for its words and its voice, and whose shard it is in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cosy_sync import CosyClient, Recording
from cosy_sync.jobs.inputs import JobText

__all__ = ["TextDigest", "is_mine"]


class TextDigest:
    """Returns what stands for a text and the way in which a client would speak it."""

    def __init__(self, client: CosyClient) -> None:
        config, voice = client.config, client.config.voice
        self._common: list[Any] = [
            *(config.wire, config.model, config.format, config.sample_rate, config.speed),
            *((voice.name, voice.instruction, voice.transcript) if voice else ()),
        ]
        if voice is not None and isinstance(voice.reference, Recording):
            self._common.append(voice.reference.digest)
        if config.extra:
            self._common.append(json.dumps(dict(config.extra), sort_keys=True, default=repr))

    def __call__(self, text: JobText) -> bytes:
        """Return the digest of a text: 16 bytes, the same in every process and version."""
        spoken = [text.text, text.voice, text.instruction, text.speed, *self._common]
        return hashlib.blake2b(json.dumps(spoken).encode(), digest_size=16).digest()


def is_mine(id: str, shard: tuple[int, int] | None) -> bool:
    """Return whether a shard, such as (2, 16), holds the text of this id."""
    if shard is None:
        return True
    number, of = shard
    hashed = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") % of == number - 1
