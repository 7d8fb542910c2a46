"""A cache that does not grow for ever, however many different things a program asks for."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["BoundedCache"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class BoundedCache(dict[_K, _V]):
    """A dict that forgets everything when it is full: what is still used is soon there again.

    Each step is one call of C code, so readers need no lock; who puts things in brings one, or
    bears that of two that are put in at once one is made anew.

    Args:
        most: Entries at most.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: _K, value: _V) -> _V:
        """Return what is there for a key; where nothing is, put the value there and return it."""
        if len(self) >= self._most and key not in self:
            self.clear()
        return self.setdefault(key, value)
