"""gzip both ways: replies, capped request bodies, and the bomb."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import cache, lru_cache

from .errors import RequestError, bad_request
from .sound import Piece

_GZIP_WINDOW = 31
_RAW_WINDOW = -15
_FASTEST = 1

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

_BOMB_BLOCK = 16 * 1024 * 1024
_BOMB_BLOCKS = 68


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip."""
    for entry in accept_encoding.lower().split(","):
        coding, _, weight = entry.replace(" ", "").partition(";q=")
        if coding in ("gzip", "x-gzip", "*"):
            return weight.strip("0.") != "" or not weight
    return False


def compress(pieces: Iterable[Piece]) -> bytes:
    """Compress a body. Takes about 20 ms a megabyte: call it on a thread when it is large."""
    packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP_WINDOW)
    packed = [packer.compress(piece) for piece in pieces]
    packed.append(packer.flush())
    return b"".join(packed)


def inflate(body: bytes, max_bytes: int) -> bytes:
    """Decompress a request body. Raises RequestError: 413 beyond the cap, 400 when broken.

    Args:
        body: gzip data.
        max_bytes: largest result, in bytes.
    """
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        data = unpacker.decompress(body, max_bytes + 1)
    except zlib.error:
        raise bad_request("the body is not gzip, although Content-Encoding says so") from None
    if len(data) > max_bytes:
        raise RequestError(413, "too_large", f"the body has more than {max_bytes} bytes unpacked")
    if not unpacker.eof:
        raise bad_request("the gzip body is cut")
    return data


@cache
def gzip_bomb() -> bytes:
    """Make a valid gzip body of 1 MB that inflates to more than 1 GB of JSON.

    A full flush forgets all history, so one compressed block of blanks can be repeated.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW_WINDOW)
    opening, blanks, closing = b'{"results":[', b" " * _BOMB_BLOCK, b"]}"
    start = packer.compress(opening) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.compress(closing) + packer.flush()
    checksum = zlib.crc32(opening)
    for _ in range(_BOMB_BLOCKS):
        checksum = zlib.crc32(blanks, checksum)
    checksum = zlib.crc32(closing, checksum)
    size = len(opening) + len(closing) + _BOMB_BLOCK * _BOMB_BLOCKS
    trailer = struct.pack("<II", checksum, size & 0xFFFFFFFF)
    return _GZIP_HEADER + start + block * _BOMB_BLOCKS + end + trailer
