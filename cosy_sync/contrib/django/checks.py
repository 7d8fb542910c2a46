"""System checks: what is wrong in settings.COSY_SYNC, before a text meets it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.checks import CheckMessage, Error, Warning

from cosy_sync import ClientConfig, ConfigError

from ..fakes import FakeClient
from ..hosts import known_host, traps_of
from ..plain_settings import config_of
from .aliases import arguments_for, backend_of, make_client, speech

__all__ = ["check_settings"]

# By the name of a trap.
_TRAPS: Mapping[str, tuple[type[CheckMessage], str]] = {
    "sharing": (Warning, "cosy_sync.W002"),
    "deadline": (Warning, "cosy_sync.W003"),
    "grpc": (Error, "cosy_sync.E004"),
}


def check_settings(app_configs: object = None, **more: Any) -> list[CheckMessage]:
    """Return what is wrong with the clients of settings.COSY_SYNC; sends nothing."""
    try:
        aliases = list(speech)
    except ConfigError as error:
        return [Error(error.message, id="cosy_sync.E003")]
    found: list[CheckMessage] = []
    if "default" not in aliases:
        hint = "Write COSY_SYNC = {'default': {'URL': ...}}, or name the client in every call."
        found.append(Warning("COSY_SYNC has no 'default'.", hint, id="cosy_sync.W004"))
    for alias in aliases:
        found += _checked(alias)
    return found


def _checked(alias: str) -> Iterator[CheckMessage]:
    where = f"COSY_SYNC[{alias!r}]"
    try:
        arguments = arguments_for(alias)
        if _is_faked(alias):
            return
        config, endpoints = config_of(arguments)
        if config.wire != "auto":  # that would ask the service
            make_client(alias).close(0.0)
    except ConfigError as error:
        if "no endpoint" in error.message:
            hint = f"Write 'URL': 'http://...' in {where}, or set COSY_SYNC_URL."
            yield Error(f"{where}: no URL.", hint, id="cosy_sync.E001")
        else:
            message = error.message.removeprefix(f"{where}: ")
            yield Error(f"{where}: {message}", id="cosy_sync.E002")
        return
    for trap in traps_of(config, endpoints, known_host()):
        kind, number = _TRAPS[trap.name]
        yield kind(f"{where}: {trap.message}", trap.hint, id=number)
    if settings.DEBUG:
        for name in _secrets_in_files(config):
            hint = "Read it from the environment, and make another one if it was ever committed."
            yield Warning(f"{where}: {name} stands in a settings file.", hint, id="cosy_sync.W001")


def _is_faked(alias: str) -> bool:
    backend = backend_of(alias)
    return isinstance(backend, type) and issubclass(backend, FakeClient)


def _secrets_in_files(config: ClientConfig) -> Iterator[str]:
    store = None if config.cache is None else config.cache.store
    places = [config.sharing.redis_url, *(store if isinstance(store, (list, tuple)) else [store])]
    passwords = {urlsplit(place).password for place in places if isinstance(place, str)}
    secrets = {"api_key": {config.api_key}, "the password of Redis": passwords}
    texts = [path.read_text("utf-8", "ignore") for path in _settings_files()]
    for name, known in secrets.items():
        written = [quote + secret for secret in known if secret for quote in "'\":"]
        if any(each in text for each in written for text in texts):
            yield name


def _settings_files() -> set[Path]:
    """Return the file of the settings, and those beside it that they were put together from."""
    name = settings.SETTINGS_MODULE or os.environ.get(ENVIRONMENT_VARIABLE, "")
    home = getattr(sys.modules.get(name), "__file__", None)
    if home is None:
        return set()
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file) for file in loaded if file}
    return {p for p in paths if p.parent == Path(home).parent and p.suffix == ".py" and p.exists()}
