"""The demo's page: what was spoken, how it went, and every sentence to play."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from urllib.parse import quote

from cosy_sync.cli.report import charts
from cosy_sync.cli.report.charts import Span
from cosy_sync.cli.report.figures import NOTHING, count, duration, number, ratio, speech
from cosy_sync.cli.report.page import Page, figure, part, section
from cosy_sync.cli.report.run import Row, Summary

__all__ = ["render"]

CATEGORY_NAMES = {
    "navigation": "导航提示",
    "announcement": "公共广播",
    "advert": "广告",
    "service": "客服",
}
_HEARD = {
    "espeak": "The voice is espeak-ng, a small synthesizer that runs on any machine, and not "
    "CosyVoice: what you hear is that every text has its own words.",
    "tone": "You hear tones in place of speech, one tune for each text, and not CosyVoice.",
}


def render(rows: Sequence[Row], summary: Summary) -> str:
    """Build the whole page: one HTML text that loads nothing but the WAV files beside it."""
    spans = _spans(rows)
    run = f'<div class="charts">{_charts(rows, spans, summary)}</div>'
    failed = sum(row.error is not None for row in rows)
    sentences = Template(part("sentences.html")).substitute(
        chips=_chips(rows, failed), rows="".join(map(_row, rows))
    )
    page = Page(
        kind="demo report",
        headline=_headline(summary),
        lead=f"{speech(summary.speech_seconds)} of speech. {_HEARD.get(summary.engine, '')}",
        tiles=_tiles(summary),
        body=section("pictures", "How the run went", run, _why(spans))
        + section("sentences", "Every sentence", sentences),
        facts=[
            ("Engine", summary.engine),
            ("Endpoint", summary.endpoint),
            ("Real-time factor", number(summary.real_time_factor)),
            ("Version", f"cosy_sync {summary.version}"),
            ("Created", summary.created),
        ],
        css=part("demo.css"),
        script=part("demo.js"),
    )
    return page.html()


def _headline(summary: Summary) -> str:
    wall = duration(summary.wall_seconds)
    if not summary.texts:
        return "No sentences in this run"
    noun = "sentence" if summary.texts == 1 else "sentences"
    spoken = count(max(0, summary.texts - summary.failed))
    some = f"{spoken} of " if summary.failed else ""
    return f"{some}{count(summary.texts)} {noun}, spoken in {wall}"


def _tiles(summary: Summary) -> list[tuple[str, str, str, str]]:
    failed = f"{count(summary.failed)} failed" if summary.failed else "none failed"
    serial = number(summary.serial_texts_per_second)
    measured = f"one by one: {serial}/s, {count(summary.serial_count)} texts"
    faster = 1 / summary.real_time_factor if summary.real_time_factor > 0 else 0.0
    retried = f"{count(summary.retries)} retries" if summary.retries else "no retries"
    peak_rate = f"peak {summary.peak_requests_per_second:g} requests/s"
    return [
        ("Throughput", number(summary.texts_per_second), "texts per second", "large lead"),
        (
            "Speed-up",
            ratio(summary.speedup),
            measured if summary.serial_texts_per_second > 0 else "one by one was not measured",
            "large lead",
        ),
        ("Wall time", duration(summary.wall_seconds), "first call to last reply", "large"),
        ("Speech", speech(summary.speech_seconds), f"{ratio(faster)} real time", "large"),
        ("Texts", count(summary.texts), failed, "bad" if summary.failed else ""),
        ("Latency p50", duration(summary.p50), f"p99 {duration(summary.p99)}", ""),
        ("Requests sent", count(summary.requests), retried, ""),
        ("Peak connections", count(summary.connections_peak), "open at once", ""),
        ("429 replies", count(summary.throttled), peak_rate, "warn" if summary.throttled else ""),
    ]


# -- pictures ------------------------------------------------------------------------------------


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
    ends = [end for row in good if math.isfinite(end := row.started + row.latency)]
    bucket = charts.bucket_for(max(ends, default=1.0) or 1.0)
    bins = max(1, math.ceil(max(ends, default=0.0) / bucket))
    finished = charts.throughput(
        charts.counted(ends, 0.0, bucket, bins), bucket, f"{count(len(ends))} texts."
    )
    together = f"Calls sent: {count(len(spans))}. In flight together: {count(charts.peak(spans))}."
    pictures = [
        ("Calls in flight", charts.batches_in_flight(spans), together),
        ("Texts finished", finished, "A call's texts are finished together, with its reply."),
        (
            "Latency",
            charts.latency_histogram(latencies, summary.p50, summary.p99),
            _waits(summary),
        ),
    ]
    return "".join(figure(*each) for each in pictures)


def _waits(summary: Summary) -> str:
    if not math.isfinite(summary.p50) or summary.failed >= summary.texts:
        return "No reply to measure."
    half, most = duration(summary.p50), duration(summary.p99)
    return f"Half of the texts had their reply within {half}, 99 % within {most}."


def _why(spans: Sequence[Span]) -> str:
    most = max((span.texts for span in spans), default=0)
    return (
        f"A text waits for its whole call, here of up to {count(most)} texts: for the pause that "
        "the demo's server makes in place of a GPU's work (--latency), and while this machine's "
        "processor speaks them all. The latency tells of this machine, not of CosyVoice."
    )


# -- sentences -----------------------------------------------------------------------------------


def _chips(rows: Sequence[Row], failed: int) -> str:
    kinds = Counter(row.category for row in rows)
    chips = [("", "all", len(rows)), *((kind, kind, texts) for kind, texts in kinds.items())]
    chips += [("!failed", "failed", failed)] if failed else []
    return "".join(_chip(*chip) for chip in chips)


def _chip(kind: str, name: str, texts: int) -> str:
    told = f"{name} {CATEGORY_NAMES.get(kind, '')}".strip()
    pressed = "false" if kind else "true"
    return (
        f'<button type="button" data-category="{escape(kind)}" aria-pressed="{pressed}">'
        f"{escape(told)} <i>{count(texts)}</i></button>"
    )


def _row(row: Row) -> str:
    error = "" if row.error is None else f'<span class="error">{escape(row.error)}</span>'
    failed = "" if row.error is None else " data-failed"
    address = "" if row.file is None else _address(row.file)
    play = f'<button type="button" aria-label="Play sentence {row.index}"></button>'
    name = escape((row.file or "").rpartition("/")[2])
    size = f"<small>{max(1, round(row.bytes / 1000))} kB</small>"
    file = f'<a href="{escape(address)}">{name}</a> {size}'
    return (
        f'<tr data-category="{escape(row.category)}"{failed}>'
        f'<td class="play">{play if address else "!"}</td><td class="index">{row.index}</td>'
        f'<td class="text"><span lang="zh-CN">{escape(row.text)}</span>{error}</td>'
        f'<td class="category"><span class="tag">{escape(row.category)}</span></td>'
        f'<td class="seconds">{_seconds(row.seconds)}</td>'
        f'<td class="latency">{_seconds(row.latency)}</td>'
        f'<td class="file">{file if address else ""}</td></tr>'
    )


def _seconds(value: float | None) -> str:
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.2f} s"


def _address(path: str) -> str:
    """Turn a relative path into an address that stays below the page, whatever it contains."""
    return "./" + quote(path, safe="/", errors="replace")
