"""What is kept of spoken texts, where and for how long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checks import check, not_negative, positive
from ..errors import ConfigError
from ..fields import tells_fields

__all__ = ["CacheConfig"]

# What a store of one's own has; see cosy_sync/cache/ports.py.
_METHODS = ("get_many", "put_many", "delete")


@tells_fields
@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Texts that were spoken before are not sent again."""

    store: Any = field(default="memory", repr=False)
    """Where audio is kept: "memory", a folder, a redis:// URL, a store such as DiskCache(...), or
    several of these, the quickest first. Never shown, as there may be a password in it."""
    ttl: float = 86_400.0
    """Seconds that audio is kept, each text's up to a tenth more or less, so that what was
    spoken together does not end together."""
    refused_ttl: float = 60.0
    """Seconds for which a text that the service refused is refused without asking again; 0 for
    none."""
    stale_if_error: float = 0.0
    """Seconds after `ttl` for which audio may still be used where the service cannot speak the
    text: its breaker is open, or it fails."""
    lease: float = 30.0
    """Seconds for which other processes wait for a text that one of them has spoken; if it
    dies, another one goes on after them. 0 waits for nobody."""
    version: str = ""
    """Your own part of every key. Change it when the service gets another model."""

    def __post_init__(self) -> None:
        stores = self.stores
        if not stores or not all(map(_is_store, stores)):
            raise ConfigError(
                "cache: expected 'memory', a folder, a redis:// URL, or a store such as "
                f"DiskCache(...), got {_shown(self.store)}"
            )
        if not isinstance(self.version, str):
            raise ConfigError(f"version: expected text, got {self.version!r}")
        check(self, positive("ttl") + not_negative("refused_ttl", "stale_if_error", "lease"))

    @property
    def stores(self) -> tuple[Any, ...]:
        """Return the store, or each of several."""
        if isinstance(self.store, Sequence) and not isinstance(self.store, (str, bytes)):
            return tuple(self.store)
        return (self.store,)


def _is_store(given: Any) -> bool:
    if isinstance(given, (str, os.PathLike)):
        return bool(os.fspath(given).strip())
    return all(callable(getattr(given, name, None)) for name in _METHODS)


def _shown(given: Any) -> str:
    # There may be a password in it.
    return "nothing" if given in ("", None, (), []) else type(given).__name__
