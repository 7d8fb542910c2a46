"""HTML forms whose fields stay the same from request to request, but for one text."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

__all__ = ["Form"]


class Form:
    """A form for any number of texts: multipart (RFC 7578) with a file, urlencoded without.

    `before` and `after` are what stands on both sides of the text.
    """

    def __init__(
        self, text_field: str, fields: Mapping[str, str], files: Mapping[str, bytes]
    ) -> None:
        self._is_multipart = bool(files)
        if files:
            # Random, so that no text and no recording has it inside by chance.
            boundary = secrets.token_hex(16)
            self.content_type = f"multipart/form-data; boundary={boundary}"
            self.before = _part_head(boundary, text_field)
            rest = [_part_head(boundary, name) + fields[name].encode() for name in fields]
            rest += [_file_head(boundary, name) + files[name] for name in files]
            self.after = (
                b"".join(b"\r\n" + part for part in rest) + f"\r\n--{boundary}--\r\n".encode()
            )
        else:
            self.content_type = "application/x-www-form-urlencoded"
            self.before = f"{quote_plus(text_field)}=".encode()
            self.after = b"&" + urlencode(fields).encode() if fields else b""

    def body(self, text: str) -> bytes:
        """Return the form filled in. Raises UnicodeEncodeError for text that UTF-8 cannot hold."""
        value = text.encode() if self._is_multipart else quote_plus(text).encode()
        return b"".join((self.before, value, self.after))


def _part_head(boundary: str, name: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"\r\n\r\n'
    return head.encode()


def _file_head(boundary: str, name: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    ).encode()


def _escaped(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
