"""Under which key a text's sound is kept."""

from __future__ import annotations

import hashlib
import re

__all__ = ["key_of"]

# What some file system or bucket does not take in a name; it is written as %XX.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"*:<>?\\|%\ud800-\udfff]")
# The folders of plain ids.
_HASHED = re.compile("[0-9a-f]{2}")
# Bytes of a name; systems allow 255, and its ending and a temporary form need some.
_MOST = 200


def key_of(id: str, ending: str) -> str:
    """Return the key for a text's sound.

    An id with `/` makes folders itself; else 256 folders, named by a hash of the id, keep each
    from holding too many files. Two ids never get the same key.
    """
    *folders, name = (_escape(part) for part in id.split("/"))
    if not folders:
        folders = [hashlib.blake2b(id.encode("utf-8", "surrogatepass")).hexdigest()[:2]]
    elif _HASHED.fullmatch(folders[0]):
        # Or book 5f's a1 and a plain a1 whose hash is 5f would be one.
        folders[0] = f"%{ord(folders[0][0]):02X}{folders[0][1:]}"
    # Windows' shares forget dots and spaces at the end of a name.
    folders = [re.sub(r"[. ]$", lambda last: f"%{ord(last[0]):02X}", each) for each in folders]
    # A folder is never called as a sound is: one name cannot be both.
    folders = [re.sub(rf"\.{ending}$", f"%2E{ending}", folder) for folder in folders]
    return "/".join([*folders, f"{name}.{ending}"])


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
