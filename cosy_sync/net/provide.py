"""Make a sender for one process: over our own client, or over one that the caller brings."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from ..config import ClientConfig
from ..errors import ConfigError
from .sender import Sender

__all__ = ["HttpClient", "provide_sender"]

HttpClient = httpx.Client | Callable[[], httpx.Client]


def provide_sender(config: ClientConfig, given: HttpClient | None, *, forked: bool) -> Sender:
    """Return a sender. Raises ConfigError for a client that belongs to the parent process."""
    if given is None:
        return Sender(config)
    if not isinstance(given, httpx.Client):
        return Sender(config, given())
    if forked:
        raise ConfigError(
            "http_client: this httpx.Client was made before the process forked, and its "
            "connections belong to the parent; give a function that makes one instead"
        )
    return Sender(config, given, owned=False)
