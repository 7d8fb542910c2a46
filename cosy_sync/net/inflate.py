"""Undo gzip and deflate, never beyond a given size."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from ..errors import BadAudioError
from ..threads import leave

__all__ = ["Body", "inflate", "inflated", "shown_coding", "too_large"]

Body = bytes | bytearray | memoryview

# Bytes from which on others run while a body is unpacked.
_LARGE = 65_536
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS
# Each part is cut off the rest, which costs a copy.
_MOST_MEMBERS = 1_024
_KNOWN = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
# The names of codings that are registered (RFC 9110, 16.6 and 16.7, and later ones).
_NAMES = frozenset(
    {*_KNOWN, "aes128gcm", "br", "chunked", "compress", "dcb", "dcz", "exi", "identity"}
    | {"pack200-gzip", "trailers", "x-compress", "zstd"}
)


def inflated(body: Body, headers: Mapping[str, str], status: int, max_bytes: int) -> Body:
    """Return a reply's body as its headers say that it is packed; see `inflate`."""
    encoding = headers.get("content-encoding")
    if encoding is None:
        return body
    try:
        return inflate(body, encoding, max_bytes)
    except BadAudioError:
        if status < 300:
            raise
        return b""  # an error's status says more than that its text cannot be read


def inflate(body: Body, encoding: str, max_bytes: int) -> Body:
    """Return the body without its Content-Encoding.

    Raises BadAudioError when it grows beyond `max_bytes`, is cut, or is not what it says.
    """
    encoding = encoding.strip().lower()
    if len(body) > _LARGE:
        leave()  # it is done without the GIL
    # A reply without a body has nothing to undo, whatever its headers say of it.
    if encoding in ("", "identity") or not body:
        return body
    form = _KNOWN.get(encoding)
    if form is None:
        raise BadAudioError(
            f"the reply's Content-Encoding {shown_coding(encoding)} was not asked for",
            reason="encoding",
            retryable=False,
        )
    if form == _ZLIB and not _has_zlib_header(body):
        form = _BARE  # many servers take "deflate" by its word
    members: list[bytes] = []
    while body:
        if len(members) >= _MOST_MEMBERS:
            raise BadAudioError(f"the reply's {encoding} has too many parts", reason="encoding")
        plain, body = _inflate_member(body, encoding, form, max_bytes)
        members.append(plain)
        max_bytes -= len(plain)
        if form != _GZIP and body:
            raise BadAudioError(f"the reply goes on after its {encoding}", reason="encoding")
    return members[0] if len(members) == 1 else b"".join(members)


def _inflate_member(body: Body, encoding: str, form: int, max_bytes: int) -> tuple[bytes, bytes]:
    """Return what one member holds, and what follows it without padding (RFC 1952 2.2)."""
    decoder = zlib.decompressobj(form)
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
    rest = decoder.unused_data
    return plain, rest.lstrip(b"\0") if form == _GZIP else rest


def shown_coding(value: str) -> str:
    """Return what a message may quote of a header that names codings: names that are known. Any
    other value may be of any length, and hold what a log must not."""
    names = [name.strip().lower() for name in value.split(",", 4)]
    return repr(", ".join(names)) if _NAMES.issuperset(names) else "(of no known name)"


def _has_zlib_header(body: Body) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def too_large(max_bytes: int) -> BadAudioError:
    """Build the error for a reply that is larger than it can rightly be."""
    return BadAudioError(
        f"the reply is larger than {max_bytes} bytes, more than these texts can fill; if the "
        "service is right, raise LimitConfig(max_reply_bytes=...) and VerifyConfig",
        reason="too_large",
        retryable=False,
    )
