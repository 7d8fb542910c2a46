"""One address of the service, and the limits it sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..checks import check, checked_url, count, flag, positive

__all__ = ["Endpoint"]


@dataclass(frozen=True)
class Endpoint:
    """One address of the service with the limits that it sets for one client.

    Args:
        url: The whole URL that requests are sent to, such as https://tts.example.com/batch.
        max_connections: Connections, and so requests in flight, at the same time.
        rate: Requests per second; no sliding second exceeds it.
        weight: Share of the traffic when there are several endpoints.
        per_address: True where each address of the host name has these limits for itself; each
            then counts as an endpoint. False takes them as the limits of the name.
    """

    url: str = field(repr=False)
    max_connections: int = field(default=50, kw_only=True)
    rate: float = field(default=100.0, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    per_address: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checked_url("url", self.url)
        check(self, count("max_connections") + positive("rate", "weight") + flag("per_address"))

    def __repr__(self) -> str:
        return (
            f"Endpoint({self.label!r}, max_connections={self.max_connections}, "
            f"rate={self.rate:g}, weight={self.weight:g}, per_address={self.per_address})"
        )

    @property
    def label(self) -> str:
        """Return the address without query, as errors and logs show it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
