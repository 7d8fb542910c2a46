"""What a bench leaves behind: the figures of its steps, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cosy_sync import ClientConfig
from cosy_sync.cli.bench_code import Code, code_of
from cosy_sync.cli.bench_steps import Advice, End, Step, advise, knee
from cosy_sync.cli.report.figures import NOTHING, count, duration, number

__all__ = [
    "BenchResults",
    "cells_of",
    "json_of",
    "line_of",
    "notes_of",
    "table_of",
]

COLUMNS = (
    "in flight",
    "batch",
    "requests/s",
    "texts/s",
    "speech s/s",
    "p50",
    "p99",
    "errors",
    "throttled",
)
# Share of a core from which the client itself may be what is slow.
_BUSY = 0.85


@dataclass(frozen=True, kw_only=True)
class BenchResults:
    """A sweep that ended. `seconds` for each step; `rate` in requests per second."""

    steps: Sequence[Step]
    end: End
    endpoint: str
    wire: str
    batch_size: int
    seconds: float
    rate: float
    max_connections: int
    requests: int
    texts: int
    version: str
    # ISO 8601.
    created: str
    # Keyword arguments that say what the service was asked for, as they are written, and what of
    # it is not to be shown.
    settings: Sequence[str] = ()
    # Texts in a request where nobody says how many; None if that is not known.
    usual_size: int | None = None
    left_out: Sequence[str] = ()
    # What was not tried, and why.
    untried: Sequence[str] = ()

    @property
    def best(self) -> Step | None:
        """Return the step with the fewest texts in flight of those as good as the best."""
        return knee(self.steps)

    @property
    def mark(self) -> str:
        """Say what the best step is: the knee, if throughput is known not to grow beyond it."""
        return "knee" if self.end.kind in ("knee", "rate") else "best"

    @property
    def advice(self) -> Advice | None:
        """Return the settings that fit."""
        return advise(self.steps, self.end, self.rate, self.max_connections)

    @property
    def code(self) -> str:
        """Write the client that fits what was measured; nothing when nothing was."""
        advice = self.advice
        if advice is None:
            return ""
        usual = self.batch_size in (self.usual_size, ClientConfig().batch.max_texts)
        code = Code(
            url=self.endpoint,
            settings=self.settings,
            left_out=self.left_out,
            batch_size=None if usual else self.batch_size,
        )
        return code_of(code, advice)


def cells_of(step: Step) -> tuple[str, ...]:
    """Return a step's row of the table."""
    measured = (
        number(step.requests_per_second),
        number(step.texts_per_second),
        number(step.speech_per_second),
        duration(step.p50),
        duration(step.p99),
    )
    figures = measured if step.latency else (NOTHING,) * len(measured)
    return (
        count(step.in_flight),
        count(step.batch_size),
        *figures,
        count(step.errors),
        count(step.throttled),
    )


def line_of(step: Step) -> str:
    """Tell of a step in a line."""
    words = [f"{number(step.requests_per_second)} requests/s"]
    if step.latency:
        words.append(f"p50 {duration(step.p50)}, p99 {duration(step.p99)}")
    if step.errors:
        words.append(f"{count(step.errors)} failed")
    size = "" if step.batch_size == 1 else f" x {count(step.batch_size)} texts"
    return f"{count(step.in_flight)} in flight{size}: {', '.join(words)}"


def table_of(results: BenchResults, places: Sequence[tuple[str, str]]) -> str:
    """Write the figures of all steps, the knee and what to configure, for people.

    Args:
        places: names and addresses of what was written.
    """
    rows = [COLUMNS, *(cells_of(step) for step in results.steps)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + mark
        for row, mark in zip(rows, ["", *(_mark(results, s) for s in results.steps)], strict=True)
    ]
    facts = [
        (results.mark, _best_of(results)),
        ("ended", results.end.words),
        ("sent", f"{count(results.requests)} requests with {count(results.texts)} texts"),
        *(("note", note) for note in notes_of(results)),
        *places,
    ]
    lines += ["", *(f"{name:<7}  {words}" for name, words in facts)]
    told = "\n".join(["", *(f"  {line}".rstrip() for line in lines), ""])
    # Not indented, so that it can be pasted.
    return f"{told}\n  configure:\n\n{results.code}\n" if results.code else told


def _mark(results: BenchResults, step: Step) -> str:
    if not step.whole:
        return "  cut short"
    return f"  <- {results.mark}" if step is results.best else ""


def _best_of(results: BenchResults) -> str:
    best = results.best
    if best is None:
        return "not found: no step had its time"
    texts = "1 text" if best.batch_size == 1 else f"{count(best.batch_size)} texts"
    words = f"{count(best.in_flight)} in flight with {texts} each: "
    words += f"{number(best.requests_per_second)} requests/s"
    return f"{words}, {number(best.texts_per_second)} texts/s, p99 {duration(best.p99)}"


def notes_of(results: BenchResults) -> list[str]:
    """Say what a reader of the figures should know."""
    notes = [*results.untried]
    tried = max((step.batch_size for step in results.steps), default=results.batch_size)
    if results.usual_size is not None and tried < results.usual_size:
        notes.append(
            f"only requests of {count(results.batch_size)} "
            f"text{'' if results.batch_size == 1 else 's'} were tried, and this wire takes "
            f"{count(results.usual_size)}: without --batch-size that is what is measured"
        )
    busy = [step for step in results.steps if step.whole and step.cpu >= _BUSY]
    if not busy:
        return notes
    words = f"from {busy[0].in_flight} in flight on, this client kept a core "
    words += f"{100 * busy[0].cpu:.0f} % busy: the service may be able to do more"
    return [*notes, words]


def json_of(results: BenchResults) -> str:
    """Write everything for programs."""
    fields = asdict(results)
    best, advice = results.best, results.advice
    at = None if best is None else best.in_flight
    fields |= {
        "best": at,
        "knee": at if results.mark == "knee" else None,
        "advice": None if advice is None else asdict(advice),
        "code": results.code,
        "notes": notes_of(results),
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"
