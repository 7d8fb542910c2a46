"""What a store must be able to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["Bucket", "Sink", "Stored"]


@dataclass(frozen=True)
class Stored:
    """What is known of an object: `size` in bytes, and what was put beside it.

    Of an object in a bucket, also `tag`, another one for each content, and `changed`, when it was
    put: seconds since 1970 by the store's clock.
    """

    size: int
    meta: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    changed: float = 0.0


class Sink(Protocol):
    """Keeps objects by key: words with `/` between them. Its methods may be called by any thread.

    They raise OSError where the store cannot do it now.
    """

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        *,
        if_absent: bool = False,
    ) -> bool:
        """Keep an object, whole or not at all; return whether it was made.

        Args:
            meta: facts to keep beside it, such as `content-type`.
            if_absent: leave an object that is there as it is, and return False.
        """
        ...

    def put_file(self, key: str, path: str | os.PathLike[str], meta: Mapping[str, str]) -> None:
        """Keep a file, also a large one, in place of what is there."""
        ...

    def get(self, key: str) -> bytes:
        """Return an object. Raises FileNotFoundError where there is none."""
        ...

    def head(self, key: str) -> Stored | None:
        """Return what is known of an object; None where there is none."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def url(self, key: str, seconds: float = 3600.0) -> str:
        """Return an address from which the object can be read for so long."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class Bucket(Sink, Protocol):
    """A store that several machines reach: of those that write a key at the same time, one wins.

    `address` is its whole address, such as s3://bucket/prefix.
    """

    address: str

    def fetch(self, key: str) -> tuple[bytes, Stored] | None:
        """Return an object and what is known of it; None where there is none."""
        ...

    def swap(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Replace an object if it still has this tag (None: if there is none); return its new tag,
        None where another process was faster."""
        ...
