"""Make a sender for one process: over our own client, or over one that the caller brings."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from ..config import ClientConfig
from ..errors import ConfigError
from .sender import Sender

__all__ = ["HttpClient", "check_client", "provide_sender"]

HttpClient = httpx.Client | Callable[[], httpx.Client]


def check_client(given: object) -> None:
    """Raise ConfigError unless this is what a sender can be made over."""
    if not isinstance(given, httpx.Client) and not callable(given):
        raise ConfigError(
            "http_client: expected an httpx.Client, or a function that makes one, got "
            f"{type(given).__name__}"
        )


def provide_sender(config: ClientConfig, given: HttpClient | None, *, forked: bool) -> Sender:
    """Return a sender.

    Raises ConfigError for a client that belongs to the parent process, and for what is no client.
    """
    if given is None:
        return Sender(config)
    if not isinstance(given, httpx.Client):
        made = given()
        if not isinstance(made, httpx.Client):
            kind = type(made).__name__
            raise ConfigError(f"http_client: the function returned {kind}, not an httpx.Client")
        return Sender(config, made)
    if forked:
        raise ConfigError(
            "http_client: this httpx.Client was made before the process forked, and its "
            "connections belong to the parent; give a function that makes one instead"
        )
    return Sender(config, given, owned=False)
