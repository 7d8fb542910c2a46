"""The wires by name: to add one here, write its file and its line; others bring an entry point."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import ConfigError
from .base import Capabilities, SpeechOptions, Wire
from .redaction import hide, secrets_of

if TYPE_CHECKING:
    # Never run. What packs a program into one file, such as PyInstaller, finds them by this.
    from . import (  # noqa: F401
        batch,
        dashscope_http,
        dashscope_ws,
        openai,
        pai_eas,
        runtime_grpc,
        runtime_http,
        triton,
    )

__all__ = ["ENTRY_POINTS", "capabilities_of", "create_wire", "known_wires", "streaming_wires"]

# The group in which other packages announce their wires: name = "package.module:factory".
ENTRY_POINTS = "cosy_sync.wires"

# Imported on first use: module and factory.
_BUILT_IN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "batch": ("batch", "BatchWire"),
        "dashscope_http": ("dashscope_http", "DashscopeHttpWire"),
        "dashscope_ws": ("dashscope_ws", "DashscopeWsWire"),
        "openai": ("openai", "OpenaiWire"),
        "pai_eas": ("pai_eas", "PaiEasWire"),
        "runtime_grpc": ("runtime_grpc", "RuntimeGrpcWire"),
        "runtime_http": ("runtime_http", "RuntimeHttpWire"),
        "triton": ("triton", "make_triton_wire"),
    }
)

Factory = Callable[[str, SpeechOptions], Wire]


def known_wires() -> tuple[str, ...]:
    """Return the names of all wires, sorted; those of other packages too."""
    return tuple(sorted({*_BUILT_IN, *(each.name for each in entry_points(group=ENTRY_POINTS))}))


def streaming_wires() -> tuple[str, ...]:
    """Return the names of the wires that can stream, sorted, at some endpoints at least."""
    found = []
    for name in known_wires():
        with contextlib.suppress(ConfigError, ImportError):
            can = capabilities_of(name)
            if can is None or can.streaming:
                found.append(name)
    return tuple(found)


def create_wire(name: str, endpoint_url: str, options: SpeechOptions) -> Wire:
    """Build the wire of this name for one endpoint.

    Raises ConfigError for an unknown name, and for what the wire cannot do.
    """
    wire = _factory(name)(endpoint_url, options)
    hide(secrets_of(endpoint_url, options.api_key, options.headers))
    schemes, scheme = wire.capabilities.schemes, urlsplit(endpoint_url).scheme
    if scheme not in schemes:
        known = ", ".join(f"{each}://" for each in schemes)
        raise ConfigError(
            f"url: the wire {name!r} needs {known}, not {scheme}://; give such a URL, or the wire "
            "that this one is for (wire='auto' takes it from the URL)"
        )
    options.check(name, wire.capabilities)
    return wire


def capabilities_of(name: str) -> Capabilities | None:
    """Return what every wire of this name can do; None where that depends on the endpoint.

    Raises ConfigError for an unknown name.
    """
    known = getattr(_factory(name), "capabilities", None)
    return known if isinstance(known, Capabilities) else None


def _factory(name: str) -> Factory:
    if name in _BUILT_IN:
        module, cls = _BUILT_IN[name]
        factory: Factory = getattr(importlib.import_module(f".{module}", __package__), cls)
        return factory
    entries = entry_points(group=ENTRY_POINTS, name=name)
    values = sorted({entry.value for entry in entries})
    if len(values) > 1:
        raise ConfigError(
            f"wire: several packages bring {name!r} ({', '.join(values)}); remove all but one"
        )
    for entry in entries:
        return _loaded(entry)
    raise ConfigError(f"wire: there is no {name!r}; known: {', '.join(known_wires())}, or auto")


def _loaded(entry: EntryPoint) -> Factory:
    try:
        factory: Factory = entry.load()
    except Exception as error:
        raise ConfigError(
            f"wire: {entry.name!r} of another package cannot be imported "
            f"({type(error).__name__}: {error}); reinstall or update it"
        ) from error
    return factory
