"""Benchmark `narration`: a book chapter through `narrate`, against `synth_many` of its pieces."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.table import Table
from cosy_sync import CosyClient
from cosy_sync.config import NarrationConfig
from cosy_sync.testing import Server
from cosy_sync.text import plan_narration

__all__ = ["main"]

_SENTENCE = "春天来了，花儿开了，孩子们都跑出去玩了{}。"
_PARAGRAPH = 8


def main(argv: Sequence[str] | None = None) -> None:
    """Speak a chapter both ways in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--sentences", type=int, nargs="+", default=[1000, 4000])
    options = parser.parse_args(argv)
    rows: list[list[str]] = []
    with Server(latency=0, rate=0, max_connections=0) as server, CosyClient(server.url) as client:
        for count in options.sentences:
            rows += _measure(client, _chapter(count), options.runs)
    head = ["characters", "how", "seconds: median", "CPU s: median", "seconds, to synth_many"]
    print(Table("A chapter, 64 texts a request", head, rows).markdown())


def _chapter(sentences: int) -> str:
    said = [_SENTENCE.format(number) for number in range(sentences)]
    starts = range(0, sentences, _PARAGRAPH)
    return "\n\n".join("".join(said[start : start + _PARAGRAPH]) for start in starts)


def _measure(client: CosyClient, text: str, runs: int) -> list[list[str]]:
    pieces = plan_narration(text, NarrationConfig(), 2000).finish().texts
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chapter.wav"

        def write_pieces() -> None:
            with path.open("wb") as file:
                for outcome in client.synth_iter(pieces):
                    file.write(outcome.result().data)

        ways: dict[str, Callable[[], object]] = {
            "synth_many": lambda: client.synth_many(pieces),
            "synth_iter into a file": write_pieces,
            "narrate(to=)": lambda: client.narrate(text, to=path),
        }
        taken: dict[str, list[tuple[float, float]]] = {how: [] for how in ways}
        for run in range(runs + 1):
            for how, speak in ways.items():
                path.unlink(missing_ok=True)
                began, cpu = time.perf_counter(), time.process_time()
                speak()
                if run:  # the first one opens connections
                    spent = time.perf_counter() - began, time.process_time() - cpu
                    taken[how].append(spent)
    usual = [seconds for seconds, _ in taken["synth_many"]]
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
