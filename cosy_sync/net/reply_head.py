"""The head of a reply: of a plain one without a parser, and its headers by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..messages import UNFRAMED

__all__ = ["named", "read_plain_head"]

_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[!-~][ -~]*"
# Visible ASCII, each line ended by CR and LF: no part of it can be taken for another one.
_HEAD = re.compile(
    rb"HTTP/1\.1 200 [ -~]*\r\n(%b: %b(?:\r\n%b: %b)*)\r\n\r\n" % (2 * (_NAME, _VALUE))
)
# Headers that change where the reply ends, or what may follow it.
_DECIDES = frozenset({"transfer-encoding", "upgrade", "proxy-connection"})
# More digits are no size that anything can have.
_MOST_DIGITS = 15


def read_plain_head(data: bytes) -> tuple[dict[str, str], int, int] | None:
    """Return the headers of a reply that begins with all of its head, the same as `named` has them,
    its Content-Length, and where its body starts.

    None for whatever is not plain: another version or status, a length that is missing, a header
    that is there twice or decides about the connection, anything that readers understand
    differently. httptools reads these. What is returned, it would have read in the same way.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    # The whole head is decoded and cut at once: header by header it takes twice the time.
    pairs = [line.split(": ", 1) for line in str(found[1], "ascii").split("\r\n")]
    names = {name.lower(): value for name, value in pairs}
    length = names.get("content-length", "")
    if len(names) < len(pairs) or not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    kept = names.get("connection", "keep-alive")
    if kept != "keep-alive" and kept.lower() != "keep-alive":
        return None
    return (names, int(length), found.end()) if _DECIDES.isdisjoint(names) else None


def named(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of an HTTP/1 reply by their names in lower case; one that comes twice is a
    list. A reply without an end of its own is marked as UNFRAMED."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name.decode("latin-1").lower()] = value.decode("latin-1")
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    if "content-length" not in found and "transfer-encoding" not in found:
        found[UNFRAMED] = "yes"
    return found
