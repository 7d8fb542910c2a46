"""What the wires over gRPC share: metadata, framed messages, and how a reply breaks off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import ConfigError, CosyError, CutError
from .base import SpeechOptions

__all__ = ["broken_off", "messages_of", "metadata_of"]

# What gRPC allows as a name of metadata, and what it keeps for itself.
_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
# A message is sent behind a flag and its length, in bytes.
_FRAME = 5


def metadata_of(options: SpeechOptions, wire: str) -> tuple[tuple[str, str], ...]:
    """Return the user's headers and key as a call's metadata. Raises ConfigError for what cannot
    be sent as such, and for `extra`."""
    if options.extra:
        raise ConfigError(f"extra: the wire {wire!r} has no further fields; leave it out")
    metadata = {name.lower(): value for name, value in options.headers.items()}
    for name in metadata:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"headers: {name!r} cannot be sent as gRPC metadata; rename it")
    if options.api_key is not None:
        # The servers themselves have no keys; what stands before them may.
        metadata.setdefault("authorization", f"Bearer {options.api_key}")
    metadata.pop("x-request-id", None)
    return tuple(metadata.items())


def messages_of(body: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """Take the messages out of a body, each behind its length as gRPC frames them.

    Raises ValueError where the last one is not whole.
    """
    view = memoryview(body)
    start = 0
    while start < len(view):
        size = int.from_bytes(view[start + 1 : start + _FRAME], "big")
        start += _FRAME
        if start + size > len(view):
            raise ValueError("a message ends before its length is reached")
        yield bytes(view[start : start + size])
        start += size


def broken_off(error: CosyError) -> CutError:
    """Return what an error means that comes behind sound."""
    cut = CutError(f"the reply broke off: {error.message}")
    cut.__cause__ = error
    return cut
