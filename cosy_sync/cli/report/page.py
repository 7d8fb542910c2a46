"""The page itself: figures, pictures and data put into the template, everything escaped."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from cosy_sync.cli.report import charts
from cosy_sync.cli.report.charts import Span
from cosy_sync.cli.report.figures import count, duration, number, ratio, speech
from cosy_sync.cli.report.run import Row, Summary

__all__ = ["figure", "part", "render", "tile"]

CATEGORY_NAMES = {
    "navigation": "导航提示",
    "announcement": "公共广播",
    "advert": "广告",
    "service": "客服",
}


def render(rows: Sequence[Row], summary: Summary) -> str:
    """Build the whole page: one HTML text that loads nothing but the WAV files beside it."""
    spans = _spans(rows)
    page = Template(part("page.html")).substitute(
        css=part("base.css") + part("page.css"),
        js=part("page.js"),
        data=_data(rows),
        headline=escape(_headline(summary)),
        lead=_lead(summary),
        tiles=_tiles(summary),
        charts=_charts(rows, spans, summary),
        facts=_facts(summary),
    )
    # A lone surrogate has no UTF-8 form; the page must be writable all the same.
    return page.encode("utf-8", "replace").decode("utf-8")


def part(name: str) -> str:
    """Return a file that pages are made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _data(rows: Sequence[Row]) -> str:
    """Write the rows as JSON that cannot end its script element, whatever the texts say."""
    content = {"names": CATEGORY_NAMES, "rows": [_cells(row) for row in rows]}
    packed = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        packed = packed.replace(char, f"\\u{ord(char):04x}")
    return packed


def _cells(row: Row) -> list[object]:
    """List what the table shows of a row, in the order that page.js reads."""
    return [
        row.index,
        row.text,
        row.category,
        None if row.file is None else _address(row.file),
        _rounded(row.seconds),
        _rounded(row.latency),
        row.batch,
        row.error,
        row.bytes,
    ]


def _address(path: str) -> str:
    """Turn a relative path into an address that stays below the page, whatever it contains."""
    return "./" + quote(path, safe="/", errors="replace")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _headline(summary: Summary) -> str:
    wall = duration(summary.wall_seconds)
    if not summary.texts:
        return "No sentences in this run"
    noun = "sentence" if summary.texts == 1 else "sentences"
    spoken = count(max(0, summary.texts - summary.failed))
    some = f"{spoken} of " if summary.failed else ""
    return f"{some}{count(summary.texts)} {noun}, spoken in {wall}"


def _lead(summary: Summary) -> str:
    words = f"{speech(summary.speech_seconds)} of speech"
    if summary.speedup > 0:
        words += f", {ratio(summary.speedup)} as fast as one text after another"
    return escape(f"{words}. Every recording below can be played, searched and checked.")


def _tiles(summary: Summary) -> str:
    failed = f"{count(summary.failed)} failed" if summary.failed else "none failed"
    serial = number(summary.serial_texts_per_second)
    measured = f"one by one: {serial}/s, {count(summary.serial_count)} texts"
    faster = 1 / summary.real_time_factor if summary.real_time_factor > 0 else 0.0
    retried = f"{count(summary.retries)} retries" if summary.retries else "no retries"
    peak_rate = f"peak {summary.peak_requests_per_second:g} requests/s"
    tiles = [
        ("Throughput", number(summary.texts_per_second), "texts per second", "large lead"),
        ("Speed-up", ratio(summary.speedup), measured, "large lead"),
        ("Wall time", duration(summary.wall_seconds), "first call to last reply", "large"),
        ("Speech", speech(summary.speech_seconds), f"{ratio(faster)} real time", "large"),
        ("Texts", count(summary.texts), failed, "bad" if summary.failed else ""),
        ("Latency p50", duration(summary.p50), f"p99 {duration(summary.p99)}", ""),
        ("Requests sent", count(summary.requests), retried, ""),
        ("Peak connections", count(summary.connections_peak), "open at once", ""),
        ("429 replies", count(summary.throttled), peak_rate, "warn" if summary.throttled else ""),
    ]
    return "".join(tile(*each) for each in tiles)


def tile(name: str, figure: str, note: str, kind: str) -> str:
    """Return a figure of the page's head, with its name and a note."""
    return (
        f'<div class="tile {kind}"><dt>{escape(name)}</dt>'
        f"<dd><b>{escape(figure)}</b><span>{escape(note)}</span></dd></div>"
    )


def _spans(rows: Iterable[Row]) -> list[Span]:
    batches: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        batches[row.batch].append(row)
    return [_span(batch, members) for batch, members in sorted(batches.items())]


def _span(batch: int, members: Sequence[Row]) -> Span:
    return Span(
        batch=batch,
        start=min(row.started for row in members),
        end=max(row.started + row.latency for row in members),
        texts=len(members),
        failed=sum(row.error is not None for row in members),
    )


def _charts(rows: Sequence[Row], spans: Sequence[Span], summary: Summary) -> str:
    good = [row for row in rows if row.error is None]
    latencies = [row.latency for row in good]
    finished = [row.started + row.latency for row in good]
    together = f"Calls sent: {count(len(spans))}. In flight together: {count(charts.peak(spans))}."
    serial, many = summary.serial_texts_per_second, summary.texts_per_second
    pictures = [
        ("One by one, or all at once", charts.serial_or_many(serial, many), _compared(summary)),
        ("Calls in flight", charts.batches_in_flight(spans), together),
        ("Texts finished", charts.throughput(finished), "Bars: each moment. Line: the total."),
        ("Latency", charts.latency_histogram(latencies, summary.p50, summary.p99), _waits(summary)),
    ]
    return "".join(figure(*each) for each in pictures)


def _waits(summary: Summary) -> str:
    if not math.isfinite(summary.p50) or summary.failed >= summary.texts:
        return "No reply to measure."
    half, most = duration(summary.p50), duration(summary.p99)
    return f"Half of the texts had their reply within {half}, 99 % within {most}."


def _compared(summary: Summary) -> str:
    if summary.serial_texts_per_second <= 0:
        return "The serial run was not measured."
    if summary.speedup <= 0:
        return "synth_many spoke nothing."
    return f"synth_many spoke {ratio(summary.speedup)} as many texts per second."


def figure(title: str, picture: str, caption: str) -> str:
    """Return a picture in its frame."""
    head = f"<h3>{escape(title)}</h3><figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="card">{head}{picture}</figure>'


def _facts(summary: Summary) -> str:
    facts = [
        ("Engine", summary.engine),
        ("Endpoint", summary.endpoint),
        ("Real-time factor", number(summary.real_time_factor)),
        ("Version", f"cosy_sync {summary.version}"),
        ("Created", summary.created),
    ]
    return "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
