"""A canary's state and counts in Redis: all processes of a fleet count together, and roll back
together."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..config import SharingConfig
from .keeper import Keeper
from .redis_book import connect

__all__ = ["CanaryBook", "CanaryLink"]

# Seconds between two looks at Redis, and while it does not answer.
_LOOK, _LOST = 0.5, 2.0
# Seconds that a canary which nobody counts for is remembered, but for one that was rolled back.
_KEPT = 30 * 86_400

# Seconds for which it is remembered what a client told last.
_TOLD = 3_600

# KEYS: the state, the counts of this epoch, the latest number that this client told. ARGV: the
# epoch, how long counts are kept, this client's number, how long that is kept, whether the state
# is a new one, the number of its fields and these, then the number of fields that are counted and
# these, and bounds. A state that Redis has lost is restored; one that was rolled back never ends
# here. What comes a second time, as the answer to the first was lost, is counted once.
_SCRIPT = """
local state, counts, latest = KEYS[1], KEYS[2], KEYS[3]
local epoch = tonumber(ARGV[1])
local now = tonumber(redis.call('HGET', state, 'epoch') or '0')
local over = redis.call('HGET', state, 'state') == 'rolled back'
local at = 6
local fields = tonumber(ARGV[at])
local new = ARGV[5] == '1'
if not over and (now < epoch or (new and now == epoch)) then
  redis.call('HSET', state, unpack(ARGV, at + 1, at + fields))
  now = tonumber(redis.call('HGET', state, 'epoch'))
end
if now == epoch then
  if redis.call('EXISTS', state) == 0 then
    redis.call('HSET', state, 'epoch', ARGV[1], 'state', 'running')
  end
  at = at + fields + 1
  local several = tonumber(ARGV[at])
  if redis.call('GET', latest) ~= ARGV[3] then
    for i = at + 1, at + several, 2 do
      redis.call('HINCRBYFLOAT', counts, ARGV[i], ARGV[i + 1])
    end
    redis.call('SET', latest, ARGV[3], 'EX', ARGV[4])
  end
  for i = at + several + 1, #ARGV, 2 do
    redis.call('HSETNX', counts, ARGV[i], ARGV[i + 1])
  end
  redis.call('EXPIRE', counts, ARGV[2])
end
return {redis.call('HGETALL', state), redis.call('HGETALL', counts)}
"""
_BOUND = "bound."


class News(Protocol):
    """What a process tells."""

    @property
    def state(self) -> Any:
        """Return the state: epoch, state, share and reason."""
        ...

    @property
    def decided(self) -> bool:
        """Return whether it was decided here, in the epoch before."""
        ...

    @property
    def counts(self) -> Mapping[str, float]:
        """Return what was counted and not told."""
        ...

    @property
    def bounds(self) -> Mapping[str, float]:
        """Return the bounds that were found."""
        ...


Told = tuple[dict[str, str], dict[str, float], dict[str, float]]


class CanaryBook:
    """The canaries of all who use the same Redis and prefix. Methods raise what redis raises."""

    def __init__(self, sharing: SharingConfig) -> None:
        self._sharing = sharing
        self._redis: Any = None
        self._me = uuid.uuid4().hex

    def tell(self, name: str, news: News, number: int) -> Told:
        """Tell what is new; return the state as Redis has it, and its epoch's counts and bounds.

        What is told under the same number as before, and without another between, counts once.
        """
        state = news.state
        epoch = state.epoch - 1 if news.decided else state.epoch
        fields = _fields(state.epoch, state.state, state.share, state.reason)
        counted = [] if news.decided else _flat(news.counts)
        bounds = [] if news.decided else _flat({_BOUND + k: v for k, v in news.bounds.items()})
        told_as = [number, _TOLD, int(news.decided)]
        arguments = [epoch, _KEPT, *told_as, len(fields), *fields, len(counted), *counted, *bounds]
        client = self._connect()
        key = self._key(name)
        keys = [key, f"{key}:{epoch}", f"{key}:{self._me}"]
        told, counts = client.eval(_SCRIPT, len(keys), *keys, *arguments)
        return _parse(_pairs(told), _pairs(counts))

    def names(self) -> list[str]:
        """Return the canaries that there are."""
        start = f"{self._sharing.prefix}:canary:{{"
        found = self._connect().scan_iter(match=f"{start}*}}")
        return sorted([key.decode()[len(start) : -1] for key in found])

    def read(self, name: str) -> Told:
        """Return a canary's state, and its counts and bounds; the state is empty for an unknown
        one."""
        client = self._connect()
        state = _decoded(client.hgetall(self._key(name)))
        return _parse(state, _decoded(client.hgetall(f"{self._key(name)}:{state.get('epoch', 0)}")))

    def decide(self, name: str, state: str, share: float | None, reason: str) -> None:
        """Set a canary's state by hand; its processes follow within half a second."""
        client = self._connect()
        epoch = client.hincrby(self._key(name), "epoch", 1)
        client.hset(self._key(name), mapping=dict(_couples(_fields(epoch, state, share, reason))))

    def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            self._redis.close()

    def _connect(self) -> Any:
        if self._redis is None:
            self._redis = connect(self._sharing)
        return self._redis

    def _key(self, name: str) -> str:
        return f"{self._sharing.prefix}:canary:{{{name}}}"


