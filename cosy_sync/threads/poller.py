"""One thread that waits for the replies of many, and lets the threads that it wakes run in turn.

Hundreds of threads that each wait in a poll of their own wake up as their replies come, and
then wait for the GIL: each asks for it every 5 ms, and each system call hands it to another.
Here one thread waits, and wakes a reader when no other runs. Whoever blocks, or is done, hands
the slot to the next that is ready, or puts it down, where the poller or the next to come takes
it.

Every step is one atomic operation on a dict, a set or a deque, so that no lock is contended:

* Who waits puts its wake-up (a lock or a bell) into `waiting`, by its socket or by the lock itself;
  taking it out of there is the right, and the duty, to release that.
* An event puts the socket into `_ready`; who wants the slot puts its lock there.
* Who has the slot takes the first from `_ready` and wakes it, which then has the slot. Where
  nobody waits for that socket yet, `arrived` remembers the event.
* The slot that nobody has lies in `_free`, and who takes it out has it. Who puts it there looks
  at `_ready` once more, who puts its lock into `_ready` at `_free`: one of the two sees it.
* The poller is parked (in epoll, whoever has the slot), or waits for `_mine`, which is released
  when the slot is put down, but by a pause: for that it looks every now and then, and is rung for
  where it is parked and somebody is ready. It parks once it has woken a reader, and where nobody is
  ready.

A holder that is held up for long (in a user's code, in a call of C), or never gives the slot
back, is not waited for: its slot does not count any more, and there is another.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any

from ..forks import renew_after_fork
from ..user_code import log_failure
from .wakeups import Wakeup, new_bell, new_lock

__all__ = ["Turn", "Watched", "enter", "leave", "pause", "resume", "watch"]

# Seconds after which a thread that does not go on is not waited for any more: another is woken.
_HELD_UP = 0.01
# Seconds after which the poller looks whether a slot that was put down for its thread's return lies
# there still.
_PUT_DOWN = 0.002
# Seconds that a thread waits to be let in at most: who comes too late runs all the same.
_PATIENCE = 1.0
# Seconds after which the poller looks whether anything is still watched.
_LOOK = 1.0
_EVENTS = 1024

# Of this thread: which run slot it has, the lock that it waits on, whether it is between `enter`
# and `pause`; at which turn it paused, and whether it came right back.
_here = threading.local()


class Watched:
    """A socket whose replies one thread waits for. Its wait wakes up holding the run slot."""

    __slots__ = ("fd", "poller", "wakeup")

    def __init__(self, poller: _Poller, fd: int) -> None:
        # Its `runs` tells whether there is a thread that waits.
        self.poller = poller
        self.fd = fd
        self.wakeup: Wakeup = new_bell(fd)

    def begin(self) -> None:
        """Forget what came before: it was read, or will be seen by a look at the socket."""
        self.poller.arrived.discard(self.fd)

    def wait(self, seconds: float) -> bool:
        """Wait until something may be read, at most `seconds`; return whether it may. Then
        this thread has the slot, or may read without. While it waits others run."""
        poller, fd = self.poller, self.fd
        poller.waiting[fd] = self.wakeup
        if fd in poller.arrived:
            poller.arrived.discard(fd)
            if poller.waiting.pop(fd, None) is not None:
                return True
        return poller.be_woken(fd, self.wakeup, seconds)

    def forget(self) -> None:
        """Let go of the socket, which is about to be closed, and of the bell: errors that are kept
        may hold on to this for long."""
        self.poller.forget(self)
        self.wakeup = new_lock()


class Turn:
    """A place among those who wait for the run slot, which others may move to the front."""

    __slots__ = ("_wakeup",)

    def __init__(self) -> None:
        self._wakeup = new_lock()

    def take(self, *, first: bool) -> None:
        """Enter, see there; `first`: before all that are ready. One thread at a time may."""
        enter(self._wakeup, first=first)

    def hurry(self) -> None:
        """Let who waits for this turn run before all that are ready: they would soon have nothing
        to do without it."""
        poller = _poller
        if poller is not None:
            poller.hurry(self._wakeup)


class _Poller:
    """Waits for sockets (epoll), and hands out the run slot; see the top of this file."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self.arrived: set[int] = set()
        self.waiting: dict[object, Wakeup] = {}
        self._ready: deque[Any] = deque()
        # Which slot counts: a holder that was held up has one that does not any more.
        self.slot = 1
        self._free: deque[int] = deque(maxlen=1)
        # Released to tell the poller, which is not parked, of the slot; whether it is parked; when
        # a reader was woken last; how often the slot was handed on, and put down by a pause.
        self._mine = new_lock()
        self._parked = False
        self._woken_at = 0.0
        self.turns = self.pauses = 0
        # The sockets that it waits for; whether its thread runs. Set under _lock.
        self.known: set[int] = set()
        self.runs = False

    def watch(self, fd: int) -> None:
        """Wait for a known socket. Raises OSError where the system watches too many."""
        # Edges, so that no reply needs a system call to ask for it.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, watched: Watched) -> None:
        """Wait for a socket no more."""
        if watched.fd in self.known and self is _poller:  # in a forked child it is the parent's
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(watched.fd)
            self.arrived.discard(watched.fd)
            with _lock:
                self.known.discard(watched.fd)
            if not self.known:
                self._ring()

    def be_woken(self, key: object, wakeup: Wakeup, seconds: float) -> bool:
        """Wait to be woken under this key; return whether this thread was, and has the slot."""
        try:
            # Just before: whoever is woken by a lock wants the GIL, which this thread keeps until
            # it waits.
            leave()
            if not wakeup.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
                if self.waiting.pop(key, None) is not None:
                    return False
                wakeup.acquire()  # it is being released at this very moment
        except BaseException:
            if self.waiting.pop(key, None) is None:
                self.hand_on()
            raise
        _here.slot = self.slot
        return True

    def enter(self, wakeup: threading.Lock | None, first: bool) -> None:
        """Take the slot, or wait for it."""
        _here.returns = getattr(_here, "turn", -1) == self.turns
        if self._take():
            _here.slot = self.slot
            return
        if wakeup is None:
            wakeup = getattr(_here, "wakeup", None)
            if wakeup is None:
                wakeup = _here.wakeup = new_lock()
        self.waiting[wakeup] = wakeup
        (self._ready.appendleft if first else self._ready.append)(wakeup)
        if self._take():
            self.hand_on()
        elif self._parked:  # it must see whether the holder is held up
            self._ring()
        self.be_woken(wakeup, wakeup, _PATIENCE)

    def hurry(self, wakeup: threading.Lock) -> None:
        """Put who waits for the slot under this lock before all that are ready."""
        if wakeup in self.waiting:
            self._ready.appendleft(wakeup)  # its place further back is nobody's then

    def hand_on(self) -> None:
        """Let the next run: where none is ready, whoever comes."""
        self.turns += 1
        while not self._wake_next():
            events = self._epoll.poll(0, _EVENTS)
            if events:
                self._ready.extend([fd for fd, _ in events if fd != self._bell])
                continue
            self.put_down()
            if not self._ready:
                if not self._parked:
                    with contextlib.suppress(RuntimeError):  # it was told before
                        self._mine.release()
                return
            if not self._take():
                return

    def put_down(self) -> None:
        """Let whoever comes next have the slot; nobody is woken for it."""
        self._free.append(self.slot)

    def _take(self) -> bool:
        """Take the slot if it is free."""
        try:
            return self._free.pop() == self.slot
        except IndexError:
            return False

    def _wake_next(self) -> bool:
        """Wake the first that is ready and waits; return whether there was one."""
        while True:
            try:
                key = self._ready.popleft()
            except IndexError:
                return False
            wakeup = self.waiting.pop(key, None)
            if wakeup is None and key in self.known:
                self.arrived.add(key)
                # It may have begun to wait just before that.
                wakeup = self.waiting.pop(key, None)
            if wakeup is not None:
                self._woken_at = time.monotonic()
                wakeup.release()
                return True

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)

    # -- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        """Wait for sockets, and wake readers, as long as anything is watched."""
        # Whoever kept the slot when nothing was watched any more does not have it now.
        self.slot += 1
        self.put_down()
        self._mine.acquire(blocking=False)
        while self._is_wanted():
            try:
                self._look()
            except BaseException:  # an asynchronous one too: without it nobody gets a reply
                log_failure("the thread that waits for replies met an error, and goes on")
                time.sleep(_HELD_UP)
        while self._wake_next():  # those who want the slot need none
            pass

    def give_up(self) -> None:
        """Let everybody who waits look for themselves: there is no thread for it."""
        for key in list(self.waiting):
            wakeup = self.waiting.pop(key, None)
            if wakeup is not None:
                wakeup.release()

    def _look(self) -> None:
        self._parked = True
        idle = not (self._ready and self._free)
        events = self._epoll.poll(_LOOK if idle else 0, _EVENTS)
        self._parked = False
        self._ready.extend([fd for fd, _ in events if fd != self._bell])
        if not events and not self._ready:
            return
        since, pauses = time.monotonic(), 0
        while not self._take():
            # Each look takes the GIL from those who run: only where it may find something.
            wait, pauses = _HELD_UP if pauses == self.pauses else _PUT_DOWN, self.pauses
            self._mine.acquire(timeout=wait)
            if time.monotonic() - max(self._woken_at, since) > _HELD_UP:
                self.slot += 1
                break
        self.turns += 1
        if not self._wake_next():
            self.put_down()

    def _is_wanted(self) -> bool:
        with _lock:
            self.runs = bool(self.known) and self is _poller
            return self.runs

    def close(self) -> None:
        """In a forked child: close what is the parent's. Nowhere else, as others may still ring."""
        self._epoll.close()
        with contextlib.suppress(OSError):
            os.close(self._bell)


