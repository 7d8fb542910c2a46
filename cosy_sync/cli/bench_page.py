"""A bench's page: one HTML text with its figures, its pictures and what to configure."""

from __future__ import annotations

from html import escape

from cosy_sync.cli.bench_results import COLUMNS, BenchResults, cells_of, line_of, notes_of
from cosy_sync.cli.bench_steps import Step
from cosy_sync.cli.report.charts import Box, Chart, Rule
from cosy_sync.cli.report.figures import count, duration, number, ratio, time_unit
from cosy_sync.cli.report.page import Page, charts, section, table

__all__ = ["page_of"]

_MARKS = {"refused": "refused", "errors": "errors", "texts": "no texts left"}


def page_of(results: BenchResults) -> str:
    """Build the whole page; it loads nothing."""
    steps = table([*COLUMNS, ""], (_row(step, results) for step in results.steps))
    page = Page(
        kind="bench",
        headline=_headline(results),
        lead=f"{_sentence(results.end.words)} Sent: {count(results.requests)} requests, "
        f"{count(results.texts)} texts.",
        tiles=_tiles(results),
        body=section("More in flight", charts(_throughput(results), _latency(results)))
        + section("What to configure", _advice(results))
        + section("Every step", steps),
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
    return f"{number(best.texts_per_second)} texts/s with {calls} in flight"


def _tiles(results: BenchResults) -> list[tuple[str, str, str, str]]:
    best = results.best
    failed = sum(step.errors for step in results.steps)
    throttled = f"{count(sum(step.throttled for step in results.steps))} throttled"
    troubles = ("Failed texts", count(failed), throttled, "bad" if failed else "")
    if best is None:
        return [troubles]
    at = f"with {count(best.in_flight)} in flight"
    return [
        ("Texts", number(best.texts_per_second), "per second", "lead"),
        ("In flight", count(best.in_flight), "calls at once", "lead"),
        ("Batch size", count(best.batch_size), "texts in a request", "lead"),
        ("Latency p50", duration(best.p50), at, ""),
        ("Latency p99", duration(best.p99), at, ""),
        ("Requests", number(best.requests_per_second), "per second", ""),
        ("Speech", ratio(best.speech_per_second), "real time", ""),
        ("Rate limit", number(results.rate), "requests per second", ""),
        troubles,
    ]


def _throughput(results: BenchResults) -> Chart:
    knee = "The knee is marked: more in flight only waits longer."
    limit = f"The rate limit is {number(results.rate)} requests/s."
    caption = knee if results.mark == "knee" else limit
    columns = _columns(results, "texts_per_second", 1.0)
    return _chart(results, "Texts per second", caption, "texts/s", columns)


def _latency(results: BenchResults) -> Chart:
    factor, unit = time_unit(max((step.p99 for step in results.steps), default=0.0))
    caption = "Dark: half of the calls were as fast (p50). Light: 99 of 100 (p99)."
    columns = _columns(results, "p99", factor, "light") + _columns(results, "p50", factor)
    return _chart(results, "Latency of a call, without connecting", caption, unit, columns)


def _columns(results: BenchResults, name: str, factor: float, kind: str = "") -> list[Box]:
    """Draw a figure of each step that had its time."""
    return [
        Box(i + 0.2, i + 0.8, 0, getattr(step, name) * factor, line_of(step), kind)
        for i, step in enumerate(results.steps)
        if step.whole
    ]


def _chart(
    results: BenchResults, title: str, caption: str, y_title: str, columns: list[Box]
) -> Chart:
    several = len({step.batch_size for step in results.steps}) > 1
    size = "×{}" if several else ""
    return Chart(
        title=title,
        caption=caption,
        x_title="calls in flight × texts in each" if several else "calls in flight",
        y_title=y_title,
        marks=[*columns, *_rules(results)],
        names=[count(step.in_flight) + size.format(step.batch_size) for step in results.steps],
    )


def _rules(results: BenchResults) -> list[Rule]:
    marks = [(i, results.mark) for i, step in enumerate(results.steps) if step is results.best]
    word = _MARKS.get(results.end.kind)
    if results.steps and not results.steps[-1].whole and word is not None:
        marks.append((len(results.steps) - 1, word))
    return [Rule(i + 0.5, name, row) for row, (i, name) in enumerate(marks)]


def _advice(results: BenchResults) -> str:
    code = results.code
    if not code:
        return '<p class="note">No step had its time, so there is nothing to go by.</p>'
    words = "The step with the fewest texts in flight among those as good as the best, with its "
    words += "connections, or fewer where Little's law with head-room asks for fewer."
    notes = [words, *notes_of(results)]
    told = "".join(f'<p class="note">{escape(_sentence(note))}</p>' for note in notes)
    return f'<pre class="card" tabindex="0"><code>{escape(code)}</code></pre>{told}'


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _row(step: Step, results: BenchResults) -> str:
    kind, word = ("best", results.mark) if step is results.best else ("", "")
    if not step.whole:
        kind, word = "cut", "cut short"
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in (*cells_of(step), word))
    return f'<tr class="{kind}">{cells}</tr>'
