"""Benchmark `cache`: 200 threads ask for texts of which 35 % come again, with a cache and not."""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table, number
from benchmarks.upstream.limited import serve_limited, stats_of
from cosy_sync import BatchConfig, CoalesceConfig, CosyClient, Endpoint, OverloadConfig

__all__ = ["main"]

_TITLE = "200 threads, 10 000 texts by Zipf's law, a hit rate of 35 %: with a cache or without"
_THREADS = 200
_TEXTS = 10_000
_HITS = 0.35
_EXPONENT = 0.9
_SERVER = ("--max-connections", "0", "--rate", "0", "--latency", "0.05", "--audio-bytes", "32000")
_COLUMNS = ("cache", "requests", "texts sent", "less by", "hits", "asked again, answered")
_TIMES = ("hit p50 ms", "hit p99 ms", "hit alone p50 ms", "bytes saved")


def _draws(catalogue: int, seed: int = 35) -> list[str]:
    weights = [1 / (rank + 1) ** _EXPONENT for rank in range(catalogue)]
    numbers = random.Random(seed).choices(range(catalogue), weights, k=_TEXTS)
    return [f"前方第{n}个路口请左转，然后直行" for n in numbers]


def _workload() -> list[str]:
    """Return texts of which as many come again as the hit rate says."""
    low, high = 1_000, 400_000
    while high - low > 50:
        middle = (low + high) // 2
        again = 1 - len(set(_draws(middle))) / _TEXTS
        low, high = (middle, high) if again > _HITS else (low, middle)
    return _draws(high)


@dataclass
class _Run:
    requests: int
    sent: int
    hits: int
    saved: int
    times: list[float]
    alone: list[float]


@contextmanager
def _store(kind: str) -> Iterator[Any]:
    if kind != "folder":
        yield None if kind == "none" else kind
        return
    with tempfile.TemporaryDirectory() as path:
        yield path


def _measure(url: str, kind: str, texts: Sequence[str], *, shared: bool) -> _Run:
    before, times, following = stats_of(url), list[float](), iter(texts)

    def work() -> None:
        while (text := next(following, None)) is not None:
            began = time.perf_counter()
            if client.synth(text).from_cache:
                times.append(time.perf_counter() - began)

    with (
        _store(kind) as cache,
        CosyClient(
            Endpoint(url, max_connections=_THREADS, rate=None),
            cache=cache,
            batch=BatchConfig(max_texts=64 if shared else 1),
            # Without a cache each text counts, or those in flight at the same time would not.
            coalesce=CoalesceConfig(single_flight=cache is not None),
            overload=OverloadConfig(start=_THREADS),
        ) as client,
    ):
        threads = [threading.Thread(target=work) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats, after = client.stats(), stats_of(url)
        alone = list(_alone(client, texts[-1])) if cache is not None else []
    requests, sent = (after[name] - before[name] for name in ("requests", "texts"))
    return _Run(requests, sent, stats.cache_hits, stats.cache_bytes, sorted(times), sorted(alone))


def _alone(client: CosyClient, text: str) -> Iterator[float]:
    for _ in range(2_000):
        began = time.perf_counter()
        assert client.synth(text).from_cache
        yield time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    """Speak the workload once for each kind of cache, print the table, write the JSON."""
    parse_options(_TITLE, argv, seconds=0.0, texts=_TEXTS, runs=1)
    machine, texts = describe_machine(), _workload()
    again = 1 - len(set(texts)) / len(texts)
    rows, runs = [], {}
    with serve_limited(*_SERVER) as url:
        for shared, kind in itertools.product((False, True), ("none", "memory", "folder")):
            run = _measure(url, kind, texts, shared=shared)
            name = f"{kind}, requests {'shared' if shared else 'of one text'}"
            base = runs.get(name.replace(kind, "none"), run)
            runs[name] = run
            rows.append(_row(name, run, base, again))
    table = Table(_TITLE, [*_COLUMNS, *_TIMES], rows)
    print(table.markdown(), end="\n\n")
    shown = {name: {**vars(run), "times": len(run.times)} for name, run in runs.items()}
    result = {"upstream": "the embedded server", "again": again, "runs": shown}
    for each in shown.values():
        del each["alone"]
    write_result("cache", _TITLE, {**result, "machine": machine}, [table])


def _row(name: str, run: _Run, base: _Run, again: float) -> list[str]:
    return [
        name,
        str(run.requests),
        str(run.sent),
        f"{100 * (1 - run.sent / base.sent):.1f} %",
        str(run.hits),
        f"{100 * again:.1f} %, {100 * run.hits / _TEXTS:.1f} %",
        *(_quantile(run.times, share) for share in (0.5, 0.99)),
        _quantile(run.alone, 0.5),
        f"{run.saved / 1e6:.0f} MB" if run.saved else "-",
    ]


def _quantile(times: Sequence[float], share: float) -> str:
    return number(1e3 * times[int(share * (len(times) - 1))]) if times else "-"


if __name__ == "__main__":
    main()
