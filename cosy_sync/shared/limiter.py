"""A rate limiter whose turns are booked where all clients of an endpoint book theirs."""

from __future__ import annotations

import math
import random
import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..clock import Clock
from .keeper import Keeper
from .redis_book import HORIZON, Answer, Ask, Book

__all__ = ["Limiter", "SharedLimiter"]

# Seconds after which a turn that nobody took is lost.
_STALE = 0.5
# Seconds after which a thread that did not come for its turn is not waited for.
_PATIENCE = 0.1
# Seconds after which a thread without a turn looks for one that was booked meanwhile.
_LEAD = 0.002
# Turns booked in one round trip, at most.
_MOST = 256
# Seconds between two round trips: while there is something to tell, with nothing to do, and
# after one that failed; and the shortest while the book is full.
_BUSY, _IDLE, _LOST, _FULL = 0.05, 1.0, 0.5, 0.02
# Seconds after the return in which no turn is booked, so that all tell first what they sent.
_HUSH = 0.12
# Seconds by which an instant that went through the book may seem to have moved.
_BLUR = 0.05


class Limiter(Protocol):
    """What books the instants at which requests may be sent."""

    @property
    def paused_until(self) -> float:
        """Return the end of the latest pause; an instant in the past when there is none."""
        ...

    def reserve(self, now: float, latest: float) -> float | None:
        """Book the next free instant and return it; None when it would come after `latest`."""
        ...

    def go(self, now: float) -> float:
        """Note that a request leaves now, and return 0; else the seconds until asking again."""
        ...

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later."""
        ...

    def pause(self, until: float) -> None:
        """Book nothing before that instant."""
        ...

    def next_free(self, now: float) -> float:
        """Return the instant that `reserve` would book, without booking it."""
        ...

    def set_rate(self, rate: float) -> None:
        """Space what is booked from now on for a lower rate, or again for the first one."""
        ...


class SharedLimiter:
    """Hands out turns that a keeper books ahead; no caller ever waits for the book.

    Any thread takes the first turn that is due. `reserve` and `go` only tell a thread when to come
    for one: the alarms. As many turns are booked as there are alarms, a quarter of a second ahead
    at most. When each request really left is told to the book, so a thread that wakes late does
    not bunch with others: those who come a second later keep their distance from what happened.

    While the book cannot be reached, requests go by a limiter of this client's own share, which
    begins with what was sent in the last second. When it is reached again, they stay there until
    all the other clients are back too.

    Args:
        rate: Requests per second, of all clients together.
        book: Where turns are booked.
        local: Makes the limiter of this client's own share.
        clock: The time.
        tell: Told whether the limit is shared, and why not.
        clients: Clients that are assumed before the book has said how many there are.
    """

    def __init__(
        self,
        rate: float,
        book: Book,
        local: Callable[[float], Limiter],
        clock: Clock,
        tell: Callable[[bool, str], None],
        clients: int,
    ) -> None:
        self._rate = rate
        self._book = book
        self._make_local = local
        self._clock = clock
        self._tell = tell
        self._keeper = Keeper(self._step, "cosy-limit")
        # Seconds: an answer may be due to a few round trips, when it is the first.
        self._patience = 2 * book.timeout
        self._interval = 1.0 / rate
        last = max(1, math.floor(rate))
        # Guards everything below.
        self._lock = threading.Lock()
        self._clients = clients
        self._turns: deque[tuple[float, int]] = deque()  # instant and number of each, in order
        self._alarms: list[float] = []  # when a thread comes for a turn, in order
        self._full_until = -math.inf  # asking again makes no sense before
        self._asked = math.inf  # since when the keeper waits for the book
        self._sent: deque[tuple[int, float]] = deque(maxlen=last)  # not told yet
        self._own: deque[float] = deque(maxlen=last)  # when the last requests left
        self._paused_until = -math.inf
        self._tell_pause = False
        self._slow: Limiter | None = None  # spaces our own requests while the rate is lowered
        self._local: Limiter | None = None  # in place of turns, while the book is out of reach
        self._orphans = 0  # threads that wait for a turn and have none in the local limiter
        self._back_at = math.inf
        self._hush_until = -math.inf

    @property
    def paused_until(self) -> float:
        """Return the end of the latest pause; an instant in the past when there is none."""
        return self._paused_until

    def reserve(self, now: float, latest: float) -> float | None:
        """Say when to come for a turn, `now` itself when there is one; note that somebody will.

        Returns None, with nothing noted, when that instant would be after `latest`.
        """
        slow = self._slow
        earliest = now if slow is None else slow.reserve(now, latest)
        if earliest is None:
            return None
        local = self._local
        if local is not None:
            return local.reserve(earliest, latest)
        with self._lock:
            at = max(self._place(now), earliest)
            if at > latest:
                return None
            insort(self._alarms, at)
            short = self._is_short(now)
        if short:
            self._call_keeper(now)
        return at

    def go(self, now: float) -> float:
        """Take a turn that is due, note that a request leaves now, and return 0.

        Without one it returns the seconds after which to ask again. To be called at the instant
        that `reserve` gave or later, just before the request is sent.
        """
        local = self._local
        if local is not None:
            return self._go_alone(local, now)
        with self._lock:
            if self._alarms and self._alarms[0] <= now:
                del self._alarms[0]
            turns = self._turns
            while turns and turns[0][0] < now - _STALE:
                turns.popleft()
            if turns and turns[0][0] <= now and self._paused_until <= now:
                self._note(turns.popleft()[1], now)
                return 0.0
            at = self._place(now)
            insort(self._alarms, at)
            short = self._is_short(now)
        if short:
            self._call_keeper(now)
        return at - now

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later.

        Only while the book is out of reach: its own margin is wider than a thread stands still.
        """
        if self._local is not None:
            self._local.correct(went, left)

    def pause(self, until: float) -> None:
        """Give no turns before that instant, here and at all the other clients.

        Turns that are booked already are given up.
        """
        with self._lock:
            if until <= self._paused_until:
                return
            self._pause(until)
            self._tell_pause = True
            local = self._local
        if local is not None:
            local.pause(until)
        self._keeper.ring()

    def next_free(self, now: float) -> float:
        """Return the instant that `reserve` would give, without noting anything."""
        slow, local = self._slow, self._local
        earliest = now if slow is None else slow.next_free(now)
        if local is not None:
            return local.next_free(earliest)
        with self._lock:
            return max(self._place(now), earliest)

    def set_rate(self, rate: float) -> None:
        """Send at most so many requests per second from here, whatever the others do."""
        slow = self._slow
        if slow is None and rate < self._rate:
            slow = self._make_local(self._rate)
        if slow is not None:
            slow.set_rate(rate)
        self._slow = slow if rate < self._rate else None

    def close(self, seconds: float) -> None:
        """End the keeper and its connection; wait at most so many seconds."""
        self._keeper.close(seconds)
        self._book.close()

    # -- decisions, with the lock held ----------------------------------------------------------

    def _place(self, now: float) -> float:
        """Return when the next thread should come: to the first turn that nobody comes for.

        Where all have somebody, as if the turns to come were all this client's: who comes too
        early finds out when to come again, and who comes too late would waste a turn.
        """
        now = max(now, self._paused_until)
        alarms = self._alarms
        last = now
        for index, (at, _) in enumerate(self._turns):
            last = max(at, now)
            if bisect_right(alarms, last) <= index:
                return last
        waiting = max(0, len(alarms) - len(self._turns))
        at = last + waiting * self._interval + (self._interval if self._turns else _LEAD)
        # At a low rate a turn would be lost between two threads: one of them looks in time.
        look = now + _STALE / 2
        return look if at > look and not (alarms and alarms[0] <= look) else at

    def _is_short(self, now: float) -> bool:
        return len(self._alarms) > len(self._turns) and now >= self._full_until

    def _note(self, number: int, now: float) -> None:
        self._sent.append((number, now))
        self._own.append(now)

    def _pause(self, until: float) -> None:
        self._paused_until = until
        self._turns = deque(turn for turn in self._turns if turn[0] >= until)
        self._alarms.clear()

    # -- without the book -----------------------------------------------------------------------

    def _go_alone(self, local: Limiter, now: float) -> float:
        with self._lock:
            orphan = self._orphans > 0
            self._orphans -= orphan
        if orphan:
            at = local.reserve(now, math.inf)
            if at is not None and at > now:
                return at - now
        wait = local.go(now)
        if wait <= 0.0:
            with self._lock:
                self._note(0, now)
        return wait

    def _call_keeper(self, now: float) -> None:
        self._keeper.ring()
        if now - self._asked > self._patience:
            # It hangs where no time-out reaches: in a name look-up, say.
            self._lose("no answer")

    def _lose(self, reason: str) -> None:
        """Go by this client's own share from now on."""
        with self._lock:
            self._back_at = math.inf
            if self._local is not None:
                return
            clients, own = self._clients, list(self._own)
        rate = self._rate / clients
        local = self._make_local(rate)
        for at in _history(own, rate, self._clock.now()):
            local.go(at)
        local.pause(self._paused_until)
        with self._lock:
            if self._local is not None:
                return
            self._local = local
            self._orphans = len(self._alarms)
            self._sent = deque(((0, at) for _, at in self._sent), self._sent.maxlen)
            self._turns.clear()
            self._alarms.clear()
        share = f"{rate:g} requests/s, the share of one of {clients} clients"
        self._tell(False, f"{reason}; until it answers again: {share}")

    # -- on the keeper's thread -----------------------------------------------------------------

    def _step(self) -> float:
        """Book turns for the threads that wait; tell what was sent. Returns when to come again."""
        now = self._clock.now()
        with self._lock:
            ask = self._ask(now)
        self._asked = now
        try:
            answer = self._book.ask(ask)
        except Exception as error:  # whatever it is, no call must fail because of it
            with self._lock:
                self._tell_pause = self._tell_pause or ask.pause > 0
            self._lose(f"{type(error).__name__}: {error}")
            return _LOST * random.uniform(0.8, 1.2)
        finally:
            self._asked = math.inf
        now = self._clock.now()
        with self._lock:
            returned = self._local is not None and self._return(now, answer.back)
            seconds = self._take(answer, ask.want, now)
            local, paused_until = self._local, self._paused_until
        if local is not None:
            local.pause(paused_until)
        if returned:
            self._tell(True, f"by {answer.clients} clients")
        return seconds

    def _ask(self, now: float) -> Ask:
        alarms = self._alarms
        del alarms[: bisect_right(alarms, now - _PATIENCE)]
        alone = self._local is not None
        booked = len(alarms) if alone or now < self._hush_until else len(self._turns)
        sent = [(number, now - at) for number, at in self._sent]
        self._sent.clear()
        pause = max(0.0, self._paused_until - now) if self._tell_pause else 0.0
        self._tell_pause = False
        away = alone and self._back_at == math.inf
        return Ask(min(max(0, len(alarms) - booked), _MOST), pause, away, sent)

    def _return(self, now: float, back: float) -> bool:
        """Return whether the time has come to share the limit again, and do so."""
        if self._back_at == math.inf:
            self._back_at = now + back
        if now < self._back_at:
            return False
        self._local = None
        self._hush_until = self._full_until = now + _HUSH
        return True

    def _take(self, answer: Answer, want: int, now: float) -> float:
        self._clients = max(1, answer.clients)
        if now + answer.pause > max(now, self._paused_until) + _BLUR:
            self._pause(now + answer.pause)
        if self._local is not None:
            return min(_BUSY, self._back_at - now)
        turns = self._turns
        last = turns[-1][0] if turns else now
        for number, wait in answer.turns:
            last = max(last, now + wait)
            turns.append((last, number))
        if len(answer.turns) >= want:
            self._full_until = self._hush_until
            if now < self._hush_until:
                return self._hush_until - now
            return _BUSY if turns or self._sent else _IDLE
        # The book is full. Each client comes again at a time of its own, so that all get a share;
        # and soon while it has turns: when they are taken late, the others must hear of it before
        # they book for a second later.
        seconds, scatter = max(_FULL, answer.free - HORIZON), random.uniform(0.0, _BUSY)
        self._full_until = now + seconds + scatter
        return (_FULL if turns or self._sent else seconds) + scatter


def _history(own: list[float], rate: float, now: float) -> list[float]:
    """Return what a limiter of this rate should believe was sent in the last second.

    If all clients sent at most the whole rate, so they do while each passes over to an equal
    share: who sent more comes down as its sends grow old, and who sent less goes up evenly.
    """
    count, span = max(1, math.floor(rate)), max(1.0, 1.0 / rate)
    sent = [at for at in own if at > now - span][-count:]
    missing = count - len(sent)
    return sorted(sent + [now - span * place / missing for place in range(missing)])
