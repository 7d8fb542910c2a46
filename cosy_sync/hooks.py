"""The user's observers, check and breaker's listeners and storage, as the machines hold them.

The machines outlive a client that is dropped, until its work is done. So they hold nothing of the
user's: an observer or a check that holds its client could never be dropped with it. The client
holds them, and whatever it has begun holds the client.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from .errors import ConfigError
from .events import Event, Observer
from .models import Audio

__all__ = ["Hold", "WeakCheck", "WeakListener", "WeakObserver", "WeakStorage", "checked_observers"]


class WeakObserver:
    """Tells an observer for as long as somebody else holds it."""

    __slots__ = ("_find",)

    def __init__(self, observer: Observer) -> None:
        self._find = _weakly(observer)

    def on_event(self, event: Event) -> None:
        """Tell it."""
        observer = self._find()
        if observer is not None:
            observer.on_event(event)


class WeakCheck:
    """A check of the user's; equal to another one of the same function."""

    __slots__ = ("_find",)

    def __init__(self, check: Callable[[str, Audio], bool]) -> None:
        self._find = _weakly(check)

    def __call__(self, text: str, audio: Audio) -> bool:
        """Ask it. Raises ReferenceError when it is gone: nothing goes unchecked."""
        check = self._find()
        if check is None:
            raise ReferenceError("the check is gone, and so is its client")
        answer: bool = check(text, audio)
        return answer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeakCheck) and self._find == other._find

    __hash__ = None  # type: ignore[assignment]


class WeakListener:
    """Tells a pybreaker listener for as long as somebody else holds it."""

    __slots__ = ("_find",)

    def __init__(self, listener: Any) -> None:
        self._find = _weakly(listener)

    def success(self, breaker: Any) -> None:
        """Tell it of a call that succeeded."""
        listener = self._find()
        if listener is not None:
            listener.success(breaker)

    def failure(self, breaker: Any, error: BaseException) -> None:
        """Tell it of a call that failed."""
        listener = self._find()
        if listener is not None:
            listener.failure(breaker, error)

    def state_change(self, breaker: Any, old: Any, new: Any) -> None:
        """Tell it of a change."""
        listener = self._find()
        if listener is not None:
            listener.state_change(breaker, old, new)


class WeakStorage:
    """A function of the user's that makes pybreaker storages."""

    __slots__ = ("_find",)

    def __init__(self, storage: Callable[[str], Any]) -> None:
        self._find = _weakly(storage)

    def __call__(self, endpoint: str) -> Any:
        """Make one. Raises ReferenceError when the function is gone."""
        storage = self._find()
        if storage is None:
            raise ReferenceError("the storage's function is gone, and so is its client")
        return storage(endpoint)


class Hold:
    """Holds something until it is called, as a future does with what it calls when it is done."""

    __slots__ = ("_held",)

    def __init__(self, held: object) -> None:
        self._held: object = held

    def __call__(self, _: object) -> None:
        """Let go."""
        self._held = None


def checked_observers(observers: Any) -> tuple[Observer, ...]:
    """Return the observers. Raises ConfigError for what could not be told of anything."""
    several = isinstance(observers, Iterable)
    given = tuple(observers) if several else (observers,)
    for each in given:
        if not several or not callable(getattr(each, "on_event", None)):
            kind = type(each).__name__
            raise ConfigError(f"observers: expected a list of objects with on_event, got {kind}")
    return given


def _weakly(target: Any) -> Callable[[], Any]:
    """Return what finds it for as long as somebody holds it; for ever where that cannot be told."""
    try:
        if inspect.ismethod(target):
            return weakref.WeakMethod(target)
        return weakref.ref(target)
    except TypeError:
        return lambda: target
