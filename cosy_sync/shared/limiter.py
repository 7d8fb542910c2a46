"""A rate limiter whose turns are booked where all clients of an endpoint book theirs."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..clock import Clock
from ..config.load import quota
from .keeper import Keeper
from .redis_book import HORIZON, Answer, Ask, Book

__all__ = ["Limiter", "SharedLimiter"]

# Seconds after which a turn that nobody took is lost.
_STALE = 0.5
# Seconds that an answer usually takes.
_LEAD = 0.002
# Seconds after which who is next, and has no turn yet, looks whether the book still answers.
_LOOK = 0.25
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
    """What says when requests may leave, and counts those that left.

    Whoever uses it holds a lock; `next_free` and `paused_until` may be read without it.
    """

    paused_until: float

    @property
    def patience(self) -> float:
        """Return the seconds after which who is next looks again, if nobody wakes it before."""
        ...

    def take(self, now: float, due: float = math.inf) -> float:
        """Let a request leave now and return 0; else return the seconds until one may.

        `due` is the instant for which it was told to come, where it was.
        """
        ...

    def next_free(self, now: float, ahead: int = 0) -> float:
        """Return when a request may leave, `now` at the earliest, after so many others."""
        ...

    def give_back(self) -> None:
        """Take back the latest request: it did not leave after all."""
        ...

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later."""
        ...

    def pause(self, until: float) -> None:
        """Let nothing leave before that instant."""
        ...

    def set_rate(self, rate: float) -> None:
        """Space what leaves from now on for a lower rate, or again for the first one."""
        ...

    def book(self) -> None:
        """Have turns booked for those who wait; called without the lock."""
        ...


class Local(Limiter, Protocol):
    """A limiter of this client's own: at most `count` requests in `span` seconds."""

    count: int
    span: float

    def note(self, at: float) -> None:
        """Count a request that left then, whether it might or not."""
        ...


class Line(Protocol):
    """Those who wait for turns."""

    def demand(self, now: float) -> int:
        """Return how many wait; called with the lock held."""
        ...

    def look(self) -> None:
        """Let the next of them look for its turn; called without the lock."""
        ...


class _Nobody:
    """The line of a limiter that has none."""

    def demand(self, now: float) -> int:
        return 0

    def look(self) -> None:
        pass


