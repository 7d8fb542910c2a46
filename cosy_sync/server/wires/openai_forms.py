"""The fields of a request of the wire `openai`: JSON, or a form with a file."""

from __future__ import annotations

import json
import re
from typing import Any

from ...errors import BadAudioError
from ...wires.multipart import split_parts
from ..errors import bad_request
from ..reader import Request

__all__ = ["Fields", "read_body", "read_number"]

Fields = dict[str, Any]

_NAME = re.compile(r'\bname="([^"]*)"')
_MAX_PARTS = 32


def read_body(request: Request, body: bytes) -> Fields:
    """Return the fields; files as bytes, all else of a form as text. Raises RequestError."""
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _read_form(content_type, body)
    if kind != "application/json":
        raise bad_request("Unsupported Media Type: Only 'application/json' is allowed")
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise bad_request("the body is not a JSON object")
    return fields


def read_number(fields: Fields, name: str, default: float, bounds: tuple[float, float]) -> float:
    """Return a number within its bounds. Raises RequestError."""
    value = fields.get(name)
    if value is None:
        return default
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = bounds[1] + 1
    if not bounds[0] <= number <= bounds[1]:
        raise bad_request(f"{name}: Input should be a number from {bounds[0]} to {bounds[1]}")
    return number


def _read_form(content_type: str, body: bytes) -> Fields:
    fields: Fields = {}
    try:
        parts = split_parts(content_type, body, _MAX_PARTS)
        for part in parts:
            disposition = part.headers.get("content-disposition", "")
            found = _NAME.search(disposition)
            if found is None:
                raise bad_request("a part of the form has no name")
            is_file = "filename=" in disposition
            fields[found[1]] = part.body if is_file else part.body.decode()
    except (BadAudioError, UnicodeDecodeError):
        raise bad_request("the body is no multipart/form-data") from None
    return fields
