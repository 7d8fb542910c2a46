"""The book of a shared rate limit, in Redis: who sends when, by Redis' own clock."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..config import SharingConfig
from ..config.load import quota

__all__ = ["Answer", "Ask", "Book", "RedisBook", "connect"]

# Seconds by which requests may come closer together on their way to the service.
_JITTER = 0.015
# Seconds that are booked ahead at most. What really happened is told in less time than is left of
# the second, so that it counts for those who come a second later.
HORIZON = 0.25
# Seconds by which Redis' clock must have moved more than ours to count as set.
_SET = 0.25
# Seconds after its last word that a client counts as gone.
_ALIVE = 3.5
# Seconds that clients which reached the book again still go by their own shares: by then all have
# noticed, and they return as one.
_RETURN = 1.5

# The generic cell rate algorithm (ITU-T I.371, virtual scheduling) spaces the turns, and a log of
# the last `count` of them lets the next begin only a span after the one `count` before it. Each
# turn enters the log as booked; when its request has left, the log is corrected. Instants in
# microseconds. Answers: pause, clients, time until the return, the first free instant, the latest
# number, and for each turn its number and instant.
_SCRIPT = """
local state, log, clients = KEYS[1], KEYS[2], KEYS[3]
local count, span = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval, slack = tonumber(ARGV[3]), tonumber(ARGV[4])
local want, horizon = tonumber(ARGV[5]), tonumber(ARGV[6])
local me, alive = ARGV[7], tonumber(ARGV[8])
local rest, away = tonumber(ARGV[9]), tonumber(ARGV[10])
local seen, apart = tonumber(ARGV[11]), tonumber(ARGV[12])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local known = redis.call('HMGET', state, 'number', 'due', 'left', 'pause', 'back', 'now')
local lost = false

local function sane(text, most)
  local x = tonumber(text)
  if not text or (x and x >= 0 and x <= most) then  -- not so what is no number
    return x or 0
  end
  lost = true
  return 0
end

-- left: the latest instant of those that are not in the log any more
local number, latest = sane(known[1], 2^52), now + horizon + 2 * span
local before = sane(known[6], 2^52)
if before > 0 and (now < before - 1000000 or (apart >= 0 and now - before > apart)) then
  -- Redis' clock was set: what lay ahead still does
  lost = true
  for i = 2, 5 do
    known[i] = known[i] and math.max(0, (tonumber(known[i]) or 0) - before + now)
  end
end
local due, left = sane(known[2], latest + slack), sane(known[3], latest)
local pause, back = sane(known[4], now + 3600000000), sane(known[5], now + 60000000)
for _, place in ipairs({0, -1}) do
  sane(redis.call('LINDEX', log, place), latest)
end
if lost or number < seen then
  -- Emptied, or older than what a client knows, or not to be believed: nobody knows what was sent
  -- in the last second, and what clients have booked still leaves.
  redis.call('DEL', log)
  number, due, left = math.max(number, seen) + 1000000, 0, now + horizon
end
if rest > 0 then
  pause = math.max(pause, now + rest)
end
if away > 0 and back < now then
  back = now + away
end

local function text(x)
  return string.format('%.0f', x)
end

local function note(at)
  number = number + 1
  redis.call('RPUSH', log, text(at))
  while redis.call('LLEN', log) > count do
    left = math.max(left, tonumber(redis.call('LPOP', log)))
  end
end

for i = 13, #ARGV, 2 do
  local which, at = tonumber(ARGV[i]), now - tonumber(ARGV[i + 1])
  if which == 0 or which > number then
    note(at)
  elseif number - which < redis.call('LLEN', log) then
    redis.call('LSET', log, which - number - 1, text(at))
  else
    left = math.max(left, at)
  end
end

