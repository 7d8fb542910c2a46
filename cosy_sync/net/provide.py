"""Make a sender for one process: over our own client, or over one that the caller brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import httpx

from ..config import ClientConfig
from ..errors import ConfigError
from .sender import Sender

__all__ = ["HttpClient", "check_client", "provide_sender"]

# Libraries whose Client is taken: httpx2 has httpx's methods, and errors of the same names.
_LIBRARIES = ("httpx", "httpx2")


class AnyClient(Protocol):
    """What is used of an httpx.Client, or of an httpx2.Client."""

    @property
    def is_closed(self) -> bool:
        """Return whether it was closed."""
        ...

    @property
    def build_request(self) -> Callable[..., Any]:
        """Return what makes a request."""
        ...

    @property
    def send(self) -> Callable[..., Any]:
        """Return what sends a request."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


HttpClient = AnyClient | Callable[[], AnyClient]


def check_client(given: object) -> None:
    """Raise ConfigError unless this is what a sender can be made over."""
    if not _is_client(given) and not callable(given):
        raise ConfigError(
            "http_client: expected an httpx.Client or httpx2.Client, or a function that makes one, "
            f"got {type(given).__name__}"
        )


def provide_sender(config: ClientConfig, given: HttpClient | None, *, forked: bool) -> Sender:
    """Return a sender.

    Raises ConfigError for a client that belongs to the parent process, and for what is no client.
    """
    if given is None:
        return Sender(config)
    client: Any = given
    if not _is_client(given):
        made = client()
        if not _is_client(made):
            kind = type(made).__name__
            raise ConfigError(f"http_client: the function returned {kind}, not an httpx.Client")
        return Sender(config, made)
    if forked:
        raise ConfigError(
            "http_client: this httpx.Client was made before the process forked, and its "
            "connections belong to the parent; give a function that makes one instead"
        )
    return Sender(config, client, owned=False)


def _is_client(given: object) -> bool:
    return isinstance(given, httpx.Client) or any(
        cls.__name__ == "Client" and cls.__module__.partition(".")[0] in _LIBRARIES
        for cls in type(given).__mro__
    )
