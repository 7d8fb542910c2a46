"""A job's page: what failed, how fast it went, which sounds are odd, and some to listen to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from cosy_sync import __version__
from cosy_sync.cli.report.charts import Chart, Dot, bars, bucket_for
from cosy_sync.cli.report.figures import count, duration, number, speech
from cosy_sync.cli.report.page import Page, address_of, charts, section, table
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
    seconds = sums.seconds(book)
    body = [
        section("How it went", charts(_finished(book), _lengths(book, odd))),
        _failures(sums.errors(book), sums.sample(book, _FAILED, State.FAILED), failed),
        _sounds("Odd for their length", _ODD_NOTE, odd),
        _sounds("To listen to", "Drawn at random.", some),
    ]
    page = Page(
        kind="job",
        headline=f"{count(done)} of {count(sum(totals.values()))} texts have their sound",
        lead=f"{name}: {speech(seconds)} of speech in {folder.resolve().name}.",
        tiles=_tiles(totals, sums.final(book), seconds, sums.rate(book) or math.nan),
        body="".join(body),
        facts=[("Version", f"cosy_sync {__version__}")],
    )
    return page.html()


def _tiles(
    totals: dict[State, int], final: int, seconds: float, rate: float
) -> list[tuple[str, str, str, str]]:
    done, failed = totals[State.DONE], totals[State.FAILED]
    refused = f"{count(final)} refused for good (--only-failed tries them again)"
    again = refused if final else "tried again by the next run"
    mean = seconds / done if done else math.nan
    return [
        ("Texts done", count(done), "of the whole job", "lead"),
        ("Speech", speech(seconds), "in all", ""),
        ("Failed", count(failed), again, "bad" if failed else ""),
        ("Waiting", count(totals[State.WAITING]), "not spoken yet", ""),
        ("Rate", number(rate), "texts per second, the latest thousand", ""),
        ("Mean length", duration(mean), "of a sound", ""),
    ]


# -- pictures -----------------------------------------------------------------------------------


def _finished(book: Journal) -> Chart:
    runs = sums.spans(book)
    bucket = bucket_for(max(sum(last - first for first, last in runs), 1e-3))
    counts = [n for first, last in runs for n in sums.finished(book, first, last, bucket)]
    return Chart(
        title="Texts finished",
        caption="Ten seconds and more without any, in a run or between two, are left out.",
        x_title="seconds of work",
        y_title=f"texts per {bucket:g} s",
        marks=bars(counts, 0.0, bucket),
    )


def _lengths(book: Journal, odd: Sequence[Row]) -> Chart:
    some = [*sums.sample(book, _DOTS, State.DONE)]
    return Chart(
        title="Length of the sound, by length of the text",
        caption=f"{count(len(some))} at random; the odd ones below in the other colour.",
        x_title="characters",
        y_title="seconds",
        marks=[*map(_dot, some), *(_dot(row, "odd") for row in odd)],
    )


def _dot(row: Row, kind: str = "") -> Dot:
    seconds = row.seconds or 0.0
    tip = f"{row.id}: {count(len(row.text))} characters, {duration(seconds)}"
    return Dot(len(row.text), seconds, tip, kind)


# -- tables -------------------------------------------------------------------------------------

_ODD_NOTE = (
    "The longest and the shortest for their text: cut, babbling, or read out otherwise. All of "
    "them passed verification."
)


def _failures(errors: Sequence[tuple[str, int]], rows: Iterable[Row], failed: int) -> str:
    if not failed:
        return ""
    kinds = (
        f'<tr><td>{escape(str(name))}</td><td class="number">{count(texts)}</td></tr>'
        for name, texts in sorted(errors, key=lambda each: -each[1])
    )
    lines = (
        f'<tr><td>{escape(row.id)}</td><td class="words">{escape(row.text)}</td>'
        f'<td class="words">{escape(_words(row))}</td></tr>'
        for row in rows
    )
    note = f"{count(min(failed, _FAILED))} of {count(failed)} are shown; manifest.jsonl lists all."
    tables = table(["error", "texts"], kinds) + table(["id", "text", "why"], lines)
    return section("What failed", tables, note)


def _words(row: Row) -> str:
    error = json.loads(row.error or "{}")
    return f"{error.get('type', 'error')}: {error.get('message', '')}"


def _sounds(title: str, note: str, rows: Sequence[Row]) -> str:
    lines = (
        f'<tr><td>{escape(row.id)}</td><td class="words">{escape(row.text)}</td>'
        f'<td class="number">{duration(row.seconds or math.nan)}</td>'
        '<td><audio controls preload="none" '
        f'src="{escape(address_of(row.key or ""))}"></audio></td></tr>'
        for row in rows
    )
    return section(title, table(["id", "text", "length", ""], lines), note) if rows else ""
