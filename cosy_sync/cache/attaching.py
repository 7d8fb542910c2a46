"""A client's stores, and the engine behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clock import Clock
from ..config import CacheConfig, ClientConfig
from ..errors import ConfigError
from ..loading import load
from .digest import Prefixes, digest_text
from .guard import GuardedStore
from .opening import open_store
from .ports import CacheStore

if TYPE_CHECKING:
    from ..engine import Engine
    from .cached_engine import CachedEngine

__all__ = ["Attached"]


class Attached:
    """The cache of one client, in whichever process; without one it does nothing.

    Opens no file and no connection before the first text.

    Args:
        options: The client's own.
        clock: The time.
    """

    def __init__(self, options: CacheConfig | None, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._prefixes = Prefixes()
        self._front: CachedEngine | None = None
        self._guarded: list[GuardedStore] = []
        if options is not None:
            load("cosy_sync.cache.cached_engine")  # not in the middle of a call
            for given in options.stores:
                store = open_store(given)
                owned = store is not given
                self._guarded.append(GuardedStore(store, clock.now, owned=owned))

    @property
    def stores(self) -> list[CacheStore]:
        """Return the stores, the quickest first."""
        return [guarded.store for guarded in self._guarded]

    def digest(self, config: ClientConfig, text: str) -> str:
        """Return the digest of a text under a configuration, with a cache or without."""
        return digest_text(self._prefixes.of(config), text)

    def check(self, config: ClientConfig) -> None:
        """Raise ConfigError for a view with another store than its client's."""
        own, other = self._options, config.cache
        if other is not None and (own is None or own.stores != other.stores):
            raise ConfigError(
                "cache: its store belongs to the whole client; set it in CosyClient(...). A view "
                "may go without, by cache=None, or have other times and another version"
            )

    def before(self, engine: Engine) -> Engine | CachedEngine:
        """Return an engine, behind the cache where there is one."""
        if not self._guarded:
            return engine
        from .cached_engine import CachedEngine

        self._front = CachedEngine(engine, self._guarded, self._prefixes, self._clock)
        return self._front

    def stop_waiting(self) -> None:
        """End the waits for other processes."""
        if self._front is not None:
            self._front.stop_waiting()

    def close(self) -> None:
        """Write down what the stores have not, and let go of those that are ours."""
        for guarded in self._guarded:
            guarded.close()