# Guards: _poller, which stays once there is one; what it knows, and whether its thread runs.
_lock = threading.Lock()
_poller: _Poller | None = None


def watch(fd: int) -> Watched | None:
    """Have one thread wait for this socket's replies; None where that is not possible, or of no
    use: where threads run side by side (free-threaded), or there is no epoll (macOS, gevent)."""
    if not _is_of_use():
        return None
    try:
        poller = _know(fd)
        try:
            poller.watch(fd)
        except BaseException:
            with _lock:
                poller.known.discard(fd)
            raise
    except (OSError, ValueError, RuntimeError):  # too many watches, files or threads
        return None
    return Watched(poller, fd)


def enter(wakeup: threading.Lock | None = None, *, first: bool = False) -> None:
    """Wait until this thread may run beside the others; at once where few replies are awaited.

    Whoever enters must `leave` before it blocks, may `resume` afterwards, and must `pause` when it
    is done. `wakeup`, `first`: see Turn.
    """
    _here.inside, poller = True, _poller
    if poller is not None and poller.runs and getattr(_here, "slot", 0) != poller.slot:
        poller.enter(wakeup, first)


def leave() -> None:
    """Let another thread run, if this one holds the slot: it is about to block."""
    poller = _poller
    if poller is not None:
        slot, _here.slot = getattr(_here, "slot", 0), 0
        if slot == poller.slot:
            poller.hand_on()


