"""A job's page: what failed, how fast it went, which sounds are odd, and some to listen to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from cosy_sync import __version__
from cosy_sync.cli.report.axes import Frame, empty, place, svg, ticks
from cosy_sync.cli.report.charts import bucket_for, bucket_name
from cosy_sync.cli.report.figures import count, duration, number, speech
from cosy_sync.cli.report.page import figure, part, tile
from cosy_sync.jobs import sums
from cosy_sync.jobs.journal import Journal, Row, State

__all__ = ["job_page"]

# Sounds to listen to, odd ones at each end, failed texts that are shown, dots in the picture.
_SAMPLES = 12
_ODD = 10
_FAILED = 30
_DOTS = 1_500


def job_page(book: Journal, folder: Path, name: str) -> str:
    """Build the page of a job, as large for a million texts as for a thousand.

    Args:
        folder: where the page will lie; its links to sounds are relative.
        name: what the job is called.
    """
    totals = {state: book.counts().get(state, 0) for state in State}
    done, failed = totals[State.DONE], totals[State.FAILED]
    odd = sums.oddest(book, _ODD)
    some = sums.sample(book, _SAMPLES, State.DONE)
    sections = [
        _failures(sums.errors(book), sums.sample(book, _FAILED, State.FAILED), failed),
        _sounds("odd", "Odd for their length", _ODD_NOTE, odd),
        _sounds("samples", "To listen to", "Drawn at random.", some),
    ]
    headline = f"{count(done)} of {count(sum(totals.values()))} texts have their sound"
    seconds = sums.seconds(book)
    page = Template(part("job.html")).substitute(
        css=part("base.css") + part("job.css"),
        headline=escape(headline),
        lead=escape(f"{name}: {speech(seconds)} of speech in {folder.resolve().name}."),
        tiles=_tiles(totals, sums.final(book), seconds, sums.rate(book)),
        charts=_charts(book, odd),
        sections="".join(sections),
        facts=f"<div><dt>Version</dt><dd>cosy_sync {escape(__version__)}</dd></div>",
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _tiles(totals: dict[State, int], final: int, seconds: float, rate: float | None) -> str:
    done, failed = totals[State.DONE], totals[State.FAILED]
    refused = f"{count(final)} refused for good (--only-failed tries them again)"
    tiles = [
        ("Texts done", count(done), "of the whole job", "large lead"),
        ("Speech", speech(seconds), "in all", "large"),
        (
            "Failed",
            count(failed),
            refused if final else "tried again by the next run",
            "large bad" if failed else "large",
        ),
        ("Waiting", count(totals[State.WAITING]), "not spoken yet", "large"),
        (
            "Rate",
            "–" if rate is None else number(rate),
            "texts per second, the latest thousand",
            "half",
        ),
        ("Mean length", duration(seconds / done) if done else "–", "of a sound", "half"),
    ]
    return "".join(tile(*each) for each in tiles)


# -- pictures -----------------------------------------------------------------------------------


def _charts(book: Journal, odd: Sequence[Row]) -> str:
    dots = [*sums.sample(book, _DOTS, State.DONE)]
    return figure(
        "Texts finished",
        _over_time(book),
        "Time without any is left out where a run ended and a later one began.",
    ) + figure(
        "Length of the sound, by length of the text",
        _lengths(dots, odd),
        f"{count(len(dots))} at random; the odd ones below in the other colour.",
    )


def _over_time(book: Journal) -> str:
    name, title = "throughput", "Texts finished over time"
    runs = sums.spans(book)
    span = sum(last - first for first, last in runs)
    if not runs:
        return empty(name, title, "No text was finished.")
    bucket = bucket_for(max(span, 1e-3))
    bars: list[int] = []
    for first, last in runs:
        bars += sums.finished(book, first, last, bucket)
    frame = Frame(
        xs=ticks(0, len(bars) * bucket, most=6),
        ys=ticks(0, max(bars), most=4, whole=True),
        x_title="seconds of work",
        y_title=f"texts per {bucket_name(bucket)}",
    )
    drawn = "".join(_bar(frame, i * bucket, bucket, n) for i, n in enumerate(bars) if n)
    words = f"{count(sum(bars))} texts in {duration(span)}, {count(len(runs))} stretches of work."
    return svg(name, title, words, frame.drawn() + drawn)


def _bar(frame: Frame, start: float, bucket: float, texts: int) -> str:
    x, top = frame.x(start), frame.y(texts)
    wide = max(0.5, frame.x(start + bucket) - x - 1)
    box = f'x="{place(x + 0.5)}" y="{place(top)}" width="{place(wide)}"'
    tip = escape(f"{number(start)} s: {count(texts)} texts")
    tall = f'height="{place(frame.bottom - top)}"'
    return f'<rect class="bar" {box} {tall}><title>{tip}</title></rect>'


def _lengths(rows: Sequence[Row], odd: Sequence[Row]) -> str:
    name, title = "lengths", "Seconds of sound by characters of text"
    shown = [*rows, *odd]
    if not shown:
        return empty(name, title, "No text was spoken.")
    frame = Frame(
        xs=ticks(0, max(len(row.text) for row in shown), most=6, whole=True),
        ys=ticks(0, max(row.seconds or 0.0 for row in shown), most=4),
        x_title="characters",
        y_title="seconds",
    )
    dots = "".join(_dot(frame, row) for row in rows)
    dots += "".join(f"<a href={_address(row)}>{_dot(frame, row)}</a>" for row in odd)
    words = f"{count(len(rows))} sounds at random, {count(len(odd))} odd ones."
    return svg(name, title, words, frame.drawn() + dots)


def _dot(frame: Frame, row: Row) -> str:
    x, y = frame.x(len(row.text)), frame.y(row.seconds or 0.0)
    tip = escape(f"{row.id}: {count(len(row.text))} characters, {duration(row.seconds or 0.0)}")
    where = f'cx="{place(x)}" cy="{place(y)}"'
    return f'<circle class="point" {where} r="3"><title>{tip}</title></circle>'


# -- tables -------------------------------------------------------------------------------------

_ODD_NOTE = (
    "The longest and the shortest for their text: cut, babbling, or read out otherwise. All of "
    "them passed verification."
)


def _failures(errors: Sequence[tuple[str, int]], rows: Iterable[Row], failed: int) -> str:
    if not failed:
        return ""
    kinds = "".join(
        f"<tr><td>{escape(str(name))}</td><td class=number>{count(texts)}</td></tr>"
        for name, texts in sorted(errors, key=lambda each: -each[1])
    )
    lines = "".join(
        f"<tr><td class=id>{escape(row.id)}</td><td class=words>{escape(row.text)}</td>"
        f"<td class=words>{escape(_words(row))}</td></tr>"
        for row in rows
    )
    note = f"{count(min(failed, _FAILED))} of {count(failed)} are shown; manifest.jsonl lists all."
    return _section(
        "failed",
        "What failed",
        note,
        f"<table><tr><th>error</th><th>texts</th></tr>{kinds}</table></div>"
        '<div class="card scroll" tabindex="0">'
        f"<table><tr><th>id</th><th>text</th><th>why</th></tr>{lines}</table>",
    )


def _words(row: Row) -> str:
    error = json.loads(row.error or "{}")
    return f"{error.get('type', 'error')}: {error.get('message', '')}"


def _sounds(name: str, title: str, note: str, rows: Iterable[Row]) -> str:
    lines = "".join(
        f"<tr><td class=id>{escape(row.id)}</td><td class=words>{escape(row.text)}</td>"
        f"<td class=number>{duration(row.seconds or math.nan)}</td>"
        f'<td><audio controls preload="none" src={_address(row)}></audio></td></tr>'
        for row in rows
    )
    if not lines:
        return ""
    head = "<tr><th>id</th><th>text</th><th>length</th><th></th></tr>"
    return _section(name, title, note, f"<table>{head}{lines}</table>")


def _section(name: str, title: str, note: str, content: str) -> str:
    return (
        f'<section class="page" aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>'
        f'<p class="note">{escape(note)}</p><div class="card scroll" tabindex="0">{content}</div>'
        "</section>"
    )


def _address(row: Row) -> str:
    return quoteattr("./" + quote(row.key or "", safe="/", errors="replace"))
