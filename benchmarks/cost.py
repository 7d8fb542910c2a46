"""Benchmark `cost`: what one text costs in calls, locks and clock readings.

Counts do not depend on the machine, so they show a change that its noise would hide.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table
from benchmarks.upstream.limited import serve_limited
from cosy_sync import CosyClient, Endpoint, PoolConfig

__all__ = ["main"]

_TITLE = "What one text costs: counts, with all policies on"
_SERVER = (
    "--audio-bytes",
    "16000",
    "--max-connections",
    "0",
    "--rate",
    "0",
    "--latency",
    "0",
    "--gzip",
    "never",
)
_JSON = ("--reply-form", "results")
_BATCH = 64
_LOCKS = frozenset(["lock", "RLock"])
_CLOCKS = frozenset(["monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns"])
# Name of a count, and the most that one `synth` on a thread of its own may have.
_BOUNDS = {"Python calls": 100, "lock acquisitions": 8, "clock readings": 8}


class _Counts(Counter[str]):
    """A profiler for the interpreter: counts calls by what they are, and functions by name."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: Counter[str] = Counter()

    def see(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            self["Python calls"] += 1
            code = frame.f_code
            self.functions[f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_name}"] += 1
        elif event == "c_call":
            self["C calls"] += 1
            owner = type(getattr(called, "__self__", None)).__name__
            if owner in _LOCKS and called.__name__ in ("__exit__", "acquire"):
                self["lock acquisitions"] += 1
            elif called.__name__ in _CLOCKS and called.__module__ == "time":
                self["clock readings"] += 1


def _count(before: Callable[[], object], work: Callable[[], object]) -> _Counts:
    """Count what the work does on a thread of its own, and on those that `before` has started."""
    counts, begun = _Counts(), _Counts()

    def both() -> None:
        before()
        begun.update(counts)
        begun.functions.update(counts.functions)
        work()

    threading.setprofile(counts.see)
    try:
        thread = threading.Thread(target=both)
        thread.start()
        thread.join()
    finally:
        threading.setprofile(None)
    counts.subtract(begun)
    counts.functions.subtract(begun.functions)
    return counts


def _one_by_one(client: CosyClient, texts: int) -> _Counts:
    counts = _Counts()

    def work() -> None:
        for number in range(200):  # connections, caches, slow start, until the voice is known
            client.synth(f"请热身第{number}次")
        sys.setprofile(counts.see)
        for number in range(texts):
            client.synth(f"请第{number}号车辆注意")
        sys.setprofile(None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return counts


def _rows(counts: _Counts, texts: int, bounds: dict[str, int]) -> list[list[str]]:
    return [
        [name, f"{counts[name] / texts:.1f}", str(bounds.get(name, ""))]
        for name in ("Python calls", "C calls", "lock acquisitions", "clock readings")
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the tables, write the JSON."""
    options = parse_options(_TITLE, argv, seconds=0.0, texts=640)
    columns = ["count per text", "is", "at most"]
    tables, data = [], {}
    with serve_limited(*_SERVER, *_JSON) as url:
        endpoint = Endpoint(url, max_connections=8, rate=100_000)
        with CosyClient(endpoint, pool=PoolConfig(max_connections=8)) as client:
            alone = _one_by_one(client, options.texts)
        # Its workers begin under the profiler, so the client must be new.
        with CosyClient(endpoint, batch_size=_BATCH) as client:
            sentences = [f"请第{number}号车辆注意" for number in range(options.texts)]
            first = [f"请热身第{number}次" for number in range(200)]  # until the voice is known
            batched = _count(lambda: client.synth_many(first), lambda: client.synth_many(sentences))
    for name, counts, bounds in (
        ("`synth` on a thread of its own, one text a call", alone, _BOUNDS),
        (f"`synth_many`, batches of {_BATCH}, all threads together", batched, {}),
    ):
        table = Table(name, columns, _rows(counts, options.texts, bounds))
        print(table.markdown(), end="\n\n")
        tables.append(table)
        most = counts.functions.most_common(60)
        data[name] = {"counts": dict(counts), "texts": options.texts, "functions": most}
    result = {"upstream": "the embedded server", "machine": describe_machine(), "counts": data}
    write_result("cost", _TITLE, result, tables)


if __name__ == "__main__":
    main()
