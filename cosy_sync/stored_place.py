"""Where a call's sounds go: a store, and the threads that put them there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .models import Audio, Utterance

if TYPE_CHECKING:
    from .storage import Sink

__all__ = ["Kept", "Place", "open_place"]

_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}


class Place:
    """A store that a call puts its sounds into, with the threads that do it.

    Args:
        store: where they go.
        owned: whether to close it in the end.
        digest: returns the digest of a text that is sent.
        format: of the sounds; keys end with it.
        most_bytes: of sound that may wait to be stored.
    """

    # Threads that store sounds, and ask for them.
    WIDTH = 16

    def __init__(
        self,
        store: Sink,
        digest: Callable[[Utterance], str],
        *,
        owned: bool,
        format: str,
        most_bytes: int,
    ) -> None:
        self._store, self._owned = store, owned
        self.digest, self._format, self.most_bytes = digest, format, most_bytes
        self.threads = ThreadPoolExecutor(self.WIDTH, "cosy-store")

    def key_of(self, digest: str) -> str:
        """Return the key of a digest's sound; 256 folders keep each from holding too many."""
        return f"{digest[:2]}/{digest}.{self._format}"

    def address_of(self, key: str) -> str:
        """Return the whole address of a key."""
        base = getattr(self._store, "address", "")
        return f"{base}/{key}" if base else key

    def is_empty(self) -> bool:
        """Return whether there is nothing yet that would have to be asked for."""
        return next(iter(self._store.keys("")), None) is None

    def look(self, digest: str) -> Kept | None:
        """Return what is known of a digest's sound; None where there is none."""
        found = self._store.head(self.key_of(digest))
        if found is None:
            return None
        seconds = found.meta.get("seconds")
        return Kept(found.size, None if seconds is None else float(seconds), created=False)

    def put(self, digest: str, audio: Audio) -> Kept:
        """Store a sound, unless another process has done so meanwhile."""
        data = bytes(audio.data)
        facts = {
            "content-type": _TYPES.get(audio.format, "application/octet-stream"),
            "digest": digest,
            "seconds": f"{audio.duration:.6f}",
            "sample-rate": str(audio.sample_rate),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        mine = Kept(len(data), audio.duration, created=True)
        if self._store.put(self.key_of(digest), data, facts, if_absent=True):
            return mine
        return self.look(digest) or replace(mine, created=False)

    def close(self, *, hurry: bool = False) -> None:
        """Let the threads end what they have begun, and what waits unless there is a hurry; close
        the store if that is ours."""
        self.threads.shutdown(cancel_futures=hurry)
        if self._owned:
            self._store.close()


def open_place(
    to: str | os.PathLike[str] | Sink,
    digest: Callable[[Utterance], str],
    *,
    format: str,
    most_bytes: int,
) -> Place:
    """Open what `to=` names: a folder, an address such as s3://bucket/prefix, or a store.

    Raises ConfigError for what is none.
    """
    from .storage import open_store

    named = isinstance(to, (str, os.PathLike))
    store: Any = open_store(to) if isinstance(to, (str, os.PathLike)) else to
    if not all(callable(getattr(store, name, None)) for name in ("put", "head", "keys")):
        raise ConfigError(
            "to: expected a folder, an address such as s3://bucket/prefix, or a store of "
            f"cosy_sync.storage, got {type(to).__name__}"
        )
    return Place(store, digest, owned=named, format=format, most_bytes=most_bytes)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a stored sound."""

    size: int
    duration: float | None
    created: bool
