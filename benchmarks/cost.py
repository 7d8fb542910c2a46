"""Benchmark `cost`: what one text costs in calls, locks and clock readings.

Counts do not depend on the machine, so they show a change that its noise would hide.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import prometheus_client

from benchmarks.machine import describe_machine
from benchmarks.stage import parse_options, write_result
from benchmarks.table import Table
from benchmarks.upstream.limited import serve_limited
from cosy_sync import CosyClient, Endpoint, Event, PoolConfig
from cosy_sync.instrumentation import OpenTelemetryObserver, PrometheusObserver

__all__ = ["dearer", "main"]

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
_ALONE = "`synth` on a thread of its own, one text a call"
_BATCHED = f"`synth_many`, batches of {_BATCH}, all threads together"
_ALONE_WATCHED = "Prometheus and OpenTelemetry beside `synth`"
_BATCHED_WATCHED = f"Prometheus and OpenTelemetry beside `synth_many`, batches of {_BATCH}"
# Microseconds that both observers may add to a text, and how often that is measured.
_OBSERVERS_MOST, _REPLAYS = 5.0, 20
_LOCKS = frozenset(["lock", "RLock"])
_CLOCKS = frozenset(["monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns"])
_COUNTED = ("Python calls", "C calls", "lock acquisitions", "clock readings")
# The interpreter's own calls differ from one Python to the next; CI checks on this one.
_PYTHON = (3, 11)
_BASELINE = Path(__file__).resolve().parent / "cost_baseline.json"
# What a count may be above the committed one: a tenth, and what threads' waits make of a small one.
_SLACK, _WAITS = 0.10, 0.1
# What else runs on the machine only adds (an alarm, a wait), so the least of some runs is told.
_CHECKED = 3
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


class _Tape:
    """An observer that keeps what it is told, to be told to others."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)


class _Watched:
    """What both observers do with the events of some texts, again and again."""

    def __init__(self, url: str, texts: int, *, alone: bool) -> None:
        tape, self._texts = _Tape(), texts
        sentences = [f"请第{number}号车辆注意" for number in range(texts)]
        endpoint = Endpoint(url, max_connections=8, rate=100_000)
        with CosyClient(endpoint, batch_size=_BATCH, observers=[tape]) as client:
            if alone:
                for sentence in sentences:
                    client.synth(sentence)
            else:
                client.synth_many(sentences)
        registry = prometheus_client.CollectorRegistry()
        both = (PrometheusObserver(registry), OpenTelemetryObserver())
        # As a client tells them: each names what takes a class of events.
        found = [(each.taker(type(event)), event) for event in tape.events for each in both]
        self._steps = [(take, event) for take, event in found if take is not None]

    def counts(self) -> _Counts:
        """Count the calls of all texts."""
        counts = _Counts()
        sys.setprofile(counts.see)
        self._tell()
        sys.setprofile(None)
        return counts

    def microseconds(self) -> float:
        """Return what a text takes at best: what else runs on the machine only adds."""
        taken = []
        for _ in range(_REPLAYS):
            begun = time.process_time()
            self._tell()
            taken.append(time.process_time() - begun)
        return min(taken) / self._texts * 1e6

    def _tell(self) -> None:
        for take, event in self._steps:
            take(event)


def _measure(texts: int) -> dict[str, _Counts]:
    """Count a `synth` on a thread of its own, and `synth_many`; and what observers add to each."""
    with serve_limited(*_SERVER, *_JSON) as url:
        watched = {
            _ALONE_WATCHED: _Watched(url, texts, alone=True).counts(),
            _BATCHED_WATCHED: _Watched(url, texts, alone=False).counts(),
        }
        endpoint = Endpoint(url, max_connections=8, rate=100_000)
        with CosyClient(endpoint, pool=PoolConfig(max_connections=8)) as client:
            alone = _one_by_one(client, texts)
        # Its workers begin under the profiler, so the client must be new.
        with CosyClient(endpoint, batch_size=_BATCH) as client:
            sentences = [f"请第{number}号车辆注意" for number in range(texts)]
            first = [f"请热身第{number}次" for number in range(200)]  # until the voice is known
            batched = _count(lambda: client.synth_many(first), lambda: client.synth_many(sentences))
    return {_ALONE: alone, _BATCHED: batched, **watched}


def _least(texts: int) -> dict[str, dict[str, float]]:
    runs = [_measure(texts) for _ in range(_CHECKED)]
    return {
        case: {name: min(run[case][name] for run in runs) / texts for name in _COUNTED}
        for case in runs[0]
    }


def dearer(
    now: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Say which counts a text are more than a tenth above those of before."""
    return [
        f"{case}: {name} {now[case][name]:.2f} a text, {counts[name]:.2f} before"
        for case, counts in before.items()
        for name in counts
        if now[case][name] > counts[name] + max(counts[name] * _SLACK, _WAITS)
    ]


def _check(texts: int, *, write: bool) -> None:
    if sys.version_info[:2] != _PYTHON:
        print("not checked: the baseline is of another Python")
        return
    now = _least(texts)
    for case, counts in now.items():
        print(f"{case}: " + ", ".join(f"{counts[name]:.2f} {name}" for name in _COUNTED))
    if write:
        rounded = {
            case: {name: round(count, 3) for name, count in counts.items()}
            for case, counts in now.items()
        }
        _BASELINE.write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", "utf-8")
        return
    found = dearer(now, json.loads(_BASELINE.read_text("utf-8")))
    if found:
        told = "\n".join(found)
        raise SystemExit(
            f"a text has become dearer:\n{told}\nwhere that is worth it: --write-baseline"
        )


def _rows(counts: _Counts, texts: int, bounds: dict[str, int]) -> list[list[str]]:
    return [[name, f"{counts[name] / texts:.1f}", str(bounds.get(name, ""))] for name in _COUNTED]


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the tables, write the JSON; or compare with the committed counts."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write-baseline", action="store_true")
    guard, rest = parser.parse_known_args(argv)
    options = parse_options(_TITLE, rest, seconds=0.0, texts=640)
    if guard.check or guard.write_baseline:
        _check(options.texts, write=guard.write_baseline)
        return
    columns = ["count per text", "is", "at most"]
    tables, data = [], {}
    measured = _measure(options.texts)
    with serve_limited(*_SERVER, *_JSON) as url:
        added = {
            name: _Watched(url, options.texts, alone=name == _ALONE_WATCHED).microseconds()
            for name in (_ALONE_WATCHED, _BATCHED_WATCHED)
        }
    for name, counts in measured.items():
        rows = _rows(counts, options.texts, _BOUNDS if name == _ALONE else {})
        if name in added:
            rows.append(["microseconds", f"{added[name]:.2f}", f"{_OBSERVERS_MOST:g}"])
        table = Table(name, columns, rows)
        print(table.markdown(), end="\n\n")
        tables.append(table)
        most = counts.functions.most_common(60)
        data[name] = {"counts": dict(counts), "texts": options.texts, "functions": most}
        if name in added:
            data[name]["microseconds"] = added[name]
    result = {"upstream": "the embedded server", "machine": describe_machine(), "counts": data}
    write_result("cost", _TITLE, result, tables)


if __name__ == "__main__":
    main()
