"""Where a URL leads: host, port, TLS or not, and through which proxy."""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigError
from .bypass import bypasses_proxy

__all__ = ["Proxy", "Route", "find_route"]

_PORTS = {"http": 80, "https": 443}
# A WebSocket begins as HTTP, and takes the same way.
_SCHEMES = {"ws": "http", "wss": "https"}


# What to do where both a proxy and the service behind it are reached through TLS.
_INSTEAD = {
    "https": "give http://HOST:PORT, or pass an httpx.Client(proxy=...) as http_client",
    "wss": "give http://HOST:PORT, or name the service in NO_PROXY",
}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: `authorization` is the value of its header, or nothing."""

    host: str
    port: int
    tls: bool
    authorization: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one server. Requests on equal routes share connections.

    `address` is the one of the host's addresses to connect to; None looks the host up.
    """

    # As errors show them, without TLS and with.
    schemes: ClassVar[tuple[str, str]] = ("http", "https")

    host: str
    port: int
    tls: bool
    proxy: Proxy | None
    address: str | None = None

    @property
    def label(self) -> str:
        """Return the server's address as errors show it."""
        way = f" through the proxy {self.proxy.host}:{self.proxy.port}" if self.proxy else ""
        if self.address is not None:
            way = f" at {self.address}"
        return f"{self.schemes[self.tls]}://{self.netloc}{way}"

    @property
    def netloc(self) -> str:
        """Return host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _PORTS["https" if self.tls else "http"]
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def forwards(self) -> bool:
        """Return whether a proxy passes the requests on (plain http) instead of tunnelling them."""
        return self.proxy is not None and not self.tls


def find_route(url: str, *, trust_env: bool) -> Route:
    """Find the way to a URL's server; the proxy comes from HTTP_PROXY and the like, if trusted.

    Raises ConfigError for a proxy that cannot be used.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    host, tls = parts.hostname or "", scheme == "https"
    port = parts.port or _PORTS[scheme]
    proxy = _find_proxy(scheme, host, port) if trust_env else None
    if tls and proxy is not None and proxy.tls:
        raise ConfigError(
            f"proxy: the tunnel to {parts.scheme}://{host} through https://{proxy.host}, from the "
            "environment, would be TLS inside TLS, which this client does not speak; "
            + _INSTEAD[parts.scheme]
        )
    return Route(host, port, tls, proxy)


def _find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    proxies = urllib.request.getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or bypasses_proxy(host, port):
        return None
    return _read_proxy(address if "://" in address else f"http://{address}")


def _read_proxy(address: str) -> Proxy:
    try:
        parts = urlsplit(address)
    except ValueError:  # a bracket without its other one
        parts = urlsplit("")
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if port is None or parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(
            f"proxy: {parts.scheme}://{parts.hostname or ''} from the environment cannot be used; "
            "give http://HOST:PORT or https://HOST:PORT, or pool=PoolConfig(trust_env=False)"
        )
    return Proxy(parts.hostname, port, parts.scheme == "https", _authorization(parts))


def _authorization(parts: SplitResult) -> str | None:
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode("ascii")
