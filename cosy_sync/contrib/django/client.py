"""A client whose threads leave no database connection open."""

from __future__ import annotations

import dataclasses
import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections

from cosy_sync import Audio, CosyClient, Event, Observer, SpeechStream

from ...texts import check_order, is_several

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...config import CallSettings

__all__ = ["DjangoClient", "closing"]

_R = TypeVar("_R")


class DjangoClient(CosyClient):
    """Closes what your callbacks, checks, observers and pieces of text opened on our threads.

    Django closes a database connection when the request of its thread ends; our threads have no
    requests, and each would keep one for as long as it lives.
    """

    def __init__(self, url: Any = None, **settings: Any) -> None:
        verify = settings.get("verify")
        if verify is not None and verify.check is not None:
            settings["verify"] = dataclasses.replace(verify, check=closing(verify.check))
        observers = settings.get("observers") or ()
        settings["observers"] = [_ClosingObserver(each) for each in observers]
        super().__init__(url, **settings)

    def submit(
        self,
        text: str,
        callback: Callable[[Future[Audio]], object] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Future[Audio]:
        """Speak one text on a worker thread; see CosyClient.submit."""
        own = closing(callback) if callable(callback) else callback
        future = super().submit(text, own, **settings)
        # By a weak reference: one to itself would keep each future, with its sound, until the
        # collector comes.
        future.add_done_callback = functools.partial(  # type: ignore[method-assign]
            _add_closing, weakref.ref(future)
        )
        return future

    def stream(self, text: str | Iterable[str], **settings: Unpack[CallSettings]) -> SpeechStream:
        """Speak one text, or its pieces, and hand its sound on; see CosyClient.stream."""
        if not is_several(text):
            return super().stream(text, **settings)
        check_order(text)
        return super().stream(_closed_after(text), **settings)


def _add_closing(known: weakref.ref[Future[Audio]], fn: Callable[[Future[Audio]], object]) -> None:
    future = known()
    if future is not None:  # or nobody could have called this
        type(future).add_done_callback(future, closing(fn))


class _ClosingObserver:
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_event(self, event: Event) -> None:
        try:
            self._observer.on_event(event)
        finally:
            _close_ours()


def closing(function: Callable[..., _R]) -> Callable[..., _R]:
    """Return the function, after which this thread's database connections are closed, if the
    thread is ours: those of the caller's thread may be in a transaction."""

    def call(*args: Any) -> _R:
        try:
            return function(*args)
        finally:
            _close_ours()

    return call


def _closed_after(pieces: Iterable[str]) -> Iterator[str]:
    try:
        yield from pieces
    finally:
        _close_ours()


def _close_ours() -> None:
    if threading.current_thread().name.startswith("cosy-"):
        connections.close_all()
