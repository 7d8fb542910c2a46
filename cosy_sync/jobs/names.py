"""Under which key a text's sound is kept."""

from __future__ import annotations

import hashlib
import re

__all__ = ["key_of"]

# What some file system or bucket does not take in a name; it is written as %XX.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"*:<>?\\|%\ud800-\udfff]")
# Bytes of a name; systems allow 255, and its ending and a temporary form need some.
_MOST = 200


def key_of(id: str, ending: str) -> str:
    """Return the key for a text's sound.

    An id with `/` makes folders itself; else 256 folders, named by a hash of the id, keep each
    from holding too many files. Two ids never get the same key.
    """
    parts = [_escape(part) for part in id.split("/")]
    if len(parts) == 1:
        parts.insert(0, hashlib.blake2b(id.encode("utf-8", "surrogatepass")).hexdigest()[:2])
    return f"{'/'.join(parts)}.{ending}"


def _escape(name: str) -> str:
    """Return a name that every system takes; another one for each."""
    plain = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)
    if plain.startswith((".", " ")) or not plain:
        plain = f"%{ord(plain[0]):02X}{plain[1:]}" if plain else "%"
    if len(plain.encode("utf-8", "surrogatepass")) > _MOST:
        whole = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        kept = plain.encode("utf-8", "surrogatepass")[: _MOST - 40].decode("utf-8", "ignore")
        plain = f"{kept}%{whole}"
    return plain
