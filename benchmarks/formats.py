"""Benchmark `formats`: what encoding a minute of speech costs, and how large it becomes."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from benchmarks.table import Table
from cosy_sync import Audio, CosyClient, join
from cosy_sync.joining import as_wav
from cosy_sync.testing import Server

__all__ = ["main"]

_FORMATS = ("flac", "mp3", "ogg", "opus")
_SENTENCES = (
    "春天来了，花儿开了，鸟儿在树上叫，孩子们都跑出去玩了",
    "只有老人坐在家里等着他们回来吃晚饭",
    "今天的天气真是好得不得了，我们一起出去走一走吧",
    "The quick brown fox jumps over the lazy dog, and nobody was amused",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Encode a minute of espeak-ng's speech in each format, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args(argv).runs
    minute = _speak_a_minute()
    rows = [_measure(minute, format, runs) for format in _FORMATS]
    table = Table("One minute of speech", ["format", "KB", "CPU s: median (least..most)"], rows)
    print(table.markdown())


def _measure(minute: Audio, format: str, runs: int) -> list[str]:
    seconds = []
    for _ in range(runs):
        before = time.process_time()
        made = minute.as_format(format)
        seconds.append(time.process_time() - before)
    middle = statistics.median(seconds)
    spread = f"{middle:.2f} ({min(seconds):.2f}..{max(seconds):.2f})"
    return [format, f"{len(made.data) / 1000:.0f}", spread]


def _speak_a_minute() -> Audio:
    texts = [f"{text} {number}." for number in range(6) for text in _SENTENCES]
    with Server(latency=0, engine="espeak") as server, CosyClient(server.url) as client:
        spoken = join(client.synth_many(texts))
    size = 60 * 2 * spoken.channels * spoken.sample_rate
    return as_wav([(spoken.pcm() * 3)[:size]], spoken.sample_rate, spoken.channels)


if __name__ == "__main__":
    main()
