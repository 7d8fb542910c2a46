"""What can be known of the web host's workers, and the traps that lie between it and a client."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cosy_sync import ClientConfig, Endpoint

__all__ = ["Host", "Trap", "known_host", "traps_of"]

# Where gunicorn looks for its configuration when nothing is said.
_CONFIG = "gunicorn.conf.py"
_GREEN = ("gevent", "gevent_wsgi", "gevent_pywsgi")


@dataclass(frozen=True)
class Host:
    """A web host: None is what nobody knows."""

    # Worker processes.
    workers: int | None = None
    # Seconds after which it kills a worker that one request holds up.
    timeout: float | None = None
    # Its workers are greenlets.
    gevent: bool = False


class Trap(NamedTuple):
    """What would go wrong: a name for it, what happens, and what to do."""

    name: str
    message: str
    hint: str


def known_host(environ: Mapping[str, str] | None = None, folder: str = ".") -> Host:
    """Return what uWSGI, gunicorn's arguments and configuration, and WEB_CONCURRENCY tell.

    Args:
        folder: Where `gunicorn.conf.py` may lie; it is read, not run.
    """
    environ = os.environ if environ is None else environ
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        allowed = getattr(uwsgi, "opt", {}).get("harakiri")
        return Host(getattr(uwsgi, "numproc", None), float(allowed) if allowed else None)
    told = {**_configured(Path(folder) / _CONFIG), **_arguments(environ)}
    workers = told.get("workers", environ.get("WEB_CONCURRENCY"))
    if not told:
        return Host(_number(workers))
    kind = str(told.get("worker_class", "sync"))
    # With threads or greenlets it is the worker's heartbeat, which no request holds up.
    sync = kind == "sync" and _number(told.get("threads", 1)) == 1
    timeout = _number(told.get("timeout", 30)) if sync else None
    return Host(_number(workers), timeout or None, kind.split(".")[-1] in _GREEN)


def traps_of(config: ClientConfig, endpoints: Sequence[Endpoint], host: Host) -> list[Trap]:
    """Return what would go wrong with a client of these settings there."""
    found = []
    workers, timeout = host.workers or 1, host.timeout
    if workers > 1 and config.sharing.redis_url is None:
        found.append(
            Trap(
                "sharing",
                f"{workers} worker processes share no limits: together they may send {workers} "
                "times the rate and connections of each endpoint.",
                "Share them through Redis (SHARING), or give each process its part: "
                "Endpoint(url, rate=..., max_connections=...).",
            )
        )
    if timeout is not None and config.deadline >= timeout:
        found.append(
            Trap(
                "deadline",
                f"A text may take {config.deadline:g} s, but the host kills a worker after "
                f"{timeout:g} s, with all that it was doing.",
                f"Set deadline below {timeout:g} s, or give the workers threads.",
            )
        )
    grpc = config.wire == "runtime_grpc" or any(e.url.startswith("grpc") for e in endpoints)
    if host.gevent and grpc:
        found.append(
            Trap(
                "grpc",
                f"The wire {config.wire!r} waits in C, where no greenlet can take its place: one "
                "slow text would stop the whole worker.",
                "Use an HTTP address, such as with wire='runtime_http', or workers of threads.",
            )
        )
    return found


def _arguments(environ: Mapping[str, str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-w", "--workers")
    parser.add_argument("-t", "--timeout")
    parser.add_argument("-k", "--worker-class", dest="worker_class")
    parser.add_argument("--threads")
    try:
        told, _ = parser.parse_known_args(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))
    except (SystemExit, ValueError):  # gunicorn itself will say what is wrong
        return {}
    return {name: value for name, value in vars(told).items() if value is not None}


def _configured(path: Path) -> dict[str, Any]:
    """Return the names that a configuration sets to plain values."""
    try:
        lines = ast.parse(path.read_text("utf-8")).body
    except (OSError, SyntaxError, ValueError):
        return {}
    known: dict[str, Any] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            name = line.targets[0].id
            if isinstance(line.value, ast.Constant):
                known[name] = line.value.value
    return known


def _number(given: Any) -> int | None:
    try:
        return int(given)
    except (TypeError, ValueError):
        return None
