"""What moves requests that are not plain HTTP requests; each kind is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from ..config import ClientConfig
from ..errors import ConfigError
from ..hints import install_line
from ..loading import load
from ..messages import Incoming, Reply, Request, RpcRequest, WireRequest
from .exchange_limits import ExchangeLimits

if TYPE_CHECKING:
    # Never run. What packs a program into one file, such as PyInstaller, finds them by this.
    from . import rpc, websocket  # noqa: F401

__all__ = ["TaskTransport", "create_transport", "kind_of", "kind_of_url"]

# Kind of request: module and class, made of a ClientConfig.
_TRANSPORTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "grpc": ("rpc", "RpcTransport"),
        "websocket": ("websocket", "WebSocketTransport"),
    }
)
# Kind of request, by the scheme of its URL; the others are http.
_URL_KINDS: Mapping[str, str] = MappingProxyType(
    {"grpc": "grpc", "grpcs": "grpc", "ws": "websocket", "wss": "websocket"}
)


class TaskTransport(Protocol):
    """Moves requests of one kind over connections of its own, for any number of threads."""

    def post(self, request: Any, limits: ExchangeLimits) -> Reply:
        """Send a request and return the whole reply. Raises TransportError or a subclass."""
        ...

    def open(self, request: Any, limits: ExchangeLimits) -> Incoming:
        """Send a request and return its reply as it begins. Raises TransportError or a subclass.

        `limits.until` first ends the wait for the first sound, and is moved before each read: a
        reply that goes on must not be bound to where it stood at first.
        """
        ...

    def connections(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of them idle."""
        ...

    def cut(self) -> None:
        """Wake every thread that waits; nothing can be sent afterwards."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without a word on them."""
        ...


def kind_of(request: WireRequest) -> str:
    """Return which transport moves a request; http is none of them."""
    if isinstance(request, Request):
        return "http"
    return "grpc" if isinstance(request, RpcRequest) else "websocket"


def kind_of_url(url: str) -> str | None:
    """Return which transport moves requests to this URL; None where it is http."""
    return _URL_KINDS.get(url.partition(":")[0])


def create_transport(kind: str, config: ClientConfig) -> TaskTransport:
    """Make the transport of a kind. Raises ConfigError when its extra is not installed."""
    module, cls = _TRANSPORTS[kind]
    load(f"{__package__}.{module}")
    try:
        loaded = importlib.import_module(f".{module}", __package__)
    except ImportError as error:
        raise ConfigError(
            f"wire: {config.wire!r} needs the package {error.name!r}; {install_line(kind)}"
        ) from error
    transport: TaskTransport = getattr(loaded, cls)(config)
    return transport
