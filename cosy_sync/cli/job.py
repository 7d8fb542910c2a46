"""`cosy-sync job`: many texts into a folder, stopped and continued at any time."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from cosy_sync import CosyError
from cosy_sync.cli.console import Screen, emit, say
from cosy_sync.cli.exits import CODES, Exit, Stop, because, meaning
from cosy_sync.cli.options import add_service_options, make_client, number
from cosy_sync.cli.report.figures import count, duration, speech
from cosy_sync.cli.report.job import job_page
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.target import write_whole
from cosy_sync.jobs import (
    FORMATS,
    Job,
    JobCounts,
    JobOptions,
    JobResult,
    merge_manifests,
    read_texts,
    run_job,
    sums,
)
from cosy_sync.jobs.journal import Journal, State
from cosy_sync.jobs.manifest import EXPORTS, export
from cosy_sync.jobs.plan import Plan, plan_job

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync job run texts.jsonl --to speech          speak what is not spoken yet
  cosy-sync job run texts.csv --to speech --dry-run  how many, how long, at which price
  cosy-sync job run texts.jsonl --to speech --only-failed
  cosy-sync job run texts.jsonl --to speech --shard 3/16    one of 16 parts, on any machine
  cosy-sync job status speech
  cosy-sync job report speech                        a page: failures, odd sounds, throughput
  cosy-sync job export speech --format ljspeech

The input has an id and a text for each sound: JSON lines ({"id": "a1", "text": "你好"}; also voice,
instruction, speed), .csv or .tsv with a header, plain lines (.txt), LJSpeech's metadata.csv,
Kaldi's `text`, an audiofolder's metadata. Run the same line again to go on after any end: what is
there is not spoken again, a text that has changed is spoken anew, and texts that failed are tried
again, unless the service refused them for good.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "job",
        help="speak many texts, stopped and continued at any time",
        description="Speak many texts into a folder, and keep a journal of what is done.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_refuse_none)
    steps = parser.add_subparsers(title="what to do", metavar="STEP")
    _add_run(steps)
    report = steps.add_parser("report", help="a page on a job: failures, odd sounds, throughput")
    report.add_argument("folder", metavar="DIR", help="the job's folder")
    report.set_defaults(run=_report)
    merge = steps.add_parser("merge", help="join the manifests of all shards")
    merge.add_argument("folder", metavar="DIR", help="the job's folder")
    merge.set_defaults(run=_merge)
    status = steps.add_parser("status", help="what a job has done so far")
    status.add_argument("folder", metavar="DIR", help="the job's folder")
    status.add_argument("--json", action="store_true", help="as a JSON object")
    status.set_defaults(run=_status)
    export = steps.add_parser("export", help="lists of the sounds, as speech corpora have them")
    export.add_argument("folder", metavar="DIR", help="the job's folder")
    export.add_argument("--format", choices=tuple(EXPORTS), required=True)
    export.set_defaults(run=_export)


def _add_run(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = steps.add_parser(
        "run",
        help="speak what is not spoken yet",
        description="Speak what is not spoken yet.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", nargs="+", metavar="IN", help="a file of texts; - for stdin")
    parser.add_argument(
        "--to",
        required=True,
        metavar="PLACE",
        help="a folder for the sounds, or s3://bucket/prefix",
    )
    parser.add_argument(
        "--journal",
        metavar="DIR",
        help="the folder of the journal (default: .cosy-job in the folder of the sounds)",
    )
    parser.add_argument(
        "--input-format", choices=FORMATS, help="of the input (default: as its name says)"
    )
    parser.add_argument(
        "--job-name", metavar="NAME", help="what the job is called (default: the input's name)"
    )
    _add_bounds(parser)
    parser.add_argument("--json", action="store_true", help="tell the end as a JSON object")
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_service_options(parser)
    parser.set_defaults(run=run)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only-failed", action="store_true", help="only what failed in earlier runs, all of it"
    )
    for name, kind, words in (
        ("--limit", int, "texts to speak in this run"),
        ("--max-errors", int, "failed texts after which the run ends"),
        ("--within", float, "seconds after which nothing more is sent"),
    ):
        parser.add_argument(name, type=number(kind, 0, 10**12), metavar="N", help=words)
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="speak only the K-th of N parts (default: all; in a Slurm array, the task's part)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument(
        "--price-per-10k-chars",
        type=number(float, 0, 10**6),
        metavar="X",
        help="with --dry-run: what the service takes for 10 000 characters",
    )


def _shard(text: str) -> tuple[int, int]:
    try:
        first, of = (int(part) for part in text.split("/"))
    except ValueError:
        first, of = 0, 0
    if not 1 <= first <= of:
        raise argparse.ArgumentTypeError("must be like 3/16: the third of sixteen parts")
    return first, of


def shard_of_slurm(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the part that a task of a Slurm array is to do; None outside of one."""
    try:
        task, first, last = (
            int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "MAX")
        )
    except (KeyError, ValueError):
        return None
    return task - first + 1, last - first + 1


