"""Undo gzip and deflate, never beyond a given size."""

from __future__ import annotations

import zlib

from ..errors import BadAudioError

__all__ = ["inflate"]

# zlib's code for "gzip or zlib header, find out which".
_ANY_HEADER = 32 + zlib.MAX_WBITS


def inflate(body: bytes | bytearray, encoding: str, max_bytes: int) -> bytes | bytearray:
    """Return the body without its Content-Encoding.

    Raises BadAudioError when it grows beyond `max_bytes`, is cut, or is not what it says.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadAudioError(
            f"the reply's Content-Encoding {encoding!r} was not asked for", reason="encoding"
        )
    decoder = zlib.decompressobj(_ANY_HEADER)
    try:
        plain = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadAudioError(
            f"the reply's {encoding} is broken: {error}", reason="encoding"
        ) from None
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not decoder.eof:
        raise BadAudioError(f"the reply's {encoding} ends too early", reason="cut")
    return plain


def too_large(max_bytes: int) -> BadAudioError:
    """Build the error for a reply that is larger than it can rightly be."""
    return BadAudioError(
        f"the reply is larger than {max_bytes} bytes, more than these texts can fill; if the "
        "service is right, raise LimitConfig(max_reply_bytes=...) and VerifyConfig",
        reason="too_large",
        retryable=False,
    )
