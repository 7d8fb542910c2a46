"""What several processes and hosts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from ..checks import check, count, flag, positive
from ..errors import ConfigError
from ..fields import tells_fields
from ..hints import install_line

__all__ = ["SharingConfig"]

_SCHEMES = ("redis", "rediss", "unix")


@tells_fields
@dataclass(frozen=True, kw_only=True)
class SharingConfig:
    """What all who use the same Redis share: each endpoint's rate, connections and breaker."""

    redis_url: str | None = field(default=None, repr=False)
    """Where Redis is, as redis://, rediss:// or unix://; never shown or logged. None shares
    nothing."""
    prefix: str = "cosy_sync"
    """How the keys in Redis begin. Clients share an endpoint's limit when this is equal."""
    timeout: float = 0.1
    """Seconds that Redis may take for an answer. A longer time lets callers wait longer when it
    is gone; a shorter one takes a busy Redis for a lost one."""
    connections: bool = True
    """Share `max_connections` too: each client gets what it needs, as long as all together keep
    to it, else an equal share. False leaves each client all of them."""
    breaker: bool = True
    """Share the breaker's state too: where it opens in one process, the others stop as well. A
    storage of your own, BreakerConfig(storage=...), goes before."""
    clients: int = 1
    """Clients that are assumed to share the limit when Redis cannot be asked from the start."""

    def __post_init__(self) -> None:
        if self.redis_url is not None:
            _check_url(self.redis_url)
        good = isinstance(self.prefix, str) and bool(self.prefix) and not set("{}") & {*self.prefix}
        if not good:
            raise ConfigError(f"prefix: must be a name without braces, got {self.prefix!r}")
        check(self, positive("timeout") + count("clients") + flag("connections", "breaker"))


def _check_url(url: Any) -> None:
    # There may be a password in it: what is wrong is said without showing it.
    try:
        good = urlsplit(url).scheme in _SCHEMES and bool(urlsplit(url).port or True)
    except (AttributeError, TypeError, ValueError):
        good = False
    if not good:
        raise ConfigError("redis_url: expected redis://HOST:PORT/0, rediss://... or unix://PATH")
    if find_spec("redis") is None:
        raise ConfigError(f"redis_url: needs the package redis; {install_line('redis')}")
