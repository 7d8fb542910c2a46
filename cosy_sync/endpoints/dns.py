"""The addresses behind host names: looked up beside the calls, again and again."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

from ..atomic import Flag, start_thread
from ..clock import Clock
from ..config import PoolConfig
from ..errors import CosyError
from ..threads import Schedule, open_schedule
from ..user_code import log_failure, unexpected

__all__ = ["DnsWatcher", "HostConnections", "NameService"]

# Seconds between two look-ups at least, however much trouble there is.
_SPACING = 5.0
# Seconds after which a name that has no address at all is looked up again.
AGAIN = 1.0
# Seconds to wait for the thread of the scheduler, where nobody else needs it.
_MOMENT = 1.0
# Share of the schedule by which a look-up may come earlier, so that clients do not ask as one.
_SPREAD = 0.1


class NameService(Protocol):
    """What looks names up: the net, or a fake."""

    def addresses(self, url: str) -> Sequence[str]:
        """Return all addresses of a URL's host, at least one. Raises CosyError."""
        ...


class HostConnections(NameService, Protocol):
    """The net, as far as it knows where a URL leads."""

    def resolves(self, url: str) -> bool:
        """Return whether its host's addresses are ours to look up."""
        ...

    def forget(self, url: str, address: str) -> None:
        """Close what is open to an address of a URL's host."""
        ...

    def close_idle(self, url: str) -> None:
        """Close the idle connections to a URL's host."""
        ...


class DnsWatcher:
    """Keeps the addresses of some URLs' hosts up to date.

    An answer takes the place of the one before, but for addresses that are to be kept longer;
    while there is none, the last one stays. `on_answer` gets a URL and its addresses, `on_failure`
    a URL and the error, both on the thread that looks up: the system's look-up may wait, so each
    round has one of its own.
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
        # Set once every name was looked up, with success or without, or the watcher closed.
        self.answered = Flag()
        # Guards: _schedule, the setting of _closed; of a round of look-ups, whether one is wanted,
        # and which one is next.
        self._lock = threading.Lock()
        self._schedule: Schedule | None = None
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._next = 0
        # An entry while no thread looks up, or is about to. Callers start it, and Ctrl-C may come
        # between any two steps of theirs: so it is taken and the thread started in one.
        self._places: list[tuple[()]] = [()]
        # The first look-up has its thread, or will have it.
        self._begun = False
        self._closed = False
        if not urls:
            self.answered.set()

    def open(self) -> None:
        """Begin to look up, if there is anything to look up and nobody does so yet."""
        if not self._urls or (self._schedule is not None and self._begun):
            return
        with self._lock:
            if self._closed:
                return
            self._schedule = self._schedule or open_schedule()
        self._look_now()

    def look_soon(self, now: float) -> None:
        """Look everything up now, unless that was done just before."""
        if now - self._looked >= _SPACING:
            self._looked = now
            self._look_now()

    def _look_now(self) -> bool:
        """Begin a round of look-ups; return whether there is a thread for it, or need be none."""
        with self._lock:
            schedule = self._schedule
            if schedule is None or self._closed:
                return True
            self._wanted = True
        if self._places:
            # The thread does not keep it alive.
            launch = functools.partial(_launch, self._weakly(schedule))
            try:
                start_thread(self._places, launch)
            except IndexError:  # somebody else was quicker
                return True
            except RuntimeError:  # no more threads; whoever comes next tries again
                return False
        self._begun = True
        return True

    def _weakly(self, schedule: Schedule) -> weakref.ref[DnsWatcher]:
        """Return what does not keep it alive, for batches; with it the schedule ends."""
        return weakref.ref(self, lambda _: schedule.close())

    def begin_round(self) -> bool:
        """On the thread that looks up: return whether there is a round to do."""
        with self._lock:
            if self._closed or not self._wanted:
                self._places.append(())
                return False
            self._wanted = False
            self._next += 1
        return True

    def end_round(self, seconds: float) -> None:
        """Have the next round begin in `seconds`, unless one is wanted before."""
        with self._lock:
            schedule, number = self._schedule, self._next
        if schedule is not None:
            schedule.after(seconds, functools.partial(_look_later, self._weakly(schedule), number))

    def look_next(self, number: int) -> None:
        """Look everything up, unless another round began after this one."""
        if self._next == number and not self._look_now():
            self.end_round(AGAIN)

    def run_on(self, thread: threading.Thread | None) -> None:
        """Note the thread that looks up, which `close` waits for."""
        self._thread = thread

    def look(self) -> float:
        """Look everything up; return the seconds until it should be done again.

        Waits for the system's look-ups, which nothing can bound.
        """
        lost = False
        for url in self._urls:
            try:
                found = self._names.addresses(url)
            except Exception as error:
                lost = lost or not self._seen[url]
                self._on_failure(url, error if isinstance(error, CosyError) else unexpected(error))
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
        """Look nothing up any more; wait at most so long for a look-up, which nothing ends."""
        with self._lock:
            self._closed = True
            schedule, thread = self._schedule, self._thread
        self.answered.set()
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # not started yet: then it ends by itself
                thread.join(seconds)
        if schedule is not None:
            schedule.close(_MOMENT)


def _launch(watcher_ref: weakref.ref[DnsWatcher]) -> None:
    thread = threading.Thread(target=_look, args=(watcher_ref,), name="cosy-lookup", daemon=True)
    watcher = watcher_ref()
    if watcher is None:
        return
    watcher.run_on(thread)
    del watcher
    try:
        thread.start()
    except RuntimeError:  # no more threads; but this one, a bare one, is there
        _look(watcher_ref)


def _look(watcher_ref: weakref.ref[DnsWatcher]) -> None:
    """Do rounds of look-ups for as long as any are wanted."""
    while True:
        watcher = watcher_ref()
        if watcher is None or not watcher.begin_round():
            return
        seconds = AGAIN
        try:
            seconds = watcher.look()
        except BaseException:
            log_failure("a look-up of addresses failed")
        watcher.end_round(seconds)
        del watcher


def _look_later(watcher_ref: weakref.ref[DnsWatcher], number: int) -> None:
    watcher = watcher_ref()
    if watcher is not None:
        watcher.look_next(number)
