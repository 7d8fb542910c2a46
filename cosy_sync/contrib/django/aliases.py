"""The clients of settings.COSY_SYNC, each made at its first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from cosy_sync import ConfigError, CosyClient

from ...forks import notice_fork, renew_after_fork
from ..plain_settings import arguments_of

__all__ = ["Aliases", "arguments_for", "backend_of", "make_client", "speech"]

_NAME = "COSY_SYNC"
_DEFAULT_BACKEND = "cosy_sync.contrib.django.client.DjangoClient"
# Seconds that texts in flight may take where the settings change under them.
_LEAVE = 3.0


def _configured() -> Mapping[str, Any]:
    """Return settings.COSY_SYNC; without it there is the client of the environment."""
    found = getattr(settings, _NAME, {"default": {}})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{_NAME}: expected a dict of clients, such as {{'default': {{...}}}}")
    return found


def arguments_for(alias: str) -> dict[str, Any]:
    """Return the keywords of a CosyClient for an alias. Raises ConfigError, which names it."""
    known = _configured()
    if alias not in known:
        named = ", ".join(map(repr, known)) or "none"
        raise ConfigError(f"{_NAME}: there is no client {alias!r}; there is {named}")
    try:
        return arguments_of(known[alias])
    except ConfigError as error:
        raise error.reworded(f"{_NAME}[{alias!r}]: {error.message}") from error


def backend_of(alias: str) -> Any:
    """Return what makes the client of an alias. Raises ConfigError."""
    name = _configured()[alias].get("BACKEND") or _DEFAULT_BACKEND
    where = f"{_NAME}[{alias!r}]: BACKEND"
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected a class's dotted name, got {type(name).__name__}")
    try:
        found = import_string(name)
    except ImportError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{where}: {name} is no class but a {type(found).__name__}")
    return found


def make_client(alias: str) -> CosyClient:
    """Make the client of an alias. Raises ConfigError, which names it."""
    arguments, backend = arguments_for(alias), backend_of(alias)
    try:
        client: CosyClient = backend(**arguments)
    except ConfigError as error:
        raise error.reworded(f"{_NAME}[{alias!r}]: {error.message}") from error
    return client


class Aliases(Mapping[str, CosyClient]):
    """The clients by their aliases: `speech["default"]`.

    Each is made when it is first asked for, in each process, and anew once it was closed.
    """

    def __init__(self) -> None:
        # Guards: _made.
        self._lock = threading.Lock()
        self._made: dict[str, CosyClient] = {}

    def __getitem__(self, alias: str) -> CosyClient:
        known = self._made.get(alias)
        if known is not None and not known.closed:
            return known
        notice_fork()
        # Outside the lock: with wire="auto" it asks the service. Of two that are made at the same
        # time the second is not needed.
        made = make_client(alias)
        with self._lock:
            known = self._made.get(alias)
            if known is None or known.closed:
                known = self._made[alias] = made
        if known is not made:
            made.close(0.0)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(_configured())

    def __len__(self) -> int:
        return len(_configured())

    def __contains__(self, alias: object) -> bool:
        return alias in _configured()

    def made(self) -> dict[str, CosyClient]:
        """Return those that were used in this process."""
        with self._lock:
            return dict(self._made)

    def close(self) -> None:
        """Close those that were made; the next text makes new ones."""
        with self._lock:
            made, self._made = self._made, {}
        for client in made.values():
            client.close(_LEAVE)

    def renew(self) -> None:
        """Take another lock: in a forked child, where the parent's may have been held."""
        self._lock = threading.Lock()


speech = Aliases()
renew_after_fork(speech.renew)


def _reset(*, setting: str, **more: Any) -> None:
    if setting == _NAME:
        speech.close()


setting_changed.connect(_reset, dispatch_uid="cosy_sync")
