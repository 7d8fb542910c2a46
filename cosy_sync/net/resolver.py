"""Look a host name up: all of its addresses, of both kinds."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import threading
import time

from ..errors import ConnectError

__all__ = ["is_name", "look_up", "look_up_all", "look_up_until"]

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
    """Return the host's addresses, the best first. Raises ConnectError.

    Waits for the system's look-up, which nothing can bound or end.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
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
        self.error: ConnectError | None = None

    def run(self, key: object) -> None:
        try:
            self.found = look_up(*self._where)
        except ConnectError as error:
            self.error = error
        except Exception as error:  # whatever it is, those who wait must be told
            self.error = ConnectError(f"the look-up failed: {error!r}", phase="dns")
        finally:
            _under_way.pop(key, None)
            self.done.set()


# By process, host and port. Each use is one atomic step.
_under_way: dict[object, _LookUp] = {}


def look_up_until(host: str, port: int, until: float) -> list[str]:
    """Return the host's addresses as `look_up` does, before the instant `until`.

    A name server that does not answer would keep a thread for longer than its deadline. Raises
    ConnectError.
    """
    if _is_address(host):
        return look_up(host, port)
    key = os.getpid(), host, port  # a forked child has none of these threads
    mine = _LookUp(host, port)
    shared = _under_way.setdefault(key, mine)
    if shared is mine:
        thread = threading.Thread(target=mine.run, args=(key,), name="cosy-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # out of threads, or the interpreter ends
            mine.run(key)
    if not shared.done.wait(max(0.0, until - time.monotonic())):
        raise ConnectError(
            f"the look-up of the name {host!r} gave no answer in time; check the name server",
            phase="dns",
        )
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
    return [address for address in found if _has_way(address, port)] or found


def _has_way(address: str, port: int) -> bool:
    # IPv6 addresses stand in name servers for machines that have no IPv6 at all. Connecting a
    # datagram socket only looks the way up; nothing is sent.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
    except OSError as error:
        return error.errno not in _NO_WAY
    return True