def _refuse_none(args: argparse.Namespace) -> int:
    raise Stop("say what to do: cosy-sync job run, status, report, merge or export")


def run(args: argparse.Namespace) -> int:
    """Run a job as the options say; return the exit code. Raises Stop and CosyError."""
    shard = args.shard or shard_of_slurm(os.environ)
    silence = Silence()
    with make_client(args, observers=[silence]) as client:
        if args.dry_run:
            plan = plan_job(read_texts(args.input, args.input_format), args.to, client, shard)
            return _tell_plan(plan, args)
        options = JobOptions(
            name=args.job_name,
            journal=args.journal,
            input_format=args.input_format,
            only_failed=args.only_failed,
            limit=None if args.limit is None else int(args.limit),
            max_errors=None if args.max_errors is None else int(args.max_errors),
            within=args.within,
            shard=shard,
        )
        with Screen(bar=not args.no_progress, trouble=silence.words) as screen:
            run = _Run(args, screen)
            try:
                with run.stoppable():
                    result = run_job(
                        *(args.input, args.to, client, options), tell=run.tell, started=run.begin
                    )
            except (CosyError, OSError, KeyboardInterrupt) as error:
                raise run.ended(error) from error
            return run.close(result)


class _Run:
    """What the user sees of a run, and how he ends it."""

    def __init__(self, args: argparse.Namespace, screen: Screen) -> None:
        self._args = args
        self._screen = screen
        self._job: Job | None = None
        self._pressed = False

    def begin(self, job: Job) -> None:
        """Know the job, to stop it."""
        self._job = job

    def tell(self, counts: JobCounts) -> None:
        """Draw the bar."""
        self._screen.total = max(counts.read, counts.done) or None
        self._screen.draw(counts.done)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM finish what is in flight; the second one breaks off."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self._press) for each in numbers}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._job is None or self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
        self._job.stop("interrupted")
        self._screen.say("cosy-sync: finishing what is in flight; once more breaks it off")

    def ended(self, error: BaseException) -> Stop:
        """Return how the command ends by an error, with what was kept."""
        self._screen.close()
        code, words = meaning(error)
        if isinstance(error, OSError) and not isinstance(error, CosyError):
            code, words = Exit.FAILED, f"{because(error)}"
        if self._job is not None and self._job.counts.read:
            words += f"; {_kept(self._job.counts)} in {self._args.to}. To go on, run this again"
            code = Exit.FAILED if code == Exit.USAGE else code
        return Stop(words, code)

    def close(self, result: JobResult) -> int:
        """Tell the end; return the exit code."""
        self._screen.close()
        counts = result.counts
        folder = Path(self._args.to)
        if counts.spoken + counts.failed and folder.is_dir():
            with suppress(OSError):
                _write_report(result.journal, folder)
        for key in counts.replaced:
            say(f"cosy-sync: the text of {key} has changed; its sound was replaced")
        for name, lost in sorted(counts.errors.items()):
            say(f"cosy-sync: {count(lost)} x {name}; see {result.manifest}")
        if self._args.json:
            facts = dataclasses.asdict(counts)
            facts.update(wall=round(result.wall, 3), stopped=result.stopped or None)
            emit(json.dumps({**facts, "manifest": str(result.manifest)}, ensure_ascii=False))
        else:
            emit(
                f"{_kept(counts)} in {self._args.to}: {speech(counts.seconds)} of speech in "
                f"{duration(result.wall)}"
            )
        if result.stopped:
            say(f"cosy-sync: {result.stopped}; to go on, run this again")
        elif result.limited:
            say("cosy-sync: the limit is reached; to go on, run this again")
        if self._pressed:
            return Exit.INTERRUPTED
        return Exit.DONE if result.complete else Exit.FAILED


