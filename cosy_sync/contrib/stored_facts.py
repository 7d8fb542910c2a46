"""What is known of a stored sound: its line in the manifest, and what is put beside it."""

from __future__ import annotations

import hashlib
import io
import wave
from contextlib import suppress
from typing import Any

from cosy_sync import Audio
from cosy_sync.storage import Stored

__all__ = ["facts_of", "meta_of", "read_facts", "told_facts"]

_TYPES = {"wav": "wav", "mp3": "mpeg", "opus": "ogg", "ogg": "ogg", "flac": "flac"}


def facts_of(data: bytes, audio: Audio) -> dict[str, Any]:
    """Return what the manifest says of a sound."""
    return {
        "seconds": round(audio.duration, 6),
        "bytes": len(data),
        "sample_rate": audio.sample_rate,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def meta_of(facts: dict[str, Any], format: str) -> dict[str, str]:
    """Return what is put beside a sound in a bucket."""
    meta = {name.replace("_", "-"): str(value) for name, value in facts.items()}
    kind = f"audio/{_TYPES[format]}" if format in _TYPES else "application/octet-stream"
    return {**meta, "content-type": kind}


def told_facts(found: Stored) -> dict[str, Any] | None:
    """Return the facts that were put beside a sound; None where they were not, as in a folder."""
    meta = found.meta
    try:
        return {
            "seconds": float(meta["seconds"]),
            "bytes": found.size,
            "sample_rate": int(meta["sample-rate"]),
            "sha256": meta["sha256"],
        }
    except (KeyError, ValueError):
        return None


def read_facts(data: bytes, format: str, sample_rate: int) -> dict[str, Any]:
    """Return the facts of a sound by reading it; of an encoded one, `seconds` is None."""
    size = len(data) if format == "pcm" else 0
    if format == "wav":
        with suppress(wave.Error, EOFError), wave.open(io.BytesIO(data)) as file:
            sample_rate, size = file.getframerate(), 2 * file.getnframes()
    facts = facts_of(data, Audio(data, format, sample_rate, pcm_size=size))
    return facts if size else {**facts, "seconds": None}
