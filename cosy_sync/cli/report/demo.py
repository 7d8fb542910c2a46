"""The demo's page: what was spoken, how it went, and every sentence to play."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape
from string import Template

from cosy_sync.cli.report.charts import Box, Chart, Rule, bars, counted
from cosy_sync.cli.report.figures import NOTHING, count, duration, number, ratio, speech, time_unit
from cosy_sync.cli.report.page import Page, address_of, charts, part, section
from cosy_sync.cli.report.run import Row, Summary

__all__ = ["render"]

CATEGORY_NAMES = {
    "navigation": "导航提示",
    "announcement": "公共广播",
    "advert": "广告",
    "service": "客服",
}
# Bars of the picture of latencies.
_BINS = 28
_HEARD = {
    "espeak": "The voice is espeak-ng, a small synthesizer that runs on any machine, and not "
    "CosyVoice: what you hear is that every text has its own words.",
    "tone": "You hear tones in place of speech, one tune for each text, and not CosyVoice.",
}


def render(rows: Sequence[Row], summary: Summary) -> str:
    """Build the whole page: one HTML text that loads nothing but the WAV files beside it."""
    calls = _calls(rows)
    pictures = charts(_in_flight(calls), _latency(rows, summary))
    sentences = Template(part("sentences.html")).substitute(
        chips=_chips(rows), rows="".join(map(_row, rows))
    )
    page = Page(
        kind="demo report",
        headline=_headline(summary),
        lead=f"{speech(summary.speech_seconds)} of speech. {_HEARD.get(summary.engine, '')}",
        tiles=_tiles(summary),
        body=section("How the run went", pictures, _why(calls))
        + section("Every sentence", sentences, kind="sentences"),
        facts=[
            ("Engine", summary.engine),
            ("Endpoint", summary.endpoint),
            ("Real-time factor", number(summary.real_time_factor)),
            ("Version", f"cosy_sync {summary.version}"),
            ("Created", summary.created),
        ],
        script="demo.js",
    )
    return page.html()


def _headline(summary: Summary) -> str:
    if not summary.texts:
        return "No sentences in this run"
    noun = "sentence" if summary.texts == 1 else "sentences"
    some = f"{count(max(0, summary.texts - summary.failed))} of " if summary.failed else ""
    return f"{some}{count(summary.texts)} {noun}, spoken in {duration(summary.wall_seconds)}"


def _tiles(summary: Summary) -> list[tuple[str, str, str, str]]:
    failed = f"{count(summary.failed)} failed" if summary.failed else "none failed"
    serial = f"one by one: {number(summary.serial_texts_per_second)}/s, "
    serial += f"{count(summary.serial_count)} texts"
    if summary.serial_texts_per_second <= 0:
        serial = "one by one was not measured"
    faster = 1 / summary.real_time_factor if summary.real_time_factor > 0 else 0.0
    retried = f"{count(summary.retries)} retries" if summary.retries else "no retries"
    peak_rate = f"peak {summary.peak_requests_per_second:g} requests/s"
    return [
        ("Throughput", number(summary.texts_per_second), "texts per second", "lead"),
        ("Speed-up", ratio(summary.speedup), serial, "lead"),
        ("Wall time", duration(summary.wall_seconds), "first call to last reply", ""),
        ("Speech", speech(summary.speech_seconds), f"{ratio(faster)} real time", ""),
        ("Texts", count(summary.texts), failed, "bad" if summary.failed else ""),
        ("Latency p50", duration(summary.p50), f"p99 {duration(summary.p99)}", ""),
        ("Requests sent", count(summary.requests), retried, ""),
        ("Peak connections", count(summary.connections_peak), "open at once", ""),
        ("429 replies", count(summary.throttled), peak_rate, "bad" if summary.throttled else ""),
    ]


# -- pictures ------------------------------------------------------------------------------------


def _calls(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the texts of each batch call, in the order in which they were sent."""
    batches: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        batches[row.batch].append(row)
    return sorted(batches.values(), key=lambda call: call[0].started)


def _in_flight(calls: Sequence[Sequence[Row]]) -> Chart:
    return Chart(
        title="Calls in flight",
        caption="Those above one another overlap. The texts of a call are finished together.",
        x_title="seconds since the start",
        y_title="call",
        marks=[_flight(place, call) for place, call in enumerate(calls)],
    )


def _flight(place: int, call: Sequence[Row]) -> Box:
    start = min(row.started for row in call)
    end = max(row.started + row.latency for row in call)
    failed = sum(row.error is not None for row in call)
    told = f", {count(failed)} failed" if failed else ""
    tip = f"batch {call[0].batch}: {count(len(call))} texts, {duration(end - start)}{told}"
    kind = "failed" if failed == len(call) else ""
    return Box(start, end, place, place + 1, tip, kind)


def _latency(rows: Sequence[Row], summary: Summary) -> Chart:
    waits = [r.latency for r in rows if r.error is None and math.isfinite(r.latency)]
    factor, unit = time_unit(max(waits, default=0.0))
    low, high = min(waits, default=0.0) * factor, max(waits, default=0.0) * factor
    width = (high - low) / _BINS or 1.0
    half, most = duration(summary.p50), duration(summary.p99)
    words = f"Half of the texts had their reply within {half}, 99 % within {most}."
    counts = counted((wait * factor for wait in waits), low, width, _BINS)
    return Chart(
        title="Latency",
        caption=words if waits else "No reply to measure.",
        x_title=f"latency ({unit})",
        y_title="texts",
        marks=[
            *bars(counts, low, width),
            Rule(summary.p50 * factor, "p50"),
            Rule(summary.p99 * factor, "p99", row=1),
        ],
    )


def _why(calls: Sequence[Sequence[Row]]) -> str:
    most = max(map(len, calls), default=0)
    return (
        f"A text waits for its whole call, here of up to {count(most)} texts: for the pause that "
        "the demo's server makes in place of a GPU's work (--latency), and while this machine's "
        "processor speaks them all. The latency tells of this machine, not of CosyVoice."
    )


# -- sentences -----------------------------------------------------------------------------------


def _chips(rows: Sequence[Row]) -> str:
    kinds = Counter(row.category for row in rows)
    failed = sum(row.error is not None for row in rows)
    chips = [("", "all", len(rows)), *((kind, kind, texts) for kind, texts in kinds.items())]
    chips += [("!failed", "failed", failed)] if failed else []
    return "".join(
        f'<button type="button" class="chip" data-category="{escape(kind)}">'
        f"{escape(name)} {CATEGORY_NAMES.get(kind, '')} {count(texts)}</button>"
        for kind, name, texts in chips
    )


def _row(row: Row) -> str:
    error = "" if row.error is None else f'<span class="error">{escape(row.error)}</span>'
    state = "" if row.error is None else ' data-state="!failed"'
    address = "" if row.file is None else address_of(row.file)
    play = f'<button type="button" aria-label="Play sentence {row.index}">▶</button>'
    name = escape((row.file or "").rpartition("/")[2])
    file = f'<a href="{escape(address)}">{name}</a> {max(1, round(row.bytes / 1000))} kB'
    return (
        f'<tr data-category="{escape(row.category)}"{state}>'
        f"<td>{play if address else ''}</td><td>{row.index}</td>"
        f'<td class="words"><span lang="zh-CN">{escape(row.text)}</span>{error}</td>'
        f"<td>{escape(row.category)}</td>"
        f"<td>{_seconds(row.seconds)}</td><td>{_seconds(row.latency)}</td>"
        f'<td class="soft">{file if address else ""}</td></tr>'
    )


def _seconds(value: float | None) -> str:
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.2f} s"
