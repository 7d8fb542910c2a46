"""One address of the service, and the limits it sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..checks import check, checked_url, count, positive

__all__ = ["Endpoint"]


@dataclass(frozen=True)
class Endpoint:
    """One address of the service with the limits that it sets for one client.

    Args:
        url: The whole URL that requests are sent to, such as https://tts.example.com/batch.
        max_connections: Connections, and so requests in flight, at the same time.
        rate: Requests per second; no sliding second exceeds it.
        weight: Share of the traffic when there are several endpoints.
    """

    url: str = field(repr=False)
    max_connections: int = field(default=50, kw_only=True)
    rate: float = field(default=100.0, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        checked_url("url", self.url)
        check(self, count("max_connections") + positive("rate", "weight"))

    def __repr__(self) -> str:
        return (
            f"Endpoint({self.label!r}, max_connections={self.max_connections}, "
            f"rate={self.rate:g}, weight={self.weight:g})"
        )

    @property
    def label(self) -> str:
        """Return the address without query, as errors and logs show it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
