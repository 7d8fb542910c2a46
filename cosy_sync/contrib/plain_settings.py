"""Clients from plain settings: a mapping a client, or COSY_SYNC_* names in a framework's config."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cosy_sync import ClientConfig, ConfigError, Endpoint, SharingConfig, Voice

from ..config.canary import plain_canary
from ..config.client import GROUPS
from ..settings import endpoints_from_environment, endpoints_of, load_config

__all__ = ["arguments_of", "config_of", "from_names", "keywords_of"]

_KEYS = ("URL", "OPTIONS", "SHARING", "CACHE", "BACKEND")
# Arguments of a client that are no settings.
_WHOLE = ("http_client", "observers", "config", "clock")
_PREFIX = "COSY_SYNC_"


def arguments_of(given: Any) -> dict[str, Any]:
    """Return the keywords of a CosyClient for what one alias was given; `url` is one of them.

    Raises ConfigError for an unknown name, with the one that was meant.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"expected a dict such as {{'URL': ...}}, got {type(given).__name__}")
    for key in given:
        if key not in _KEYS:
            raise ConfigError(f"{key}: no such name; {_advice(str(key))}")
    options = given.get("OPTIONS") or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"OPTIONS: expected a dict, got {type(options).__name__}")
    if "url" in options:
        raise ConfigError("OPTIONS: the address stands beside it, as 'URL': ...")
    found = {name: _grouped(name, value) for name, value in options.items()}
    if "CACHE" in given:
        found["cache"] = _grouped("cache", given["CACHE"])
    sharing = given.get("SHARING")
    if isinstance(sharing, str):
        sharing = {"redis_url": sharing}
    if sharing is not None:
        found["sharing"] = SharingConfig(**sharing) if isinstance(sharing, Mapping) else sharing
    return {"url": _places(given.get("URL")) or None, **found}


def keywords_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords of a CosyClient, of which groups and endpoints may be mappings, as JSON and
    configuration files have them. Raises ConfigError."""
    found = {name: _grouped(name, value) for name, value in settings.items()}
    if "url" in found:
        found["url"] = _places(found["url"])
    return found


def config_of(arguments: Mapping[str, Any]) -> tuple[ClientConfig, Sequence[Endpoint]]:
    """Return the settings and endpoints of what `arguments_of` returned, without making a client.

    Raises ConfigError.
    """
    settings = {k: v for k, v in arguments.items() if k not in ("url", *_WHOLE)}
    return load_config(arguments.get("config"), settings), endpoints_of(arguments.get("url"))


def from_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a CosyClient for the COSY_SYNC_* names of a mapping.

    They are those of the environment, which stands behind them; a value may also be an object,
    such as a RetryConfig. Raises ConfigError.
    """
    texts: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for name, value in config.items():
        if not name.startswith(_PREFIX) or value is None:
            continue
        if isinstance(value, (str, int, float)):
            texts[name] = str(value)
        else:
            key = name.removeprefix(_PREFIX).lower()
            settings[key] = _grouped(key, value)
    url = _places(settings.pop("url", None))
    environ = {**os.environ, **texts}
    try:
        loaded = load_config(None, settings, environ)
    except ConfigError as error:
        # It may stand in either.
        plain = error.message.replace("no such environment variable", "no such setting")
        raise error.reworded(plain) from error
    endpoints = endpoints_from_environment(environ) if url is None else endpoints_of(url, environ)
    if not endpoints:
        raise ConfigError("COSY_SYNC_URL: no endpoint; give its address")
    return {"url": endpoints, "config": loaded}


def _places(given: Any) -> Any:
    """Return addresses, of which some may be written as mappings."""
    if isinstance(given, (list, tuple)):
        return [_endpoint(each) for each in given]
    return _endpoint(given)


def _endpoint(given: Any) -> Any:
    return Endpoint(**given) if isinstance(given, Mapping) else given


def _grouped(name: str, value: Any) -> Any:
    """Return a group of settings that was written as a mapping."""
    kinds: dict[str, Callable[..., Any]] = {**GROUPS, "voice": Voice, "canary": plain_canary}
    kind = kinds.get(name)
    return kind(**value) if kind is not None and isinstance(value, Mapping) else value


def _advice(key: str) -> str:
    near = difflib.get_close_matches(key.upper(), _KEYS, n=1)
    if key.lower() in (*ClientConfig.__dataclass_fields__, "batch_size", "instruction"):
        return f"write 'OPTIONS': {{'{key.lower()}': ...}}"
    return f"did you mean {near[0]}?" if near else f"it may have {', '.join(_KEYS)}"
