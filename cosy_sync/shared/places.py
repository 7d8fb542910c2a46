"""The connections to an endpoint, as its clients in several processes share them through Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from ..config import SharingConfig
from .keeper import Keeper
from .redis_book import connect

__all__ = ["PlaceBook", "SharedPlaces"]

# Seconds after its last word that a client counts as gone.
_ALIVE = 3.5
# Seconds between two looks at the book: with requests in flight, without, after one that failed.
_BUSY, _IDLE, _LOST = 0.05, 0.5, 0.5
# Seconds for which a client takes no more than an equal share once the book knows it no more, or is
# back, and not more than it had once the book is lost: by then all have noticed.
_SETTLING = 1.5

# Each client says how many places it wants and how many it may be using. It is given its max-min
# fair share (who wants less than an equal share leaves the rest to the others), and of that only
# what the others do not hold any more; at least one, lest it never speaks. Its answer: its places,
# how many clients there are, and whether it knew this one. Instants in microseconds.
_SCRIPT = """
local most, me, alive = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local want, held, cap = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local others, wants = 0, {want}
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  local last, wanted, holds = string.match(known[i + 1], '^(%d+) (%d+) (%d+)$')
  last = tonumber(last)
  if not last or last < now - alive or last > now + alive then
    redis.call('HDEL', KEYS[1], known[i])
  elseif known[i] ~= me then
    others = others + tonumber(holds)
    wants[#wants + 1] = tonumber(wanted)
  end
end
table.sort(wants)
local left, share = most, nil
for i, wanted in ipairs(wants) do
  local equal = math.floor(left / (#wants - i + 1))
  if wanted > equal then
    share = equal
    break
  end
  left = left - wanted
end
if not share or want < share then
  share = want + (share and 0 or math.floor(left / #wants))
end
local places = math.max(#wants > most and 1 or 0, math.min(share, most - others, cap))
local knew = redis.call('HEXISTS', KEYS[1], me)
redis.call('HSET', KEYS[1], me,
           string.format('%.0f %d %d', now, want, math.max(places, held)))
redis.call('PEXPIRE', KEYS[1], 60000)
return {places, #wants, knew}
"""


class Places(Protocol):
    """What is bounded: the engine's permits."""

    limit: int

    @property
    def used(self) -> int:
        """Return how many are taken."""
        ...

    @property
    def wanted(self) -> int:
        """Return how many are taken or waited for."""
        ...

    def resize(self, limit: int) -> None:
        """Change the limit."""
        ...

    def acquire(self) -> bool:
        """Take one, if there is one; return whether there was."""
        ...

    def release(self) -> None:
        """Give one back."""
        ...


class Book(Protocol):
    """Where the clients say what they want."""

    def ask(self, want: int, held: int, cap: int) -> tuple[int, int, bool]:
        """Return this client's places, at most `cap`, how many clients there are, and whether it
        was one of them. Raises what failed."""
        ...

    def close(self, forget: bool) -> None:
        """Let go of what it holds; give this client's places to the others, if it is to `forget`
        it."""
        ...


class PlaceBook:
    """The book of one endpoint's connections, in Redis. For a single thread."""

    def __init__(self, sharing: SharingConfig, name: str, most: int) -> None:
        self._sharing = sharing
        self._key = f"{sharing.prefix}:{{{name}}}:places"
        self._terms = [most, uuid.uuid4().hex, round(_ALIVE * 1e6)]
        self._redis: Any = None
        self._script: Any = None

    def ask(self, want: int, held: int, cap: int) -> tuple[int, int, bool]:
        """Tell and ask, in one round trip. Raises what the Redis client raises."""
        if self._redis is None:
            self._redis = connect(self._sharing)
            self._script = self._redis.register_script(_SCRIPT)
        places, clients, knew = self._script([self._key], [*self._terms, want, held, cap])
        return int(places), int(clients), bool(knew)

    def close(self, forget: bool = True) -> None:
        """Give its places to the others, if it is to be forgotten, and close the connection."""
        if self._redis is not None:
            try:
                if forget:
                    self._redis.hdel(self._key, self._terms[1])
            finally:
                self._redis.close()


class SharedPlaces:
    """Keeps an endpoint's permits at this client's share; no call waits for the book.

    While the book does not answer, it is an equal share of those that were there last; also for a
    moment after it has come back, perhaps without what it knew: the others may hold theirs still.

    Args:
        places: The permits; made for all of the endpoint's connections.
        book: Where the clients meet.
        clients: Clients that are assumed before the book has said how many there are.
        close_idle: Called after the share fell: an idle connection counts for the service as well.
        tell: Told whether the connections are shared, and why not.
        clock: The time in seconds.
    """

    def __init__(
        self,
        places: Places,
        book: Book,
        clients: int,
        close_idle: Callable[[], None],
        tell: Callable[[bool, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._most = places.limit
        self._book = book
        self._clients = clients
        self._close_idle = close_idle
        self._tell = tell
        self._shared = True
        self._clock = clock
        # The book has answered; and until when what it says, or that it says nothing, is not
        # taken for more places.
        self._answered, self._settled_at = False, 0.0
        # Its share fell, and connections beyond it may be open still.
        self._over = False
        self._keeper = Keeper(self._step, "cosy-places")
        # Read without a lock: at worst it rings twice.
        self._idle = True
        # Without a place this keeps the last one itself: so until the book has answered.
        places.resize(1)
        self._blocked = places.acquire()

    def look(self) -> None:
        """Note that a request wants a place: the keeper begins to look at the book often."""
        if self._idle:
            self._idle = False
            self._keeper.ring()

    def close(self, seconds: float) -> None:
        """End the keeper; wait for it at most `seconds`."""
        self._keeper.close(seconds)
        self._close_idle()
        try:
            # What is open still counts, until the book forgets this client.
            self._book.close(forget=self._places.used == int(self._blocked))
        except Exception as error:  # its places are free some seconds later
            self._note(False, error)

    def _step(self) -> float:
        places = self._places
        # In this order: what comes back from here on is idle and open, and counts as used.
        used = places.used
        if self._over:
            self._over = used > places.limit
            self._close_idle()
        own = int(self._blocked)
        # One more than is wanted now: the next one need not wait.
        want = min(places.wanted - own + 1, self._most)
        settling = self._clock() < self._settled_at
        cap = self._equal() if settling and self._shared else self._most
        try:
            limit, clients, knew = self._book.ask(want, max(places.limit, used) - own, cap)
        except Exception as error:  # whatever it is, no call must fail because of it
            self._go_without(error)
            return _LOST
        if not self._shared or (self._answered and not knew):  # perhaps it knows nobody any more
            self._settled_at, settling = self._clock() + _SETTLING, True
        self._answered = True
        if settling:
            limit = min(limit, self._equal())
        else:
            self._clients = clients
        self._set(min(max(0, limit), self._most))
        self._note(True, None)
        self._idle = places.wanted == int(self._blocked)
        return _IDLE if self._idle else _BUSY

    def _go_without(self, error: Exception) -> None:
        """Take an equal share, as the book does not answer; more than before only once all the
        others will have noticed that as well."""
        if self._shared and self._answered:
            self._settled_at = self._clock() + _SETTLING
        share = self._equal()
        if self._clock() < self._settled_at:
            share = min(share, 0 if self._blocked else self._places.limit)
        self._set(share)
        self._note(False, error)

    def _set(self, limit: int) -> None:
        before = 0 if self._blocked else self._places.limit
        if max(1, limit) != self._places.limit:
            self._places.resize(max(1, limit))
        if limit and self._blocked:
            self._blocked = False
            self._places.release()
        if not limit and not self._blocked:
            self._blocked = self._places.acquire()
        self._over = self._over or limit < before

    def _equal(self) -> int:
        return max(1, self._most // max(1, self._clients))

    def _note(self, shared: bool, error: Exception | None) -> None:
        if shared != self._shared:
            self._shared = shared
            reason = f"by {self._clients} clients"
            if error is not None:
                share = f"{self._equal()} of {self._most} connections, the share of one of"
                reason = f"{type(error).__name__}: {error}; until it answers again: {share} "
                reason += f"{self._clients} clients"
            self._tell(shared, reason)