local turns, at = {}, 0
while true do
  local first = left
  if redis.call('LLEN', log) >= count then
    first = math.max(left, tonumber(redis.call('LINDEX', log, 0)))
  end
  at = math.max(now, due - slack, pause, first + span)
  if #turns >= 2 * want or at > now + horizon then
    break
  end
  note(at)
  due = math.max(due, at) + interval
  turns[#turns + 1] = number
  turns[#turns + 1] = at - now
end

redis.call('ZADD', clients, text(now), me)
redis.call('ZREMRANGEBYSCORE', clients, '-inf', text(now - alive))
redis.call('HSET', state, 'number', text(number), 'due', text(due), 'left', text(left),
           'pause', text(pause), 'back', text(back),
           'now', text(now))
local keep = math.ceil((60000000 + 2 * span + math.max(0, pause - now)) / 1000)
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, keep)
end
return {math.max(0, pause - now), redis.call('ZCARD', clients), math.max(0, back - now), at - now,
        number, unpack(turns)}
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants to know and to tell, in seconds from now.

    Args:
        want: Turns to book.
        pause: How long nobody may send; 0 when there is nothing new.
        away: Whether the book was out of reach until now.
        sent: For each request that left: the number of its turn, 0 without one, and how long ago.
    """

    want: int
    pause: float
    away: bool
    sent: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the book says, in seconds from now.

    Args:
        pause: How long nobody may send.
        clients: How many share the limit.
        back: When all that were away share the limit again.
        free: When the first turn comes that is not booked.
        turns: Number and instant of each turn that was booked.
    """

    pause: float
    clients: int
    back: float
    free: float
    turns: Sequence[tuple[int, float]]


class Book(Protocol):
    """Where turns are booked. `timeout`: seconds that one exchange with it may take."""

    timeout: float

    def ask(self, ask: Ask) -> Answer:
        """Tell and ask. Waits for the answer; raises whatever keeps it away."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class RedisBook:
    """The book of one endpoint's limit. Connects when it is first asked. For a single thread.

    Args:
        sharing: Where Redis is.
        name: The endpoint's label.
        rate: Requests per second that all clients send together.
        clock: The seconds between two exchanges, to notice when Redis' clock was set.
    """

    def __init__(
        self,
        sharing: SharingConfig,
        name: str,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sharing = sharing
        self.timeout = sharing.timeout
        # Braces make a Redis cluster keep the three together.
        base = f"{sharing.prefix}:{{{name}}}"
        self._keys = [f"{base}:state", f"{base}:log", f"{base}:clients"]
        count, span = quota(rate)
        span += _JITTER
        interval = span / count
        slack = (max(1, math.floor(rate) // 20) - 1) * interval
        self._terms = [count, *map(_micro, (span, interval, slack))]
        self._me = [uuid.uuid4().hex, _micro(_ALIVE)]
        self._clock = clock
        self._seen = 0  # the latest number that the book told
        self._told_at: float | None = None  # when
        self._redis: Any = None
        self._script: Any = None

    def ask(self, ask: Ask) -> Answer:
        """Tell and ask, in one round trip. Raises what the Redis client raises."""
        if self._redis is None:
            self._connect()
        told = [part for number, ago in ask.sent for part in (number, _micro(ago))]
        away = _RETURN if ask.away else 0.0
        now = [ask.want, _micro(HORIZON), *self._me, _micro(ask.pause), _micro(away)]
        known = [self._seen, self._apart()]
        answer = self._script(self._keys, [*self._terms, *now, *known, *told])
        pause, clients, back, free, self._seen, *turns = answer
        self._told_at = self._clock()
        booked = [(number, at / 1e6) for number, at in zip(turns[::2], turns[1::2], strict=True)]
        return Answer(pause / 1e6, clients, back / 1e6, free / 1e6, booked)

    def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            self._redis.close()

    def _apart(self) -> int:
        """Return the microseconds that can have passed in Redis since the last answer; -1 when
        there was none."""
        if self._told_at is None:
            return -1
        return _micro(self._clock() - self._told_at + max(_SET, 2 * self.timeout))

    def _connect(self) -> None:
        self._redis = connect(self._sharing)
        # Sends the script's digest, and the script itself where Redis does not know it yet.
        self._script = self._redis.register_script(_SCRIPT)


def connect(sharing: SharingConfig) -> Any:
    """Return a client of the Redis that is shared; it connects when it is first used."""
    # Not at the top: an optional package, and 80 ms of imports.
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client: Any = redis.Redis
    return client.from_url(
        sharing.redis_url,
        socket_timeout=sharing.timeout,
        socket_connect_timeout=sharing.timeout,
        retry=Retry(NoBackoff(), 0),
    )


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)
