"""Parts of one job on many machines or processes: one of them, any that is free, all merged."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cosy_sync import ConfigError, CosyClient
from cosy_sync.jobs.job import JobCounts, JobOptions
from cosy_sync.jobs.journal import Journal
from cosy_sync.jobs.lease import LEASES, Lease
from cosy_sync.jobs.locking import JobIsBusy
from cosy_sync.jobs.manifest import whole_text
from cosy_sync.jobs.run import JobResult, is_finished, journal_path, part_of, run_job
from cosy_sync.storage import Bucket, Sink, open_store

__all__ = [
    "is_shard_finished",
    "merge_manifests",
    "run_free_shards",
    "speak_shard",
    "take_shards",
]

Shard = tuple[int, int]

# Seconds between two looks at shards that others work on.
_PAUSE = 2.0
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
    to: str | os.PathLike[str] | Sink,
    client: CosyClient,
    of: int,
    options: JobOptions | None = None,
) -> Iterator[JobResult]:
    """Run every part of a job that no other process works on; wait for the others.

    On several machines with one folder or one bucket, each takes what is free. A part whose
    process dies is free at once in a folder, where a lock goes with it, and in a bucket after a
    minute, when its lease ends. Yields the result of each part that was run here; ends when every
    part has been run to its end, here or elsewhere. Raises as `run_job` does.
    """
    given = options or JobOptions()
    sink = open_store(to) if isinstance(to, (str, os.PathLike)) else to
    yield from take_shards(
        of,
        lambda shard: run_job(texts, to, client, replace(given, shard=shard)),
        lambda shard: is_shard_finished(sink, given, shard),
    )


def take_shards(
    of: int, run: Callable[[Shard], JobResult], finished: Callable[[Shard], bool]
) -> Iterator[JobResult]:
    """Run every shard that is free; come back to the others until they are free or finished.

    Shards that were finished before this began are run too: the input may have changed.
    """
    # Begin at different parts, or all processes would ask for the same one.
    start = os.getpid() % of
    shards = deque((number + 1, of) for number in (*range(start, of), *range(start)))
    before = {shard for shard in shards if finished(shard)}
    busy: set[Shard] = set()
    while shards:
        shard = shards.popleft()
        if shard not in before and finished(shard):
            continue
        try:
            yield run(shard)
        except JobIsBusy:
            before.discard(shard)
            if shard in busy:
                time.sleep(_PAUSE)
            busy.add(shard)
            shards.append(shard)


def is_shard_finished(sink: Sink, options: JobOptions, shard: Shard) -> bool:
    """Return whether the latest process that worked on a shard came to the end of it."""
    if isinstance(sink, Bucket):
        return Lease(sink, part_of(shard), "").is_done
    try:
        with closing(Journal(journal_path(sink, options.journal, shard), reading=True)) as book:
            return is_finished(book)
    except OSError:
        return False  # it is just being made


def merge_manifests(to: str | os.PathLike[str]) -> tuple[str, int]:
    """Join the manifests of all parts into `manifest.jsonl`; return where it is, and its lines.

    Raises ConfigError where a part is missing, or where there are parts of two divisions.
    """
    sink = open_store(to)
    if not isinstance(sink, Bucket):
        path, lines = _merge(Path(to))
        return str(path), lines
    with TemporaryDirectory() as folder:
        # The names of the leases say how many parts there are, without a look at each object.
        for key in sink.keys(f"{LEASES}-"):
            name = f"manifest{key.removeprefix(LEASES).removesuffix('.json')}.jsonl"
            with suppress(FileNotFoundError):
                Path(folder, name).write_bytes(sink.get(name))
        path, lines = _merge(Path(folder))
        sink.put_file(path.name, path, {"content-type": "application/jsonl"})
    return f"{sink.address}/{path.name}", lines


def _merge(folder: Path) -> tuple[Path, int]:
    found = sorted(_parts(folder))
    sizes = {of for of, _, _ in found}
    if len(sizes) != 1:
        what = "no manifest of a part" if not sizes else f"parts of {sorted(sizes)}: keep one kind"
        raise ConfigError(f"{folder}: {what}")
    missing = set(range(1, sizes.pop() + 1)) - {number for _, number, _ in found}
    if missing:
        raise ConfigError(
            f"{folder}: the manifests of {sorted(missing)} are missing; run those shards first"
        )
    path = folder / "manifest.jsonl"
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
