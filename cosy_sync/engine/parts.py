"""What an engine is built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..config import ClientConfig, Endpoint
from ..events import Observer
from ..wires.base import Wire
from .canary_watch import CanaryWatch
from .ports import Network

__all__ = ["EngineParts"]


@dataclass(frozen=True, kw_only=True)
class EngineParts:
    """What an engine is built from. `wire` makes the wire of an endpoint for a configuration."""

    endpoints: Sequence[Endpoint]
    config: ClientConfig
    network: Network
    wire: Callable[[Endpoint, ClientConfig], Wire]
    observer: Observer
    clock: Clock
    # Of a client with a canary.
    canary: CanaryWatch | None = None
