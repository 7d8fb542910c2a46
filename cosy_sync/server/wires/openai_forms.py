"""The fields of a request of the wire `openai`: JSON, or a form with a file."""

from __future__ import annotations

from typing import Any

from ...messages import kind_of
from ..batch import read_object
from ..errors import bad_request
from ..reader import Request
from .forms import Upload, read_form

__all__ = ["Fields", "read_body", "read_number"]

Fields = dict[str, Any]


def read_body(request: Request, body: bytes) -> Fields:
    """Return the fields; files as bytes, all else of a form as text. Raises RequestError."""
    content_type = request.headers.get("content-type", "")
    kind = kind_of(content_type)
    if kind == "multipart/form-data":
        form = read_form(content_type, body)
        return {
            name: value.data if isinstance(value, Upload) else value for name, value in form.items()
        }
    if kind != "application/json":
        raise bad_request("Unsupported Media Type: Only 'application/json' is allowed")
    return read_object(body)


def read_number(fields: Fields, name: str, default: float, bounds: tuple[float, float]) -> float:
    """Return a number within its bounds. Raises RequestError."""
    value = fields.get(name)
    if value is None:
        return default
    try:
        number = float("" if isinstance(value, bool) else value)
    except (OverflowError, TypeError, ValueError):
        number = bounds[1] + 1
    if not bounds[0] <= number <= bounds[1]:
        raise bad_request(f"{name}: Input should be a number from {bounds[0]} to {bounds[1]}")
    return number
