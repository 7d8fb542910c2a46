"""A bench's page: one HTML text with its figures, its pictures and what to configure."""

from __future__ import annotations

from html import escape

from cosy_sync.cli.bench_results import COLUMNS, BenchResults, cells_of, notes_of
from cosy_sync.cli.bench_steps import Step
from cosy_sync.cli.report.charts import Curve, Mark, Picture, curves
from cosy_sync.cli.report.figures import count, duration, number, ratio, time_unit
from cosy_sync.cli.report.page import Page, figure, section, table

__all__ = ["page_of"]

_MARKS = {"refused": "refused", "errors": "errors", "texts": "no texts left"}


def page_of(results: BenchResults) -> str:
    """Build the whole page; it loads nothing."""
    steps = table([*COLUMNS, ""], (_row(step, results) for step in results.steps))
    page = Page(
        kind="bench",
        headline=_headline(results),
        lead=_lead(results),
        tiles=_tiles(results),
        body=section("pictures", "More in flight", f'<div class="charts">{_charts(results)}</div>')
        + section("configure", "What to configure", _advice(results))
        + section("steps", "Every step", steps),
        facts=[
            ("Endpoint", results.endpoint),
            ("Wire", results.wire),
            ("Connections allowed", count(results.max_connections)),
            ("Each step", duration(results.seconds)),
            ("Version", f"cosy_sync {results.version}"),
            ("Created", results.created),
        ],
    )
    return page.html()


def _headline(results: BenchResults) -> str:
    best = results.best
    if best is None:
        return "Nothing was measured in full"
    calls = "1 call" if best.in_flight == 1 else f"{count(best.in_flight)} calls"
    return f"{number(best.requests_per_second)} requests/s with {calls} in flight"


def _lead(results: BenchResults) -> str:
    words = f"{results.end.words[:1].upper()}{results.end.words[1:]}."
    return f"{words} Sent: {count(results.requests)} requests, {count(results.texts)} texts."


def _tiles(results: BenchResults) -> list[tuple[str, str, str, str]]:
    best = results.best
    failed = sum(step.errors for step in results.steps)
    throttled = sum(step.throttled for step in results.steps)
    troubles = ("Failed texts", count(failed), f"{count(throttled)} throttled", "")
    if best is None:
        return [troubles]
    at = f"with {count(best.in_flight)} in flight"
    return [
        ("Requests", number(best.requests_per_second), "per second", "large lead"),
        ("In flight", count(best.in_flight), "calls at once", "large lead"),
        ("Latency p50", duration(best.p50), at, "large"),
        ("Latency p99", duration(best.p99), at, "large"),
        ("Texts", number(best.texts_per_second), "per second", ""),
        ("Speech", ratio(best.speech_per_second), "real time", ""),
        ("Batch size", count(results.batch_size), "texts in a request", ""),
        ("Rate limit", number(results.rate), "requests per second", ""),
        (*troubles[:3], "bad" if failed else ""),
    ]


def _charts(results: BenchResults) -> str:
    whole = [step for step in results.steps if step.whole]
    in_flight = [step.in_flight for step in whole]
    marks = _marks(results)
    rates = [step.requests_per_second for step in whole]
    factor, unit = time_unit(max((step.p99 for step in whole), default=0.0))
    told = [f"{count(step.in_flight)}: {number(step.requests_per_second)}" for step in whole]
    throughput = Picture(
        name="throughput",
        title="Requests per second",
        unit="requests/s",
        description=f"Requests per second by calls in flight: {', '.join(told)}.",
        in_flight=in_flight,
        curves=[Curve(name="", values=rates)],
        marks=marks,
        limit=(results.rate, f"rate limit {number(results.rate)}/s"),
    )
    told = [f"{count(s.in_flight)}: {duration(s.p50)}, {duration(s.p99)}" for s in whole]
    latency = Picture(
        name="latency",
        title="Latency of a call",
        unit=unit,
        description=f"p50 and p99 by calls in flight: {', '.join(told)}.",
        in_flight=in_flight,
        curves=[
            Curve(name="p50", values=[step.p50 * factor for step in whole]),
            Curve(name="p99", values=[step.p99 * factor for step in whole], kind="second"),
        ],
        marks=marks,
    )
    captions = [
        "Right of the knee, more calls in flight only wait longer."
        if results.end.kind == "knee"
        else "Each doubling of the calls in flight is as wide as the others.",
        "From sending to the end of the reply, without connecting.",
    ]
    pictures = zip((throughput, latency), captions, strict=True)
    return "".join(figure(each.title, curves(each), words) for each, words in pictures)


def _marks(results: BenchResults) -> list[Mark]:
    best, last = results.best, results.steps[-1] if results.steps else None
    marks = [] if best is None else [Mark(at=best.in_flight, name=results.mark)]
    word = _MARKS.get(results.end.kind)
    if last is not None and not last.whole and word is not None:
        marks.append(Mark(at=last.in_flight, name=word, kind="bad"))
    return marks


def _advice(results: BenchResults) -> str:
    code = results.code
    if not code:
        return '<p class="note">No step had its time, so there is nothing to go by.</p>'
    words = "The connections are those that carried the best throughput, or fewer where Little's "
    words += "law with head-room asks for fewer. Measure again when the service changes."
    notes = [words, *notes_of(results)]
    told = "".join(f'<p class="note">{escape(_sentence(note))}</p>' for note in notes)
    return f'<pre class="card"><code>{escape(code)}</code></pre>{told}'


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _row(step: Step, results: BenchResults) -> str:
    kind, word = ("best", results.mark) if step is results.best else ("", "")
    if not step.whole:
        kind, word = "cut", "cut short"
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in (*cells_of(step), word))
    return f'<tr class="{kind}">{cells}</tr>'
