"""What this machine may run out of, and how the system says so: no fault of the service's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from ..errors import ResourceError

__all__ = ["find_scarcity", "out_of_descriptors", "out_of_memory", "raise_scarcity", "scarcity_of"]

_LESS = "or allow fewer connections (max_connections)"


def find_scarcity(error: BaseException) -> ResourceError | None:
    """Return what this machine is out of, where that is why a connection could not be opened."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:  # they may form a circle
        seen.add(id(cause))
        if isinstance(cause, socket.gaierror):
            # A look-up hides that it could open neither its files nor a socket.
            return _look()
        if isinstance(cause, OSError) and (found := _of_number(cause.errno)):
            return found
        cause = cause.__cause__ or cause.__context__  # httpcore hides what is beneath
    return None


def raise_scarcity(error: BaseException) -> None:
    """Raise ResourceError where that is what an error means; see `find_scarcity`."""
    found = find_scarcity(error)
    if found is not None:
        raise found from error


def scarcity_of(said: str) -> ResourceError | None:
    """Return what this machine is out of, by the system's words in lower case."""
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
        if os.strerror(number).lower() in said:
            return _of_number(number)
    return None


def out_of_descriptors() -> ResourceError:
    """Build the error for a connection that would take one of the last descriptors."""
    return ResourceError(
        f"this process may have no more open files and sockets (ulimit -n{_most_files()}); "
        f"raise that limit, {_LESS}",
        resource="descriptors",
    )


def out_of_memory(size: int) -> ResourceError:
    """Build the error for a reply of so many bytes that finds no memory."""
    return ResourceError(
        f"this machine has no memory left for a reply of {size} bytes; lower "
        "LimitConfig(max_bytes_in_flight=...), or give it more",
        resource="memory",
        sent=True,
    )


def _of_number(number: int | None) -> ResourceError | None:
    if number == errno.EMFILE:
        return out_of_descriptors()
    if number == errno.ENFILE:
        return ResourceError(
            "this machine may have no more open files and sockets (sysctl fs.file-max; for one "
            f"process: ulimit -n); raise that limit, {_LESS}",
            resource="descriptors",
        )
    if number == errno.EADDRNOTAVAIL:
        return ResourceError(
            "this machine has no free local port for a connection there (sysctl "
            "net.ipv4.ip_local_port_range); keep connections longer "
            f"(PoolConfig(idle_expiry=...)), {_LESS}",
            resource="ports",
        )
    if number in (errno.ENOMEM, errno.ENOBUFS):
        return _out_of_connection_memory()
    return None


def _out_of_connection_memory() -> ResourceError:
    return ResourceError(
        f"this machine has no memory left for a connection; give it more, {_LESS}",
        resource="memory",
    )


def _look() -> ResourceError | None:
    """Return what a socket cannot be opened for just now."""
    try:
        socket.socket().close()
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return _of_number(error.errno)
    return None


def _most_files() -> str:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        return f": {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
    return ""