def _kept(counts: JobCounts) -> str:
    parts = [f"{count(counts.spoken)} texts spoken"]
    for value, what in (
        (counts.linked, "shared the sound of another"),
        (counts.skipped, "were done before"),
        (counts.failed, "failed"),
        (counts.refused, "were refused before (--only-failed tries them again)"),
        (counts.unsent, "were not sent"),
    ):
        if value:
            parts.append(f"{count(value)} {what}")
    return ", ".join(parts)


def _tell_plan(plan: Plan, args: argparse.Namespace) -> int:
    price = args.price_per_10k_chars
    cost = None if price is None else round(plan.open_characters / 10_000 * price, 2)
    if args.json:
        emit(json.dumps({**dataclasses.asdict(plan), "minutes": plan.minutes, "cost": cost}))
        return Exit.DONE
    emit(
        f"{count(plan.texts)} texts, {count(plan.characters)} characters; "
        f"{count(plan.done)} are done, {count(plan.shared)} have the words of another; to speak: "
        f"{count(plan.open)} texts, {count(plan.open_characters)} characters"
    )
    if plan.minutes is None:
        emit("how long it takes is not known before some of it was run: try --limit 200")
    else:
        emit(f"some {plan.minutes:.1f} minutes at {plan.rate:.1f} texts/s, as in the latest run")
    if cost is not None:
        emit(f"cost: {cost:.2f} at {price:g} for 10 000 characters")
    return Exit.DONE


def _status(args: argparse.Namespace) -> int:
    totals: dict[int, int] = {State.WAITING: 0, State.DONE: 0, State.FAILED: 0}
    facts: dict[str, Any] = {"errors": {}, "seconds": 0.0}
    for path in _journals(args.folder):
        book = Journal(path, reading=True)
        try:
            for state, rows in book.counts().items():
                totals[state] += rows
            for name, rows in sums.errors(book):
                facts["errors"][name] = facts["errors"].get(name, 0) + rows
            facts["seconds"] += sums.seconds(book)
        finally:
            book.close()
    facts.update(
        done=totals[State.DONE], failed=totals[State.FAILED], waiting=totals[State.WAITING]
    )
    code = Exit.DONE if not facts["failed"] + facts["waiting"] else Exit.FAILED
    if args.json:
        emit(json.dumps(facts, ensure_ascii=False))
        return code
    emit(
        f"{count(facts['done'])} texts done ({speech(facts['seconds'])} of speech), "
        f"{count(facts['failed'])} failed, {count(facts['waiting'])} waiting"
    )
    for name, rows in sorted(facts["errors"].items()):
        emit(f"  {count(rows)} x {name}")
    return code


def _report(args: argparse.Namespace) -> int:
    for path in _journals(args.folder):
        emit(str(_write_report(path, Path(args.folder))))
    return Exit.DONE


def _write_report(journal: Path, folder: Path) -> Path:
    book = Journal(journal, reading=True)
    try:
        page = job_page(book, folder, json.loads(book.fact("job") or "{}").get("name", ""))
    finally:
        book.close()
    place = folder / f"{journal.stem.replace('journal', 'report')}.html"
    write_whole(place, page)
    return place


def _merge(args: argparse.Namespace) -> int:
    path, lines = merge_manifests(args.folder)
    emit(f"{count(lines)} texts in {path}")
    return Exit.DONE


def _export(args: argparse.Namespace) -> int:
    books = [Journal(path, reading=True) for path in _journals(args.folder)]
    try:
        rows = chain.from_iterable(book.rows() for book in books)
        for made in export(rows, Path(args.folder), args.format):
            emit(str(made))
    finally:
        for book in books:
            book.close()
    return Exit.DONE


def _journals(folder: str) -> list[Path]:
    found = sorted(Path(folder, ".cosy-job").glob("journal*.sqlite"))
    if not found:
        raise Stop(f"{folder}: no job was run into this folder")
    return found
