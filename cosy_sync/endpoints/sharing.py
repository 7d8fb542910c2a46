"""What an endpoint shares with other processes: places and the breaker's state, through Redis or a
storage of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..clock import Clock
from ..config import ClientConfig, Endpoint, SharingConfig
from ..policies import Breaker, redis_storage
from ..shared import BreakerLink, PlaceBook, SharedPlaces, connect
from ..threads.permits import Permits

__all__ = ["EndpointSharing"]


class EndpointSharing:
    """Begins with the first attempt, on threads of its own. Mostly nothing is shared.

    Args:
        endpoint: Whose places these are.
        label: What the endpoint is called there.
        config: Says what is shared.
        tell: Told what ("connections", "breaker") is shared, or not any more, and why.
        close_idle: Closes the idle connections to the endpoint's host.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        label: str,
        config: ClientConfig,
        tell: Callable[[str, bool, str], None],
        close_idle: Callable[[], None],
    ) -> None:
        self._label, self._config, self._tell = label, config, tell
        # This client's share of the places, where several share them; None where nobody does.
        self.slots: Permits | None = None
        self._places: SharedPlaces | None = None
        self._link: BreakerLink | None = None
        sharing = config.sharing
        if sharing.redis_url is not None and sharing.connections:
            most = endpoint.max_connections
            self.slots = Permits(most)
            book, told = PlaceBook(sharing, label, most), functools.partial(tell, "connections")
            self._places = SharedPlaces(self.slots, book, sharing.clients, close_idle, told)
        # Whether `join` has anything to do.
        self.active = self._places is not None

    def link(self, breaker: Breaker, clock: Clock) -> None:
        """Let a breaker follow those of other processes, where it is to."""
        storage, sharing = self._config.breaker.storage, self._config.sharing
        if storage is None and sharing.redis_url is not None and sharing.breaker:
            storage = functools.partial(_storage, sharing)
        if storage is None:
            return
        tell = functools.partial(self._tell, "breaker")
        follow = breaker.follow
        self._link = BreakerLink(
            storage, self._label, lambda state, age: follow(state, clock.now(), age), tell
        )
        self.active = True

    def join(self) -> None:
        """Note that an attempt begins."""
        if self._link is not None:
            self._link.start()
        if self._places is not None:
            self._places.look()

    def publish(self, state: str) -> None:
        """Tell the others of the breaker's new state."""
        if self._link is not None:
            self._link.publish(state)

    def close(self, seconds: float) -> None:
        """End it; wait at most `seconds` for each thread."""
        if self._places is not None:
            self._places.close(seconds)
        if self._link is not None:
            self._link.close(seconds)


def _storage(sharing: SharingConfig, label: str) -> Any:
    """Return where a breaker's state is shared. Raises what the Redis client raises."""
    redis = connect(sharing)
    redis.ping()  # pybreaker's storage hides that it cannot be reached
    return redis_storage(redis, f"{sharing.prefix}:{{{label}}}")