class SharedLimiter:
    """Hands out turns that a keeper books ahead; no caller ever waits for the book.

    As many turns are booked as there are requests in line, a quarter of a second ahead at most.
    They belong to nobody: each goes to who takes it when it is due. When each request really left
    is told to the book, so a thread that wakes late does not bunch with others: those who come a
    second later keep their distance from what happened.

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
        local: Callable[[float], Local],
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
        last, _ = quota(rate)
        # Who waits; set once, before anybody does.
        self.line: Line = _Nobody()
        # Guards everything below; whoever uses the limiter holds it.
        self.lock = threading.Lock()
        self._clients = clients
        self._turns: deque[tuple[float, int]] = deque()  # instant and number of each, in order
        self._full_until = -math.inf  # asking again makes no sense before
        self._asked = math.inf  # since when the keeper waits for the book
        self._sent: deque[tuple[int, float]] = deque(maxlen=last)  # not told yet
        self._own: deque[float] = deque(maxlen=last)  # when the last requests left
        self.paused_until = -math.inf
        self._tell_pause = False
        self._slow: Limiter | None = None  # spaces our own requests while the rate is lowered
        self._local: Local | None = None  # in place of turns, while the book is out of reach
        self._back_at = math.inf
        self._hush_until = -math.inf

    # -- with the lock held ---------------------------------------------------------------------

    def take(self, now: float, due: float = math.inf) -> float:
        """Take a turn that is due and return 0; else return the seconds until the next."""
        wait = self.next_free(now) - now
        if wait > 0.0:
            return wait
        number = 0
        if self._local is not None:
            self._local.take(now, due)
        else:
            self._drop_stale(now)
            if not self._turns:
                return self.next_free(now) - now
            number = self._turns.popleft()[1]
        if self._slow is not None:
            self._slow.take(now, due)
        self._sent.append((number, now))
        self._own.append(now)
        return 0.0

    def next_free(self, now: float, ahead: int = 0) -> float:
        """Return when a request may leave after so many others.

        Behind the turns that are booked it is a guess: as if all those to come were this client's.
        """
        earliest = now if self._slow is None else self._slow.next_free(now, ahead)
        local = self._local
        if local is not None:
            return max(earliest, local.next_free(now, ahead))
        turns = list(self._turns)
        while turns and turns[0][0] < now - _STALE:
            del turns[0]
        if ahead < len(turns):
            return max(earliest, turns[ahead][0], self.paused_until)
        last = max(turns[-1][0] if turns else now + _LEAD - self._interval, self.paused_until)
        return max(earliest, last + (ahead - len(turns) + 1) * self._interval)

    @property
    def patience(self) -> float:
        """Return the seconds after which who is next looks again, if nobody wakes it before."""
        return 0.0 if self._turns or self._local is not None else _LOOK

    def give_back(self) -> None:
        """Forget the latest request where it has no turn in the book; a turn there is lost."""
        if self._local is not None and self._sent:
            self._local.give_back()
            self._sent.pop()
            self._own.pop()

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
        if until > self.paused_until:
            self._pause(until)
            self._tell_pause = True
            if self._local is not None:
                self._local.pause(until)

    def set_rate(self, rate: float) -> None:
        """Send at most so many requests per second from here, whatever the others do."""
        slow = self._slow
        if slow is None and rate < self._rate:
            slow = self._make_local(self._rate)
        if slow is not None:
            slow.set_rate(rate)
        self._slow = slow if rate < self._rate else None

    def _pause(self, until: float) -> None:
        self.paused_until = until
        self._turns = deque(turn for turn in self._turns if turn[0] >= until)

    def _drop_stale(self, now: float) -> None:
        while self._turns and self._turns[0][0] < now - _STALE:
            self._turns.popleft()

    def _is_short(self, now: float) -> bool:
        return now >= self._full_until and self.line.demand(now) > len(self._turns)

    # -- without it -----------------------------------------------------------------------------

    def book(self) -> None:
        """Have turns booked where more wait than there are; no caller waits for that."""
        now = self._clock.now()
        with self.lock:
            wanted = self._tell_pause or self._is_short(now)
        if wanted:
            self._keeper.ring()
            if now - self._asked > self._patience:
                # It hangs where no time-out reaches: in a name look-up, say.
                self._lose("no answer")

    def close(self, seconds: float) -> None:
        """End the keeper and its connection; wait at most `seconds`."""
        self._keeper.close(seconds)
        self._book.close()

    def _lose(self, reason: str) -> None:
        """Go by this client's own share from now on."""
        now = self._clock.now()
        with self.lock:
            self._back_at = math.inf
            if self._local is not None:
                return
            rate = self._rate / self._clients
            local = self._make_local(rate)
            for at in _history(list(self._own), local.count, local.span, now):
                local.note(at)
            local.pause(self.paused_until)
            self._local = local
            self._sent = deque(((0, at) for _, at in self._sent), self._sent.maxlen)
            self._turns.clear()
            share = f"{rate:g} requests/s, the share of one of {self._clients} clients"
        self.line.look()
        self._tell(False, f"{reason}; until it answers again: {share}")

    # -- on the keeper's thread -----------------------------------------------------------------

    def _step(self) -> float:
        """Book turns for the threads that wait; tell what was sent. Returns when to come again."""
        now = self._clock.now()
        with self.lock:
            ask = self._ask(now)
        self._asked = now
        try:
            answer = self._book.ask(ask)
        except Exception as error:  # whatever it is, no call must fail because of it
            with self.lock:
                self._tell_pause = self._tell_pause or ask.pause > 0
            self._lose(f"{type(error).__name__}: {error}")
            return _LOST * random.uniform(0.8, 1.2)
        finally:
            self._asked = math.inf
        now = self._clock.now()
        with self.lock:
            returned = self._local is not None and self._return(now, answer.back)
            seconds = self._take(answer, ask.want, now)
            if self._local is not None:
                self._local.pause(self.paused_until)
        self.line.look()
        if returned:
            self._tell(True, f"by {answer.clients} clients")
        return seconds

    def _ask(self, now: float) -> Ask:
        alone = self._local is not None
        self._drop_stale(now)
        lacking = self.line.demand(now) - len(self._turns)
        want = 0 if alone or now < self._hush_until else lacking
        sent = [(number, now - at) for number, at in self._sent]
        self._sent.clear()
        pause = max(0.0, self.paused_until - now) if self._tell_pause else 0.0
        self._tell_pause = False
        away = alone and self._back_at == math.inf
        return Ask(min(max(0, want), _MOST), pause, away, sent)

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
        if now + answer.pause > max(now, self.paused_until) + _BLUR:
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
        seconds = min(max(_FULL, answer.free - HORIZON), _IDLE)
        scatter = random.uniform(0.0, _BUSY)
        self._full_until = now + seconds + scatter
        return (_FULL if turns or self._sent else seconds) + scatter


def _history(own: list[float], count: int, span: float, now: float) -> list[float]:
    """Return what a limiter of `count` requests in `span` seconds should believe was sent lately.

    If all clients sent at most the whole rate, so they do while each passes over to an equal
    share: who sent more comes down as its sends grow old, and who sent less goes up evenly.
    """
    sent = [at for at in own if at > now - span][-count:]
    missing = count - len(sent)
    return sorted(sent + [now - span * place / missing for place in range(missing)])
