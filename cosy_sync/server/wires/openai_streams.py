"""Sound in pieces, as bare bytes or as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator

from ..sound import Failure, wav_header

__all__ = ["event_chunks", "raw_chunks"]

# About 0.2 s of sound at 24 kHz.
_CHUNK_BYTES = 9_600
# What stands in a WAV header where the length is not known yet.
_UNKNOWN = b"\xff\xff\xff\xff"


async def raw_chunks(pcm: bytes, audio_format: str, sample_rate: int) -> AsyncIterator[bytes]:
    """Give the bytes of a stream; a WAV header's two sizes are unknown."""
    head = b""
    if audio_format == "wav":
        plain = wav_header(0, sample_rate)
        head = plain[:4] + _UNKNOWN + plain[8:40] + _UNKNOWN
    for chunk in _cut(pcm):
        yield head + chunk
        head = b""
        await asyncio.sleep(0)


async def event_chunks(pcm: bytes, failure: Failure | None) -> AsyncIterator[bytes]:
    """Give the events of a stream; with a failure it breaks off after its first sound."""
    for chunk in _cut(pcm):
        audio = base64.b64encode(chunk).decode()
        yield _event(type="speech.audio.delta", audio=audio, response_format="pcm")
        await asyncio.sleep(0)
        if failure is not None:
            error = {"message": failure.message, "type": "server_error", "param": None, "code": 500}
            told = {"error": error, "partial_audio": True, "action": "discard"}
            yield _event(type="speech.audio.error", **told)
            return
    usage = {"input_tokens": 1, "output_tokens": len(pcm), "total_tokens": 1 + len(pcm)}
    yield _event(type="speech.audio.done", usage=usage)


def _cut(pcm: bytes) -> Iterator[bytes]:
    return (pcm[at : at + _CHUNK_BYTES] for at in range(0, len(pcm), _CHUNK_BYTES))


def _event(**fields: object) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()