class CanaryLink:
    """Keeps a canary of this process and Redis in step, on a thread of its own.

    What is decided here is told, and what others decided is followed, within half a second. A Redis
    that does not answer changes nothing here.

    Args:
        book: Where it is told.
        name: The canary's.
        news: Returns what is to be told.
        follow: Gets that, and what Redis has: state, counts and bounds.
        tell: Told whether the state is shared, and why not.
    """

    def __init__(
        self,
        book: CanaryBook,
        name: str,
        news: Callable[[], News],
        follow: Callable[[Any, Told], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        self._book, self._name = book, name
        self._news, self._follow, self._tell = news, follow, tell
        self._keeper = Keeper(self._step, "cosy-canary")
        self._shared = True
        # What was told, until it is answered, and its number.
        self._told: News | None = None
        self._number = 0

    def start(self) -> None:
        """Begin to look."""
        self._keeper.ring()

    def close(self, seconds: float) -> None:
        """Tell the last of it, and end the thread; wait at most `seconds`."""
        self._keeper.close(seconds)
        if self._shared:
            self._step()
        self._book.close()

    def _step(self) -> float:
        try:
            if self._told is None:
                self._told, self._number = self._news(), self._number + 1
            news = self._told
            answer = self._book.tell(self._name, news, self._number)
            self._told = None
            self._follow(news, answer)
        except BaseException as error:  # whatever it is, no call must fail because of it
            self._note(False, f"{type(error).__name__}: {error}")
        else:
            self._note(True, "")
        return _LOOK if self._shared else _LOST

    def _note(self, shared: bool, reason: str) -> None:
        if shared != self._shared:
            self._shared = shared
            self._tell(shared, reason)


def _fields(epoch: int, state: str, share: float | None, reason: str) -> list[Any]:
    given = "" if share is None else share
    values = {"epoch": epoch, "state": state, "share": given, "reason": reason, "at": time.time()}
    return _flat(values)


def _flat(values: Mapping[str, Any]) -> list[Any]:
    return [each for pair in values.items() for each in pair]


def _couples(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pairs(flat: list[bytes]) -> dict[str, str]:
    return _decoded(dict(_couples(flat)))


def _decoded(found: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in found.items()}


def _parse(state: dict[str, str], fields: dict[str, str]) -> Told:
    numbers = {key: float(value) for key, value in fields.items()}
    bounds = {k.removeprefix(_BOUND): v for k, v in numbers.items() if k.startswith(_BOUND)}
    counts = {k: v for k, v in numbers.items() if not k.startswith(_BOUND)}
    return state, counts, bounds
