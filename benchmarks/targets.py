"""The targets, and whether the results meet them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from benchmarks import dashscope_ws, job, paced, single, streaming, texts, transport, wires
from benchmarks.stage import RESULTS
from benchmarks.table import Table
from benchmarks.target import Results, Target, Values, judged, own, ratios, runs_of, share_of

__all__ = ["judge"]

_OURS, _AIOHTTP = transport.OURS, transport.BASELINE


def _single(in_flight: int, theirs: str, name: str) -> Callable[[Results], Values]:
    """Compare synth_many, the face made for it, with a peer."""
    return ratios("single", f"single-{in_flight}", single.OURS, theirs, name)


def _texts(size: str, ours: str) -> Callable[[Results], Values]:
    return ratios("texts", f"audio-{size}", ours, texts.BASELINE, "cpu_us")


def _transport(connections: int, theirs: str, name: str) -> Callable[[Results], Values]:
    return ratios("transport", f"small-{connections}", _OURS, theirs, name)


def _paced_share(results: Results) -> Values:
    return [
        100 * run["rate"] / paced.WANTED
        for run in runs_of(results, "paced", "paced")[paced.OURS]
        if "rate" in run
    ]


def _paced_added(results: Results) -> Values:
    return [
        run["p99_ms"] - 1000 * paced.LATENCY
        for run in runs_of(results, "paced", "paced")[paced.OURS]
        if "p99_ms" in run
    ]


_HTTPX = "httpx + threads"

_TARGETS: Sequence[Target] = (
    Target(
        "transport, 800 connections: rate",
        least=1.1,
        beyond=1.4,
        values=_transport(800, _AIOHTTP, "rate"),
        share=share_of("transport", "small-800", _OURS),
    ),
    Target(
        "transport, 800 connections, 40 ms latency: rate",
        least=1.1,
        beyond=1.4,
        values=ratios("transport", "hurried-800", _OURS, _AIOHTTP, "rate"),
    ),
    Target(
        "transport, 200 connections: CPU", 1.1, 0.8, _transport(200, _AIOHTTP, "cpu_us"), "x", False
    ),
    *(
        Target(
            f"whole client, {count} in flight: rate",
            least=1.0,
            beyond=beyond,
            values=_single(count, single.BASELINE, "rate"),
            share=share_of("single", f"single-{count}", single.OURS),
        )
        for count, beyond in ((200, 1.1), (800, 1.2))
    ),
    Target(
        "whole client, 200 in flight: p99",
        least=1.0,
        beyond=0.8,
        values=_single(200, single.BASELINE, "p99_ms"),
        unit="x",
        more_is_better=False,
    ),
    Target(
        "whole client, 800 in flight: p99",
        least=1.0,
        beyond=0.8,
        values=_single(800, single.BASELINE, "p99_ms"),
        unit="x",
        more_is_better=False,
    ),
    Target("texts, multipart, 16 KB: CPU", 0.5, 0.3, _texts("16k", texts.MULTIPART), "x", False),
    Target("texts, multipart, 190 KB: CPU", 0.5, 0.3, _texts("190k", texts.MULTIPART), "x", False),
    Target("texts, JSON, 16 KB: CPU", 0.9, 0.5, _texts("16k", texts.JSON), "x", False),
    Target("texts, JSON, 190 KB: CPU", 0.9, 0.5, _texts("190k", texts.JSON), "x", False),
    Target("paced: share of 1 600/s", 99, 99, _paced_share, "%"),
    Target("paced: p99 added by the client", 20, 20, _paced_added, "ms", False),
    Target("transport against httpx + threads, 800", 15, 30, _transport(800, _HTTPX, "rate")),
    Target("whole client against httpx + threads, 800", 15, 30, _single(800, _HTTPX, "rate")),
    Target("policies: CPU per call", 60, 30, own("policies", "policies_call_us"), "us", False),
    Target(
        "policies: CPU per call on the main thread",
        least=60,
        beyond=30,
        values=own("policies", "policies_main_call_us"),
        unit="us",
        more_is_better=False,
    ),
    Target(
        "policies: CPU per text of a batch",
        least=15,
        beyond=8,
        values=own("policies", "policies_text_threads_us"),
        unit="us",
        more_is_better=False,
    ),
    Target("million: memory growth after 50 000", 5, 0, own("million", "growth_mb"), "MB", False),
    *single.TARGETS,
    *job.TARGETS,
    *wires.TARGETS,
    *dashscope_ws.TARGETS,
    *streaming.TARGETS,
)


def judge() -> Table:
    """Compare what lies in results/ with the targets."""
    results = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))
    }
    return judged(
        "Targets; ratios are ours to the aiohttp peer unless they say else", _TARGETS, results
    )
