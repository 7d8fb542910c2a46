"""Look a host name up: all of its addresses, of both kinds."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
import time

from ..addresses import is_public, literal
from ..bounded import BoundedCache
from ..errors import BadAudioError, ConnectError, ResourceError
from ..threads import leave, resume
from .scarcity import raise_scarcity

__all__ = [
    "FailedAddresses",
    "has_way",
    "is_name",
    "look_up",
    "look_up_all",
    "look_up_public",
    "look_up_until",
]

# Seconds for which an address that could not be connected to is tried last.
_AVOIDED = 60.0
# Addresses that are remembered at most.
_MOST_FAILED = 1_024

# What the system says at once, without a packet, when no way leads to such addresses.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def is_name(host: str) -> bool:
    """Return whether a name server must be asked: this is neither an address nor this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def look_up(host: str, port: int) -> list[str]:
    """Return the host's addresses, the best first. Raises ConnectError, ResourceError.

    Waits for the system's look-up, which nothing can bound or end.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise_scarcity(error)
        raise ConnectError(
            f"the name {host!r} has no address ({error}); check the host", phase="dns"
        ) from error
    # A scoped IPv6 address is only whole with its scope, which getnameinfo writes behind it.
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return [socket.getnameinfo(item[4], flags)[0] for item in found]


class _LookUp:
    """One look-up on a thread of its own; whoever wants the same name meanwhile waits with it."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self.done = threading.Event()
        self.found: list[str] = []
        self.error: ConnectError | ResourceError | None = None

    def run(self, key: object) -> None:
        try:
            self.found = look_up(*self._where)
        except (ConnectError, ResourceError) as error:
            self.error = error
        except Exception as error:  # whatever it is, those who wait must be told
            self.error = ConnectError(f"the look-up failed: {error!r}", phase="dns")
        finally:
            _in_flight.pop(key, None)
            self.done.set()


# By process, host and port. Each use is one atomic step.
_in_flight: dict[object, _LookUp] = {}


def look_up_until(host: str, port: int, until: float) -> list[str]:
    """Return the host's addresses as `look_up` does, before the instant `until`.

    A name server that does not answer would keep a thread for longer than its deadline. Raises
    ConnectError, ResourceError.
    """
    if _is_address(host):
        return look_up(host, port)
    key = os.getpid(), host, port  # a forked child has none of these threads
    mine = _LookUp(host, port)
    shared = _in_flight.setdefault(key, mine)
    if shared is mine:
        thread = threading.Thread(target=mine.run, args=(key,), name="cosy-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # out of threads, or the interpreter ends
            mine.run(key)
    leave()
    if not shared.done.wait(max(0.0, until - time.monotonic())):
        raise ConnectError(
            f"the look-up of the name {host!r} gave no answer in time; check the name server",
            phase="dns",
            timed_out=True,
        )
    resume()
    if shared.error is not None:
        raise shared.error.with_details()
    return shared.found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def look_up_all(host: str, port: int) -> list[str]:
    """Return each of the host's addresses that this machine has a way to, or all if none seems to.

    Waits and raises like `look_up`.
    """
    found = list(dict.fromkeys(look_up(host, port)))
    return [address for address in found if has_way(address, port)] or found


def look_up_public(host: str, port: int) -> str:
    """Return an address of the host that anybody on the internet can have.

    Waits and raises like `look_up`; BadAudioError where it has no such address.
    """
    for address in look_up(host, port):
        found = literal(address)
        if found is not None and is_public(found):
            return address
    raise _not_public(host)


def _not_public(host: str) -> BadAudioError:
    """Return the error of a service's link to a host that is not public."""
    return BadAudioError(
        f"the service's link to its sound leads to {host[:80]}, which has no public address, and "
        "is not followed; if it is your service's own storage, allow it: "
        "pool=PoolConfig(private_links=True)",
        reason="link",
        retryable=False,
    )


def has_way(address: str, port: int) -> bool:
    """Return whether this machine has a way to an address."""
    # IPv6 addresses stand in name servers for machines that have no IPv6 at all. Connecting a
    # datagram socket only looks the way up; nothing is sent.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
    except OSError as error:
        return error.errno not in _NO_WAY
    return True


class FailedAddresses:
    """Addresses that could not be connected to lately, of names that have several: they are tried
    last, or each new connection would wait for the first one again.

    Used by any thread without a lock: each step is one of a dict's.
    """

    def __init__(self) -> None:
        self._until: BoundedCache[tuple[str, int], float] = BoundedCache(_MOST_FAILED)

    def has(self, address: str, port: int) -> bool:
        """Return whether the address failed lately."""
        return self._until.get((address, port), 0.0) > time.monotonic()

    def add(self, address: str, port: int) -> None:
        """Note that the address failed."""
        self._until.keep((address, port), 0.0)
        self._until[address, port] = time.monotonic() + _AVOIDED

    def discard(self, address: str, port: int) -> None:
        """Note that the address was connected to."""
        if self._until:
            self._until.pop((address, port), None)
