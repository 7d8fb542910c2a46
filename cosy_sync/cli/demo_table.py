"""A demo's results, written as the table for the terminal and as the page."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cosy_sync import __version__
from cosy_sync.cli.report import Row, Summary, render
from cosy_sync.cli.report.figures import count, duration, number, quantile, ratio, speech

if TYPE_CHECKING:
    from cosy_sync.cli.demo_results import Results

__all__ = ["page_of", "rows_of", "summary_of", "table_of"]


def page_of(results: Results) -> str:
    """Build the page."""
    return render(rows_of(results), summary_of(results))


def table_of(results: Results, page: Path) -> str:
    """Write the figures in two columns, for people."""
    summary = summary_of(results)
    files = sum(entry.file is not None for entry in results.entries)
    checked = "all checked" if not results.problems else "NOT all good, see below"
    lines = [
        ("texts", f"{count(summary.texts - summary.failed)} of {count(summary.texts)} spoken"),
        ("speech", speech(summary.speech_seconds)),
        ("wall time", f"{duration(summary.wall_seconds)}, from the first call to the last reply"),
        ("throughput", f"{number(summary.texts_per_second)} texts/s"),
        *_compared(summary),
        ("latency of a call", f"p50 {duration(summary.p50)}, p99 {duration(summary.p99)}"),
        ("requests sent", f"{count(summary.requests)}, {count(summary.retries)} of them retries"),
        ("peak connections", f"{count(summary.connections_peak)}, as the server counted"),
        ("peak rate", f"{summary.peak_requests_per_second:g} requests/s, as the server counted"),
        ("429 replies", count(summary.throttled)),
        ("files written", f"{count(files)}, {checked}"),
        ("engine", summary.engine),
        ("listen", page.resolve().as_uri()),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(["", *(f"  {name:<{width}}  {figure}" for name, figure in lines), ""])


def _compared(summary: Summary) -> list[tuple[str, str]]:
    if not summary.serial_count:
        return []
    serial = f"{number(summary.serial_texts_per_second)} texts/s, {summary.serial_count} texts"
    return [("one by one", serial), ("speed-up", ratio(summary.speedup))]


def summary_of(results: Results) -> Summary:
    """Add up the run."""
    latencies = sorted(e.latency for e in results.entries if e.latency is not None)
    spoken = sum(entry.error is None for entry in results.entries)
    seconds = sum(entry.seconds or 0.0 for entry in results.entries)
    rate = spoken / results.wall_seconds if results.wall_seconds else 0.0
    serial = results.serial_count / results.serial_seconds if results.serial_seconds else 0.0
    client, server = results.client, results.server
    return Summary(
        texts=len(results.entries),
        failed=len(results.entries) - spoken,
        speech_seconds=seconds,
        wall_seconds=results.wall_seconds,
        texts_per_second=rate,
        p50=quantile(latencies, 0.5),
        p99=quantile(latencies, 0.99),
        requests=client.requests if client else 0,
        retries=client.retries if client else 0,
        throttled=server["throttled"],
        connections_peak=server["connections_peak"],
        peak_requests_per_second=server["peak_requests_per_second"],
        serial_texts_per_second=serial,
        serial_count=results.serial_count,
        speedup=rate / serial if serial else 0.0,
        real_time_factor=results.wall_seconds / seconds if seconds else 0.0,
        engine=results.engine,
        endpoint=results.url,
        version=__version__,
        created=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
    )


def rows_of(results: Results) -> list[Row]:
    """Make the page's rows. Calls are numbered in the order in which they were sent."""
    timings = {o.timing.request_id: o.timing for o in results.outcomes if o.timing}
    ordered = sorted(timings.values(), key=lambda timing: timing.started)
    numbers = {timing.request_id: number for number, timing in enumerate(ordered, 1)}
    rows = []
    for outcome, entry in zip(results.outcomes, results.entries, strict=True):
        timing = outcome.timing
        rows.append(
            Row(
                index=entry.index,
                text=entry.text,
                category=entry.category,
                file=entry.file,
                seconds=entry.seconds,
                started=timing.started - results.started if timing else 0.0,
                latency=timing.total if timing else 0.0,
                # Whose call failed has no timing: all of them share one that took no time.
                batch=numbers[timing.request_id] if timing else 0,
                error=entry.error,
                bytes=entry.bytes,
            )
        )
    return rows
