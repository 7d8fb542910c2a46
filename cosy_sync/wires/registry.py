"""The wires by name: to add one, write its file and its line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..errors import ConfigError
from .base import SpeechOptions, Wire
from .batch import BatchWire

__all__ = ["create_wire", "known_wires"]

_FACTORIES: Mapping[str, Callable[[str, SpeechOptions], Wire]] = MappingProxyType(
    {
        BatchWire.name: BatchWire,
    }
)


def known_wires() -> tuple[str, ...]:
    """Return the names of all wires, sorted."""
    return tuple(sorted(_FACTORIES))


def create_wire(name: str, endpoint_url: str, options: SpeechOptions) -> Wire:
    """Build the wire of this name for one endpoint. Raises ConfigError for an unknown name."""
    factory = _FACTORIES.get(name)
    if factory is None:
        raise ConfigError(f"wire: there is no {name!r}; known: {', '.join(known_wires())}")
    return factory(endpoint_url, options)
