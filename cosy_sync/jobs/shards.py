"""Parts of one job on many machines or processes: one of them, any that is free, all merged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cosy_sync import ConfigError, CosyClient
from cosy_sync.jobs.job import JobCounts, JobOptions
from cosy_sync.jobs.journal import JobIsBusy
from cosy_sync.jobs.manifest import whole_text
from cosy_sync.jobs.run import JobResult, run_job

__all__ = ["merge_manifests", "run_free_shards", "speak_shard"]

_PART = re.compile(r"manifest-(\d+)-of-(\d+)\.jsonl")


def speak_shard(
    texts: str | os.PathLike[str] | list[str],
    to: str,
    shard: tuple[int, int],
    settings: Mapping[str, Any],
    options: JobOptions | None = None,
) -> JobCounts:
    """Speak one part of a job, with a client of its own: for Celery, Dask, Ray, multiprocessing.

    Everything that goes in and comes out can be pickled. Raises as `run_job` does.

    Args:
        shard: (3, 16) is the third of sixteen.
        settings: of the client, such as {"url": ..., "voice": "中文女"}.
    """
    given = replace(options or JobOptions(), shard=shard)
    with CosyClient(**settings) as client:
        return run_job(texts, to, client, given).counts


def run_free_shards(
    texts: str | os.PathLike[str] | list[str],
    to: str | os.PathLike[str],
    client: CosyClient,
    of: int,
    options: JobOptions | None = None,
) -> Iterator[JobResult]:
    """Run every part of a job that no other process works on, one after the other.

    On several machines with one folder, each takes what is free, and what a dead one has left: its
    lock has gone with it. Yields the result of each part that was run here; ends when all parts
    are done or in other hands. Raises as `run_job` does.
    """
    # Begin at different parts, or all processes would ask for the same one.
    start = os.getpid() % of
    for number in (*range(start, of), *range(start)):
        given = replace(options or JobOptions(), shard=(number + 1, of))
        try:
            yield run_job(texts, to, client, given)
        except JobIsBusy:
            continue


def merge_manifests(folder: str | os.PathLike[str]) -> tuple[Path, int]:
    """Join the manifests of all parts into `manifest.jsonl`; return its path and its lines.

    Raises ConfigError where a part is missing, or where there are parts of two divisions.
    """
    found = sorted(_parts(Path(folder)))
    sizes = {of for of, _, _ in found}
    if len(sizes) != 1:
        what = "no manifest of a part" if not sizes else f"parts of {sorted(sizes)}: keep one kind"
        raise ConfigError(f"{folder}: {what}")
    missing = set(range(1, sizes.pop() + 1)) - {number for _, number, _ in found}
    if missing:
        raise ConfigError(
            f"{folder}: the manifests of {sorted(missing)} are missing; run those shards first"
        )
    path = Path(folder) / "manifest.jsonl"
    lines = 0
    with whole_text(path) as file:
        for _, _, part in found:
            with open(part, encoding="utf-8") as rows:
                for row in rows:
                    file.write(row)
                    lines += 1
    return path, lines


def _parts(folder: Path) -> Iterable[tuple[int, int, Path]]:
    for path in folder.glob("manifest-*-of-*.jsonl"):
        if match := _PART.fullmatch(path.name):
            yield int(match[2]), int(match[1]), path
