"""One address of the service, and the limits it sets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..checks import check, checked_url, count, flag, positive, positive_or_unlimited
from ..errors import ConfigError
from ..fields import tells_fields
from .load import Load

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Endpoint"]


class _Count(int):
    """A number that nobody gave: the wire may know a better one."""


class _Rate(float):
    """A rate that nobody gave."""


@tells_fields
@dataclass(frozen=True)
class Endpoint:
    """One address of the service with the limits that it sets for one client."""

    url: str = field(repr=False)
    """As the wire wants it: for `batch` the whole URL, such as https://tts.example.com/batch, for
    others the service's address, such as https://api.siliconflow.cn/v1."""
    max_connections: int = field(default=_Count(50), kw_only=True)
    """Connections, and so requests in flight, at the same time. Left out: what services of the
    wire usually allow."""
    rate: float | None = field(default=_Rate(100), kw_only=True)
    """Requests per second; no sliding second exceeds it. A fraction is counted in whole requests
    over a longer time: 2.5 are at most 3 in any 1.2 s. None or math.inf is no limit; 429s then
    lower only the requests in flight. Left out: what services of the wire usually allow."""
    weight: float = field(default=1.0, kw_only=True)
    """Share of the traffic when there are several endpoints."""
    per_address: bool = field(default=False, kw_only=True)
    """True where each address of the host name has these limits for itself; each then counts as
    an endpoint. False takes them as the limits of the name."""

    def __post_init__(self) -> None:
        checked_url("url", self.url)
        check(self, count("max_connections") + positive("weight") + flag("per_address"))
        check(self, positive_or_unlimited("rate"))

    @classmethod
    def for_load(
        cls, url: str, requests_per_second: float, latency: float, **settings: Any
    ) -> Self:
        """Return an endpoint that carries this load, if its service allows as much.

        Connections are rate x latency (Little's law), and head-room; `Load` has the formula.
        `rate` is the load itself, never exceeded, unless it is given. Raises ConfigError.

        Args:
            url: The whole URL that requests are sent to.
            requests_per_second: Of this endpoint.
            latency: Mean seconds from sending a request to the end of its reply.
            settings: Other fields.
        """
        if "max_connections" in settings:
            raise ConfigError("max_connections: for_load works it out; leave one of them out")
        connections = Load(requests_per_second, latency).connections
        limits = {"rate": requests_per_second, **settings}
        return cls(url, max_connections=connections, **limits)

    def settled(self, max_connections: int, rate: float) -> Self:
        """Return it with these limits where it leaves them to the wire."""
        if isinstance(self.max_connections, _Count):
            self = replace(self, max_connections=max_connections)
        return replace(self, rate=rate) if isinstance(self.rate, _Rate) else self

    @property
    def rate_limit(self) -> float:
        """Return the requests per second that it is allowed, math.inf where that is any number."""
        return math.inf if self.rate is None else self.rate

    def __repr__(self) -> str:
        return (
            f"Endpoint({self.label!r}, max_connections={self.max_connections}, "
            f"rate={self.rate_limit:g}, weight={self.weight:g}, per_address={self.per_address})"
        )

    @property
    def label(self) -> str:
        """Return the address without query, as errors and logs show it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
