"""What a load takes in connections (Little's law), and what a rate allows in a stretch of time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check, positive
from ..errors import ConfigError

__all__ = ["Load", "quota"]

# Standard deviations above the mean.
_HEAD_ROOM = 2.0
# Ports of one address: a load that takes more connections was meant in other units.
_MOST = 65_535


@dataclass(frozen=True)
class Load:
    """Traffic to make room for: requests per second, and the mean seconds that each takes.

    Raises ConfigError for what cannot be.
    """

    requests_per_second: float
    latency: float

    def __post_init__(self) -> None:
        check(self, positive("requests_per_second", "latency"))
        if self.requests_per_second * self.latency > _MOST:
            raise ConfigError(
                f"latency: {self.requests_per_second:g} requests/s of {self.latency:g} s each take "
                "more connections than an address has ports; give it in seconds"
            )

    @property
    def connections(self) -> int:
        """Return the connections that it takes.

        In the mean, rate x latency requests are in flight (Little 1961). Requests that come at
        random spread around this mean m by its square root, so there are m + 2 sqrt(m), rounded
        up: then 3 in 100 of them find every connection busy and wait for a moment (square-root
        staffing, Halfin and Whitt 1981), up to 10 in 100 where m is below 2.
        """
        mean = self.requests_per_second * self.latency
        # 0.07 x 100 is a little more than 7 in binary: that must not cost a connection.
        return math.ceil(round(mean + _HEAD_ROOM * math.sqrt(mean), 6)) or 1


def quota(rate: float) -> tuple[int, float]:
    """Return a rate as so many requests in so many seconds, at least one of either.

    Only whole requests can be counted, so 2.5/s are 3 requests in 1.2 s, and 0.5/s one in 2 s.
    """
    count = max(1, math.ceil(round(rate, 9)))
    return count, count / rate
