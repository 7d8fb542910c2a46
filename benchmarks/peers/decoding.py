"""A reply to bytes, as users of HTTP libraries write it: the standard library, or faster parts."""

from __future__ import annotations

import base64
import json
from typing import Any

__all__ = ["decode_fast", "decode_json"]


def decode_json(body: bytes) -> list[bytes]:
    """Return each text's audio; standard library only. Raises ValueError for a failed text."""
    return [base64.b64decode(_data(item)) for item in json.loads(body)["results"]]


def decode_fast(body: bytes) -> list[bytes]:
    """Return each text's audio, with orjson and pybase64."""
    import orjson
    import pybase64

    return [pybase64.b64decode(_data(item)) for item in orjson.loads(body)["results"]]


def _data(item: dict[str, Any]) -> str:
    if item["status"] != "success":
        raise ValueError(item.get("error"))
    data: str = item["audio_data"]
    return data
