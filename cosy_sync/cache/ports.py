"""What the cache needs of a store: three methods; and of one that processes share, two more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["CacheStore", "Entry", "LeasingStore", "MeasuredStore"]


class Entry(NamedTuple):
    """What is put into a store: bytes, and the seconds after which they may be dropped."""

    digest: str
    data: bytes
    seconds: float


class CacheStore(Protocol):
    """Keeps bytes by digest. Any thread may call it; what it raises makes a miss and a log line.

    It may forget what it likes. What it returns must be what was put: torn bytes are noticed, and
    deleted, by their checksum.
    """

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return those that are there, by their digests."""
        ...

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, in place of what is there for their digests."""
        ...

    def delete(self, digests: Sequence[str] | None) -> None:
        """Forget these, or everything for None."""
        ...


@runtime_checkable
class LeasingStore(Protocol):
    """A store by which processes tell each other what they are having spoken."""

    def lease(self, digests: Sequence[str], seconds: float) -> Collection[str]:
        """Take those that nobody has, for `seconds`; return them."""
        ...

    def release(self, digests: Sequence[str]) -> None:
        """Give back what was taken."""
        ...


@runtime_checkable
class MeasuredStore(Protocol):
    """A store that knows how much it holds."""

    def usage(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        ...
