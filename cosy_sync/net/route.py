"""Where a URL leads: host, port, TLS or not, and through which proxy."""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigError

__all__ = ["Proxy", "Route", "find_route"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: `authorization` is the value of its header, or nothing."""

    host: str
    port: int
    tls: bool
    authorization: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one server. Requests on equal routes share connections."""

    host: str
    port: int
    tls: bool
    proxy: Proxy | None

    @property
    def label(self) -> str:
        """Return the server's address as errors show it."""
        way = f" through the proxy {self.proxy.host}:{self.proxy.port}" if self.proxy else ""
        return f"{'https' if self.tls else 'http'}://{self.netloc}{way}"

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
    """Find the way to a URL's server; the proxy comes from HTTP_PROXY and its kin, if trusted."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or _PORTS[parts.scheme]
    proxy = _find_proxy(parts.scheme, f"{host}:{port}", host) if trust_env else None
    return Route(host, port, tls, proxy)


def _find_proxy(scheme: str, netloc: str, host: str) -> Proxy | None:
    proxies = urllib.request.getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    bypass = urllib.request.proxy_bypass
    if not address or bypass(host) or bypass(netloc):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(
            f"proxy: {parts.scheme}://{parts.hostname} from the environment is not supported; "
            "use an http:// or https:// proxy, or pool=PoolConfig(trust_env=False)"
        )
    port = parts.port or _PORTS[parts.scheme]
    return Proxy(parts.hostname, port, parts.scheme == "https", _authorization(parts))


def _authorization(parts: SplitResult) -> str | None:
    if not parts.username:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode("ascii")
