"""The connections to an endpoint, as its clients in several processes share them through Redis."""

from __future__ import annotations

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

# Each client says how many places it wants and how many it may be using. It is given its max-min
# fair share (who wants less than an equal share leaves the rest to the others), and of that only
# what the others do not hold any more; at least one, lest it never speaks. Its answer: its places,
# and how many clients there are. Instants in microseconds.
_SCRIPT = """
local most, me, alive = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local want, held = tonumber(ARGV[4]), tonumber(ARGV[5])
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
local places = math.max(#wants > most and 1 or 0, math.min(share, most - others))
redis.call('HSET', KEYS[1], me,
           string.format('%.0f %d %d', now, want, math.max(places, held)))
redis.call('PEXPIRE', KEYS[1], 60000)
return {places, #wants}
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

    def ask(self, want: int, held: int) -> tuple[int, int]:
        """Return this client's places, and how many clients there are. Raises what failed."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class PlaceBook:
    """The book of one endpoint's connections, in Redis. For a single thread."""

    def __init__(self, sharing: SharingConfig, name: str, most: int) -> None:
        self._sharing = sharing
        self._key = f"{sharing.prefix}:{{{name}}}:places"
        self._terms = [most, uuid.uuid4().hex, round(_ALIVE * 1e6)]
        self._redis: Any = None
        self._script: Any = None

    def ask(self, want: int, held: int) -> tuple[int, int]:
        """Tell and ask, in one round trip. Raises what the Redis client raises."""
        if self._redis is None:
            self._redis = connect(self._sharing)
            self._script = self._redis.register_script(_SCRIPT)
        places, clients = self._script([self._key], [*self._terms, want, held])
        return int(places), int(clients)

    def close(self) -> None:
        """Give its places to the others, and close the connection."""
        if self._redis is not None:
            try:
                self._redis.hdel(self._key, self._terms[1])
            finally:
                self._redis.close()


class SharedPlaces:
    """Keeps an endpoint's permits at this client's share; no call waits for the book.

    While the book does not answer, it is an equal share of those that were there last.

    Args:
        places: The permits; made for all of the endpoint's connections.
        book: Where the clients meet.
        clients: Clients that are assumed before the book has said how many there are.
        close_idle: Called after the share fell: an idle connection counts for the service as well.
        tell: Told whether the connections are shared, and why not.
    """

    def __init__(
        self,
        places: Places,
        book: Book,
        clients: int,
        close_idle: Callable[[], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        self._places = places
        self._most = places.limit
        self._book = book
        self._clients = clients
        self._close_idle = close_idle
        self._tell = tell
        self._shared = True
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
        try:
            self._book.close()
        except Exception as error:  # its places are free some seconds later
            self._note(False, error)

    def _step(self) -> float:
        places = self._places
        # One more than is wanted now: the next one need not wait.
        if self._over:
            # Before it is said that they are free: those that came back since are idle now.
            self._over = places.used > places.limit
            self._close_idle()
        own = int(self._blocked)
        want = min(places.wanted - own + 1, self._most)
        held = max(places.limit, places.used) - own
        try:
            limit, self._clients = self._book.ask(want, held)
        except Exception as error:  # whatever it is, no call must fail because of it
            self._set(self._equal())
            self._note(False, error)
            return _LOST
        self._set(min(max(0, limit), self._most))
        self._note(True, None)
        self._idle = places.wanted == int(self._blocked)
        return _IDLE if self._idle else _BUSY

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
