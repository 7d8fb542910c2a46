"""The addresses behind host names: looked up on a thread of their own, again and again."""

from __future__ import annotations

import contextlib
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

from ..atomic import Flag
from ..clock import Clock
from ..config import PoolConfig
from ..errors import CosyError

__all__ = ["Directory", "NameService"]

# Seconds between two look-ups at least, however much trouble there is.
_SPACING = 5.0
# Seconds after which a name that has no address at all is looked up again.
AGAIN = 1.0
# Share of the schedule by which a look-up may come earlier, so that clients do not ask as one.
_SPREAD = 0.1


class NameService(Protocol):
    """What looks names up: the net, or a fake."""

    def addresses(self, url: str) -> Sequence[str]:
        """Return all addresses of a URL's host, at least one. Raises CosyError."""
        ...


class Directory:
    """Keeps the addresses of some URLs' hosts up to date.

    An answer takes the place of the one before, but for addresses that are to be kept longer;
    while there is none, the last one stays. `on_answer` gets a URL and its addresses, `on_failure`
    a URL and the error, both on the thread that looks up.
    """

    def __init__(
        self,
        urls: Sequence[str],
        names: NameService,
        config: PoolConfig,
        clock: Clock,
        on_answer: Callable[[str, Sequence[str]], None],
        on_failure: Callable[[str, CosyError], None],
    ) -> None:
        self._urls = tuple(urls)
        self._names = names
        self._config = config
        self._clock = clock
        self._on_answer = on_answer
        self._on_failure = on_failure
        # When each address was last seen; touched by look() alone.
        self._seen: dict[str, dict[str, float]] = {url: {} for url in urls}
        self._looked = -_SPACING
        # Set once every name was looked up, with success or without, or the directory closed.
        self.answered = Flag()
        self._wake = Flag()
        # Guards: _keeper, the setting of _closed.
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._closed = False
        if not urls:
            self.answered.set()

    def open(self) -> None:
        """Start the thread, if there is anything to look up and it does not run yet."""
        if not self._urls or self._keeper is not None:
            return
        with self._lock:
            if self._keeper is not None or self._closed:
                return
            # It holds the directory only while it looks up, and so does not keep it alive.
            mine = weakref.ref(self, lambda _, wake=self._wake: wake.set())  # type: ignore[misc]
            keeper = threading.Thread(
                target=_keep, args=(mine, self._wake), name="cosy-keeper", daemon=True
            )
            self._keeper = keeper
        try:
            keeper.start()
        except RuntimeError:  # no more threads; whoever comes next tries again
            with self._lock:
                self._keeper = None

    def look_soon(self, now: float) -> None:
        """Look everything up now, unless that was done just before."""
        if now - self._looked >= _SPACING:
            self._looked = now
            self._wake.set()

    def look(self) -> float:
        """Look everything up; return the seconds until it should be done again.

        Waits for the system's look-ups, which nothing can bound.
        """
        lost = False
        for url in self._urls:
            try:
                found = self._names.addresses(url)
            except CosyError as error:
                lost = lost or not self._seen[url]
                self._on_failure(url, error)
                continue
            now, seen = self._clock.now(), self._seen[url]
            for address in [a for a, at in seen.items() if now - at >= self._config.dns_keep]:
                del seen[address]
            seen.update(dict.fromkeys(found, now))
            self._on_answer(url, list(seen))
        self._looked = self._clock.now()
        self.answered.set()
        refresh = self._config.dns_refresh
        return min(refresh, AGAIN) if lost else refresh * (1.0 - _SPREAD * random.random())

    @property
    def closed(self) -> bool:
        """Return whether close() was called."""
        return self._closed

    def close(self, seconds: float) -> None:
        """End the thread; wait for it at most so long: a look-up cannot be broken off."""
        with self._lock:
            self._closed = True
            keeper = self._keeper
        self.answered.set()
        self._wake.set()
        if keeper is not None and keeper is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # not started yet: then it ends by itself
                keeper.join(seconds)


def _keep(directory_ref: weakref.ref[Directory], wake: threading.Event) -> None:
    """Look up on schedule and when woken, until the directory is closed or gone."""
    seconds = 0.0
    while True:
        wake.wait(seconds)
        wake.clear()
        directory = directory_ref()
        if directory is None or directory.closed:
            return
        seconds = directory.look()
        del directory
