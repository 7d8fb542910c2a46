"""JSON and base64 through the fastest library that is installed (extra `speed`)."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from typing import Any

__all__ = ["dump_json", "from_base64", "load_json"]


def _std_load(body: bytes | bytearray | memoryview) -> Any:
    data = bytes(body) if isinstance(body, memoryview) else body
    try:
        return json.loads(data)
    except RecursionError as cause:
        raise ValueError("nested too deep") from cause


def _std_dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _find_json() -> tuple[
    Callable[[bytes | bytearray | memoryview], Any],
    Callable[[Any], bytes],
]:
    try:
        import orjson
    except ImportError:
        return _std_load, _std_dump
    return orjson.loads, orjson.dumps


def _find_base64() -> Callable[..., bytes]:
    try:
        import pybase64
    except ImportError:
        return base64.b64decode
    return pybase64.b64decode


_load, _dump = _find_json()
_b64decode = _find_base64()


# Reads JSON. Raises ValueError.
load_json = _load


def dump_json(value: Any) -> bytes:
    """Write compact JSON in UTF-8. Raises ValueError for text that UTF-8 cannot hold."""
    try:
        return _dump(value)
    except TypeError as cause:
        raise ValueError("not encodable") from cause


# Decodes base64 without forgiving any foreign character. Raises ValueError.
from_base64 = functools.partial(_b64decode, validate=True)
