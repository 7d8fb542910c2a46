"""A cache in Redis, which many machines share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from ..errors import ConfigError
from ..hints import install_line
from ..loading import load
from .ports import Entry

__all__ = ["RedisCache"]

_SCHEMES = ("redis://", "rediss://", "unix://")
# Keys that are looked at, or deleted, in one step.
_PAGE = 500
# Deletes a lease that is still one's own.
_RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


class RedisCache:
    """Keeps each entry under a key of its own. What goes when memory is short is up to Redis: set
    `maxmemory` and `maxmemory-policy allkeys-lru` there.

    Connects on first use; a forked child has connections of its own.

    Args:
        url: redis://, rediss:// or unix://; never shown or logged.
        prefix: How its keys begin.
        timeout: Seconds that Redis may take for an answer.
    """

    def __init__(self, url: str, *, prefix: str = "cosy_sync:audio", timeout: float = 0.5) -> None:
        if not (isinstance(url, str) and url.startswith(_SCHEMES)):
            raise ConfigError("cache: expected redis://HOST:PORT/0, rediss://... or unix://PATH")
        if not (isinstance(prefix, str) and prefix) or set(prefix) & set("*?[]\\"):
            raise ConfigError(f"prefix: must be a name without *?[]\\, got {prefix!r}")
        if not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ConfigError(f"timeout: must be a number of seconds above 0, got {timeout!r}")
        if find_spec("redis") is None:
            raise ConfigError(f"cache: Redis needs the package redis; {install_line('redis')}")
        load("redis", "redis.backoff", "redis.retry")  # not in the middle of a call
        self._url, self._prefix, self._timeout = url, prefix, timeout
        self._name = uuid.uuid4().hex
        # Of two that are made at the same time the second is not needed.
        self._client: Any = None

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return those that are there, in one round trip. Raises what the Redis client raises."""
        if not digests:
            return {}
        values = self._redis().mget([self._key(digest) for digest in digests])
        pairs = zip(digests, values, strict=True)
        return {digest: value for digest, value in pairs if value is not None}

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep the entries, in one round trip. Raises what the Redis client raises."""
        with self._redis().pipeline(transaction=False) as pipe:
            for digest, data, seconds in entries:
                pipe.set(self._key(digest), data, px=max(1, round(1000 * seconds)))
            pipe.execute()

    def delete(self, digests: Sequence[str] | None) -> None:
        """Forget these, or everything with this prefix. Raises what the Redis client raises."""
        redis = self._redis()
        if digests is None:
            for keys in self._pages(f"{self._prefix}:*"):
                redis.unlink(*keys)
        elif digests:
            redis.unlink(*[self._key(digest) for digest in digests])

    def lease(self, digests: Sequence[str], seconds: float) -> Collection[str]:
        """Take those that nobody has; return them. Raises what the Redis client raises."""
        with self._redis().pipeline(transaction=False) as pipe:
            for digest in digests:
                pipe.set(self._lease(digest), self._me(), px=round(1000 * seconds), nx=True)
            taken = pipe.execute()
        return {digest for digest, mine in zip(digests, taken, strict=True) if mine}

    def release(self, digests: Sequence[str]) -> None:
        """Give back what is still one's own. Raises what the Redis client raises."""
        if digests:
            keys = [self._lease(digest) for digest in digests]
            self._redis().eval(_RELEASE, len(keys), *keys, self._me())

    def usage(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes: looks at every key of Redis."""
        redis, entries, size = self._redis(), 0, 0
        for keys in self._pages(f"{self._prefix}:e:*"):
            with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.strlen(key)
                lengths = [length for length in pipe.execute() if length]
            entries, size = entries + len(lengths), size + sum(lengths)
        return entries, size

    def close(self) -> None:
        """Close the connections; what comes later opens others."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _pages(self, pattern: str) -> Any:
        page: list[Any] = []
        for key in self._redis().scan_iter(match=pattern, count=_PAGE):
            page.append(key)
            if len(page) >= _PAGE:
                yield page
                page = []
        if page:
            yield page

    def _key(self, digest: str) -> str:
        return f"{self._prefix}:e:{digest}"

    def _lease(self, digest: str) -> str:
        return f"{self._prefix}:l:{digest}"

    def _me(self) -> str:
        return f"{self._name}-{os.getpid()}"

    def _redis(self) -> Any:
        client = self._client
        if client is None:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            make: Any = redis.Redis
            # Its pool looks at the process's id, and opens new connections in a forked child.
            client = self._client = make.from_url(
                self._url,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        return client

    def __repr__(self) -> str:
        return f"<RedisCache {self._prefix!r}>"
