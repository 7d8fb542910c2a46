"""Benchmark `jobs`: a job against `synth_iter` and `save`, its memory, and its second run; puts
into a bucket against obstore's own rate.

`--texts 1000000` takes some ten minutes a way on a quiet machine, and `--puts 100000` writes 12 GB;
each row is told on standard error as it comes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.puts import Memory, measure_puts
from benchmarks.table import Table
from cosy_sync import CosyClient, Endpoint
from cosy_sync.cli.heap import give_back_large_blocks
from cosy_sync.jobs import JobCounts, JobOptions, JobText, run_job
from cosy_sync.jobs.names import key_of
from cosy_sync.storage import LocalStore

__all__ = ["main"]

_SAMPLE_RATE = 8_000
# The folder of each way. What is left to the system may be lost in a power cut, not by a kill.
_WAYS = {
    "synth_iter and save": "saved",
    "job, left to the system": "left",
    "synth_iter and save, on the disk": "durable",
    "job": "job",
    "job, second run": "job",
}
_LEFT = ("synth_iter and save", "job, left to the system")


def main(argv: Sequence[str] | None = None) -> None:
    """Run each way in a process of its own, against a server of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=200_000)
    ways = list(_WAYS)
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways, help="only these rows")
    parser.add_argument("--puts", type=int, help="measure so many puts of 60 kB instead")
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.way is not None:
        print(json.dumps(_run(args.way, args.url, args.folder, args.texts)))
        return
    if args.puts is not None:
        measure_puts(args.puts)
        return
    rows: list[list[str]] = []
    first = 0.0
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for way in args.ways:
            told = _measure(way, Path(folder, _WAYS[way]), args.texts)
            first = first or told["wall"]
            rows.append(_row(way, told, args.texts, first))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    names = ["way", "wall s", "of the first", "texts/s", "CPU us a text"]
    names.append("MB grown after the first 50 000")
    print(Table(f"{args.texts:,} texts into a folder", names, rows).markdown())


def _row(way: str, told: dict[str, float], texts: int, first: float) -> list[str]:
    return [
        way,
        f"{told['wall']:.1f}",
        f"{told['wall'] / first:.2f}",
        f"{texts / told['wall']:.0f}",
        f"{told['cpu'] / texts * 1e6:.0f}",
        f"{told['grown']:.1f}",
    ]


def _measure(way: str, folder: Path, texts: int) -> dict[str, float]:
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
    told: dict[str, float] = json.loads(done.stdout)
    assert told["sounds"] == texts, told
    return told


def _run(way: str, url: str, folder: Path, texts: int) -> dict[str, float]:
    give_back_large_blocks()  # as the commands do
    memory = Memory()
    begun, cpu = time.monotonic(), time.process_time()
    with CosyClient(Endpoint(url, rate=None), sample_rate=_SAMPLE_RATE) as client:
        store = LocalStore(folder, durable=way not in _LEFT)
        if way.startswith("job"):
            run_job(
                _texts(texts),
                store if way in _LEFT else folder,
                client,
                JobOptions(),
                tell=lambda counts: memory.look(counts.spoken),
            )
        else:
            _save_all(client, store, texts, memory)
    return {
        "wall": time.monotonic() - begun,
        "cpu": time.process_time() - cpu,
        "grown": memory.grown(),
        "sounds": sum(1 for _ in folder.glob("*/*.wav")),
    }


def _save_all(client: CosyClient, store: LocalStore, texts: int, memory: Memory) -> None:
    ids = (text.id for text in _texts(texts))
    counts = JobCounts()
    for outcome in client.synth_iter(text.text for text in _texts(texts)):
        store.put(key_of(next(ids), "wav"), outcome.result().data)
        counts.spoken += 1
        memory.look(counts.spoken)


def _texts(count: int) -> Iterator[JobText]:
    for number in range(count):
        yield JobText(f"t{number}", f"第{number}句")


if __name__ == "__main__":
    main()
