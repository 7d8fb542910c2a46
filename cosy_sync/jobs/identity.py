"""Which text is which: what stands for its words and its voice, and whose shard it is in."""

from __future__ import annotations

import hashlib
import json

from cosy_sync import CosyClient
from cosy_sync.jobs.inputs import JobText

__all__ = ["digest_of", "is_mine"]


def digest_of(client: CosyClient, text: JobText) -> bytes:
    """Return what stands for a text and the way in which it is spoken."""
    config = client.config
    voice = config.voice
    spoken = [
        *(text.text, text.voice, text.instruction, text.speed),
        *(config.wire, config.model, config.format, config.sample_rate, config.speed),
        *((voice.name, voice.instruction, voice.transcript) if voice else ()),
    ]
    return hashlib.blake2b(json.dumps(spoken).encode(), digest_size=16).digest()


def is_mine(id: str, shard: tuple[int, int] | None) -> bool:
    """Return whether a shard, such as (2, 16), holds the text of this id."""
    if shard is None:
        return True
    number, of = shard
    hashed = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") % of == number - 1