def resume() -> None:
    """Enter again after a wait that many may have ended at once, if this thread had entered."""
    if getattr(_here, "inside", False):
        enter()


def pause() -> None:
    """Leave as one that is done and may enter again at once, with its next call.

    Where it did so the last time, before anybody else ran, nobody is woken in its place: it finds
    the slot where it put it, unless it stays away and the poller takes the slot after a moment.
    """
    _here.inside, poller = False, _poller
    if poller is not None:
        slot, _here.slot = getattr(_here, "slot", 0), 0
        if slot == poller.slot:
            if getattr(_here, "returns", False):
                _here.turn = poller.turns
                poller.pauses += 1
                poller.put_down()
                if poller._parked and poller._ready:  # it would see it only at its next look
                    poller._ring()
            else:
                _here.turn = poller.turns + 1  # of those after it: they may be over when it ends
                poller.hand_on()


def _is_of_use() -> bool:
    gil: Any = getattr(sys, "_is_gil_enabled", lambda: True)
    return hasattr(select, "epoll") and hasattr(os, "eventfd") and bool(gil())


def _know(fd: int) -> _Poller:
    """Have the poller know a socket, and its thread run; return it."""
    global _poller
    made = _Poller() if _poller is None else None
    with _lock:
        if _poller is None:
            _poller = made
        poller = _poller
        assert poller is not None
        poller.known.add(fd)
        starts, poller.runs = not poller.runs, True
    if made is not None and made is not poller:
        made.close()
    if starts:
        try:
            threading.Thread(target=poller.run, name="cosy-poller", daemon=True).start()
        except RuntimeError:
            with _lock:
                poller.runs = False
                poller.known.discard(fd)
            poller.give_up()  # others may have come meanwhile
            raise
    return poller


def _begin_anew() -> None:
    """In a forked child: let go of the parent's sockets; the thread does not exist here."""
    global _poller, _lock, _here
    _lock = threading.Lock()
    poller, _poller = _poller, None
    _here = threading.local()
    if poller is not None:
        poller.close()


renew_after_fork(_begin_anew)
