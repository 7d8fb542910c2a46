"""Benchmark `jobs`: a job against `synth_iter` and `save`, its memory, and its second run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.table import Table
from cosy_sync import CosyClient, Endpoint
from cosy_sync.jobs import JobCounts, JobOptions, JobText, run_job
from cosy_sync.jobs.names import key_of
from cosy_sync.storage import LocalStore

__all__ = ["main"]

# Texts after which a process has all that it needs; what it grows by from here on is a leak.
_SETTLED = 50_000
_SAMPLE_RATE = 8_000
_WAYS = ("synth_iter and save", "synth_iter and save, on the disk", "job", "job, second run")


def main(argv: Sequence[str] | None = None) -> None:
    """Run each way in a process of its own, against a server of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.way is not None:
        print(json.dumps(_run(args.way, args.url, args.folder, args.texts)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for way in _WAYS:
            place = Path(folder) / way.partition(",")[0].replace(" ", "-")
            if way == _WAYS[1]:
                place = place.with_name("durable")
            rows.append([way, *_measure(way, place, args.texts)])
    names = ["way", "wall s", "texts/s", "CPU us a text", "MB grown after the first 50 000"]
    print(Table(f"{args.texts:,} texts into a folder", names, rows).markdown())


def _measure(way: str, folder: Path, texts: int) -> list[str]:
    serve = [sys.executable, "-m", "cosy_sync", "serve", "--port", "0", "--json-ready", "--quiet"]
    serve += ["--latency", "0.05", "--rate", "0", "--max-connections", "0", "--exit-with-parent"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            command = [sys.executable, "-m", "benchmarks.jobs", "--way", way, "--url", url]
            command += ["--folder", str(folder), "--texts", str(texts)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            server.kill()
    told = json.loads(done.stdout)
    assert told["sounds"] == texts, told
    return [
        f"{told['wall']:.1f}",
        f"{texts / told['wall']:.0f}",
        f"{told['cpu'] / texts * 1e6:.0f}",
        f"{told['grown']:.1f}",
    ]


def _run(way: str, url: str, folder: Path, texts: int) -> dict[str, float]:
    memory = _Memory()
    begun, cpu = time.monotonic(), time.process_time()
    with CosyClient(Endpoint(url, rate=None), sample_rate=_SAMPLE_RATE) as client:
        if way.startswith("job"):
            run_job(_texts(texts), folder, client, JobOptions(), tell=memory.look)
        else:
            _save_all(client, LocalStore(folder, durable=way == _WAYS[1]), texts, memory)
    return {
        "wall": time.monotonic() - begun,
        "cpu": time.process_time() - cpu,
        "grown": memory.grown(),
        "sounds": sum(1 for _ in folder.glob("*/*.wav")),
    }


def _save_all(client: CosyClient, store: LocalStore, texts: int, memory: _Memory) -> None:
    ids = (text.id for text in _texts(texts))
    counts = JobCounts()
    for outcome in client.synth_iter(text.text for text in _texts(texts)):
        store.put(key_of(next(ids), "wav"), outcome.result().data)
        counts.spoken += 1
        memory.look(counts)


def _texts(count: int) -> Iterator[JobText]:
    for number in range(count):
        yield JobText(f"t{number}", f"第{number}句")


class _Memory:
    """Megabytes that the process holds, looked at every thousand texts."""

    def __init__(self) -> None:
        self._settled = 0.0
        self._most = 0.0

    def look(self, counts: JobCounts) -> None:
        if counts.spoken % 1_000:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        now = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        if counts.spoken <= _SETTLED:
            self._settled = max(self._settled, now)
        self._most = max(self._most, now)

    def grown(self) -> float:
        return self._most - self._settled


if __name__ == "__main__":
    main()
