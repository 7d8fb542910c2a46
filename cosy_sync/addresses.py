"""Which hosts are public: links that a service gives are followed to no other."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

__all__ = ["is_public", "literal"]

# An IPv4 address stands in the last 32 bits of these.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, also where it is written as 127.1 or 0x7f000001; this
    machine's for localhost, None for any other name."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith((".localhost", ".localdomain")):
        return IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:  # what the system's look-up takes for an address too
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether anybody on the internet can have this address: not this machine, a network of
    one's own, or a cloud's metadata service."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast
