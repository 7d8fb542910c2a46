"""The machine that it ran on: cores, versions, and how busy others kept it."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosy_sync.version import VERSION

__all__ = ["Cores", "cores", "describe_machine"]

_PACKAGES = (
    "aiohttp",
    "uvloop",
    "httpx",
    "httpcore",
    "requests",
    "urllib3",
    "httptools",
    "orjson",
    "pybase64",
    "openai",
    "httpx2",
    "pyreqwest",
    "dashscope",
    "websockets",
)
_WATCH_SECONDS = 1.0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cores:
    """Where the client and the upstream run; the same core when there is only one."""

    client: int
    upstream: int


@functools.cache
def cores() -> Cores:
    """Return the first and the last core of the machine."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])


def describe_machine() -> dict[str, Any]:
    """Return commit, cores, model, kernel, versions, and the load that was there before us."""
    return {
        "commit": _commit(),
        "cores": len(os.sched_getaffinity(0)),
        "model": _model(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {"cosy-sync": VERSION, **{name: _version(name) for name in _PACKAGES}},
        "busy_before": round(_busy_share(), 3),
    }


def _commit() -> str:
    """Name the commit that is measured; `+` where the library has changed since."""
    try:
        head = _git("rev-parse", "--short", "HEAD").stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    changed = _git("status", "--porcelain", "--", "cosy_sync").stdout
    return f"{head}+" if changed else head


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True)


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _busy_share() -> float:
    """Watch for a second how much of all cores others use: noise in what follows."""
    idle, total = _ticks()
    time.sleep(_WATCH_SECONDS)
    idle_then, total_then = _ticks()
    return 1 - (idle_then - idle) / max(1, total_then - total)


def _ticks() -> tuple[int, int]:
    fields = [int(x) for x in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
