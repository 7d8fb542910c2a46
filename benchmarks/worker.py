"""One measurement in a process of its own: `python -m benchmarks.worker CASE PEER --json TASK`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys

from benchmarks.machine import cores
from benchmarks.meter import Meter
from benchmarks.task import Task

__all__ = ["main"]

_DESCRIPTORS = 8192


def main() -> None:
    """Pin this process, unless free; let the peer do the task, print the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.worker", description=__doc__)
    parser.add_argument("case", help="the function that the peer's module has for it")
    parser.add_argument("peer", help="a module of benchmarks.peers")
    parser.add_argument("--json", default="{}", help="the fields of Task")
    args = parser.parse_args()
    fields = json.loads(args.json)
    task = Task(**{**fields, "urls": tuple(fields.get("urls", ()))})
    if not task.free:
        os.sched_setaffinity(0, {cores().client})
    _allow_descriptors()
    meter = Meter(task.warm, task.seconds)
    getattr(importlib.import_module(f"benchmarks.peers.{args.peer}"), args.case)(task, meter)
    print(json.dumps(meter.report()))
    sys.stdout.flush()
    # Calls may still be under way, and some clients take long to give up on them.
    os._exit(0)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
