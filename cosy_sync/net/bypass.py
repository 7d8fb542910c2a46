"""Which hosts NO_PROXY names: they are reached without a proxy."""

from __future__ import annotations

import ipaddress
import re
import urllib.request

__all__ = ["bypasses_proxy"]


def bypasses_proxy(host: str, port: int) -> bool:
    """Return whether NO_PROXY, or the system's own list, names a host.

    Its entries stand between commas or spaces: `*`, a host (and those below it), `.example.com`,
    `*.example.com`, an address, a range such as 10.0.0.0/8; each but a range may end with a port.
    An IPv6 address stands there with brackets or without.
    """
    named = urllib.request.getproxies_environment().get("no")
    if named is None:
        return bool(urllib.request.proxy_bypass(host))
    return any(_names(entry, host.lower(), port) for entry in re.split(r"[\s,]+", named.lower()))


def _names(entry: str, host: str, port: int) -> bool:
    if not entry or entry == "*":
        return bool(entry)
    if "/" in entry:
        return _in_range(entry, host)
    if entry in (host, f"[{host}]"):
        return True
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdecimal() and (":" not in name or name.endswith("]")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.removeprefix("*").removeprefix(".")
    return entry in (host, f"[{host}]") or host.endswith(f".{entry}")


def _in_range(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # the host is a name, or the range is none
        return False
