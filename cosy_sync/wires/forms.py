"""multipart/form-data (RFC 7578) as requests carry it: fields of text and one file."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Form", "write_form"]


class Form(NamedTuple):
    """What stands before and behind the last field's text, and the media type of it all."""

    before: bytes
    after: bytes
    content_type: str


def write_form(
    fields: Mapping[str, str], file: tuple[str, str, bytes], *, open_field: str = ""
) -> Form:
    """Write a form; where `open_field` is named, its text is left to be put in between.

    Args:
        fields: Name and text.
        file: Name of its field, media type, bytes.
        open_field: The field whose text changes from request to request.
    """
    # Drawn, so that no text and no sound can hold it.
    boundary = secrets.token_hex(24)
    dashes = f"--{boundary}\r\n"
    name, kind, data = file
    before = f'{dashes}Content-Disposition: form-data; name="{name}"; filename="voice.wav"\r\n'
    written = f"{before}Content-Type: {kind}\r\n\r\n".encode() + data + b"\r\n"
    for key, text in fields.items():
        written += f"{_field(dashes, key)}{text}\r\n".encode()
    end = f"--{boundary}--\r\n".encode()
    content_type = f"multipart/form-data; boundary={boundary}"
    if not open_field:
        return Form(written, end, content_type)
    return Form(written + _field(dashes, open_field).encode(), b"\r\n" + end, content_type)


def _field(dashes: str, name: str) -> str:
    escaped = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return f'{dashes}Content-Disposition: form-data; name="{escaped}"\r\n\r\n'
