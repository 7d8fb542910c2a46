"""Benchmark `narration`: a book chapter through `narrate`, against `synth_many` of its pieces.

Each file has its counterpart: what a program without `narrate` does to have the same one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.table import Table
from cosy_sync import CosyClient, Endpoint, join
from cosy_sync.config import NarrationConfig
from cosy_sync.text import plan_narration

__all__ = ["main"]

_SENTENCE = "春天来了，花儿开了，孩子们都跑出去玩了{}。"
_PARAGRAPH = 8
# Seconds, and CPU seconds of this process.
_Spent = tuple[float, float]


def main(argv: Sequence[str] | None = None) -> None:
    """Speak a chapter in each way in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--encoded", type=int, default=10_000, help="characters as MP3: it takes")
    options = parser.parse_args(argv)
    rows: list[list[str]] = []
    with _serve() as url, CosyClient(Endpoint(url, rate=None)) as client:
        rows += _measure(client, _chapter(options.characters), options.runs, "wav")
        rows += _measure(client, _chapter(options.encoded), options.runs, "mp3")
    head = ["characters", "how", "seconds: median", "CPU s: median", "seconds, to the first"]
    print(Table("A chapter, 64 texts a request", head, rows).markdown())


@contextlib.contextmanager
def _serve() -> Iterator[str]:
    """Run the embedded server, without its limits, in a process of its own."""
    command = [sys.executable, "-m", "cosy_sync", "serve", "--port", "0", "--json-ready"]
    command += ["--latency", "0", "--rate", "0", "--max-connections", "0", "--exit-with-parent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()


def _chapter(characters: int) -> str:
    text = paragraph = ""
    for number in range(characters):
        paragraph += _SENTENCE.format(number)
        if number % _PARAGRAPH == _PARAGRAPH - 1:
            text, paragraph = f"{text}{paragraph}\n\n", ""
        if len(text) + len(paragraph) >= characters:
            break
    return text + paragraph


def _ways(
    client: CosyClient, text: str, ending: str, path: Path
) -> dict[str, Callable[[], object]]:
    """Return the ways to speak a chapter: without a file, or into the same one."""
    pieces = plan_narration(text, NarrationConfig(), 2000).finish().texts

    def write_pieces() -> None:
        with path.open("wb") as file:
            for outcome in client.synth_iter(pieces):
                file.write(outcome.result().data)

    narrate = {f"narrate(to=.{ending})": lambda: client.narrate(text, to=path)}
    if ending == "wav":
        return {
            "synth_many": lambda: client.synth_many(pieces),
            "narrate": lambda: client.narrate(text),
            "synth_iter into a file": write_pieces,
            **narrate,
        }
    return {
        f"synth_many, join, save .{ending}": lambda: join(client.synth_many(pieces)).save(path),
        **narrate,
    }


def _measure(client: CosyClient, text: str, runs: int, ending: str) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"chapter.{ending}"
        ways = _ways(client, text, ending, path)
        taken: dict[str, list[_Spent]] = {how: [] for how in ways}
        for run in range(runs + 1):
            for how, speak in ways.items():
                path.unlink(missing_ok=True)
                began, cpu = time.perf_counter(), time.process_time()
                speak()
                if run:  # the first one opens connections
                    spent = time.perf_counter() - began, time.process_time() - cpu
                    taken[how].append(spent)
    usual = [seconds for seconds, _ in next(iter(taken.values()))]
    return [
        [
            f"{len(text):,}",
            how,
            f"{statistics.median(seconds for seconds, _ in spent):.2f}",
            f"{statistics.median(cpu for _, cpu in spent):.2f}",
            f"{statistics.median(a / b for (a, _), b in zip(spent, usual, strict=True)):.2f}",
        ]
        for how, spent in taken.items()
    ]


if __name__ == "__main__":
    main()
