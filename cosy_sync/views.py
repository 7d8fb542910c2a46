"""Views of a client that single calls have settings of their own with: made once, and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from .bounded import BoundedCache
from .config import CallSettings, Settings
from .config.client import GROUPS
from .hints import Takers, refuse_keyword
from .models import Recording, Voice

__all__ = ["TAKERS", "Views"]

# What belongs to the client as a whole, and so cannot differ between its views.
_WHOLE = (
    "wire",
    "pool",
    "timeouts",
    "breaker",
    "ejection",
    "overload",
    "serial",
    "limits",
    "sharing",
    "canary",
    "url",
    "http_client",
    "observers",
    "clock",
    "config",
)
TAKERS = Takers(
    call=frozenset(CallSettings.__annotations__),
    view=frozenset(Settings.__annotations__),
    client=frozenset(_WHOLE),
    fields={
        field.name: (group, f"{group}={cls.__name__}({field.name}=...)")
        for group, cls in GROUPS.items()
        for field in dataclasses.fields(cls)
    },
)
# Settings of a call for which None is something else than what the client has: no preparation, no
# cache, and an error, as it may be meant as no deadline at all.
_NONE = frozenset({"prepare", "cache", "deadline"})
# Views that are kept. A program that makes more (a voice of its own for each text, say) must not
# grow for ever.
_MOST = 128

_V = TypeVar("_V")


class Views(Generic[_V]):
    """The views that calls of one client asked for by their settings.

    The same settings bring the same view: so its texts share batches with those of other calls, and
    nothing is worked out again. Shared by every thread; needs no lock, as BoundedCache says.
    """

    def __init__(self) -> None:
        # With the settings themselves: what they hold is known by its identity, and stays.
        self._kept: BoundedCache[object, tuple[Mapping[str, Any], _V]] = BoundedCache(_MOST)

    def of(self, call: str, settings: Mapping[str, Any], make: Callable[..., _V]) -> _V:
        """Return the view with these settings. Raises ConfigError, also for what no call takes.

        Args:
            call: The method's name.
            settings: Its keywords.
            make: Makes a view, given the keywords.
        """
        left_out = False
        for name, value in settings.items():
            if name not in TAKERS.call:
                refuse_keyword(call, name, TAKERS)
            left_out = left_out or (value is None and name not in _NONE)
        if left_out:  # by whoever hands on what may not have been given
            given = settings.items()
            settings = {name: value for name, value in given if value is not None or name in _NONE}
        try:
            key = _frozen(settings)
            known = self._kept.get(key)
        except TypeError:  # what nobody can hash is not kept
            return make(**settings)
        if known is None:
            known = self._kept.keep(key, (settings, make(**settings)))
        return known[1]


def _frozen(value: object) -> object:
    """Return what stands for a setting's value. Raises TypeError where nothing can."""
    if isinstance(value, Voice):
        if value.asks == ("name",):
            return value.name
        # What a file or an array holds may be another thing now.
        kept = value.reference is None or isinstance(value.reference, Recording)
        return value if kept else ("voice", id(value))
    if isinstance(value, Mapping):
        return frozenset([(name, _frozen(each)) for name, each in value.items()])
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(each) for each in value])
    return value
