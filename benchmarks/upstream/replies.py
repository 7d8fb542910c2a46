"""Right replies to the fixed texts, computed once and served as they are."""

from __future__ import annotations

import base64
import json

from benchmarks.corpus import FIXED_TEXTS
from benchmarks.task import Place
from cosy_sync.server import tone_wav

__all__ = ["MEDIA_TYPES", "reply_body"]

_BOUNDARY = "cosy-benchmark-0b5c1f"

MEDIA_TYPES = {
    "plain": "application/octet-stream",
    "speech": "audio/wav",
    "json": "application/json",
    "multipart": f"multipart/mixed; boundary={_BOUNDARY}",
}


def reply_body(place: Place) -> bytes:
    """Return the bytes that this place answers with."""
    if place.form == "plain":
        return b"0123456789abcdef" * (place.size // 16)
    if place.form == "speech":
        return tone_wav(FIXED_TEXTS[0], audio_bytes=place.size)
    wavs = [tone_wav(text, audio_bytes=place.size) for text in FIXED_TEXTS[: place.texts]]
    return _as_json(wavs) if place.form == "json" else _as_multipart(wavs)


def _as_json(wavs: list[bytes]) -> bytes:
    results = [
        {
            "index": index,
            "status": "success",
            "audio_data": base64.b64encode(wav).decode(),
            "media_type": "audio/wav",
        }
        for index, wav in enumerate(wavs)
    ]
    count = len(wavs)
    return json.dumps(
        {"results": results, "total": count, "succeeded": count, "failed": 0}
    ).encode()


def _as_multipart(wavs: list[bytes]) -> bytes:
    parts = [
        b"--%b\r\nContent-Type: audio/wav\r\nX-Index: %d\r\nX-Status: success\r\n"
        b"Content-Length: %d\r\n\r\n%b\r\n" % (_BOUNDARY.encode(), index, len(wav), wav)
        for index, wav in enumerate(wavs)
    ]
    return b"".join(parts) + b"--%b--\r\n" % _BOUNDARY.encode()
