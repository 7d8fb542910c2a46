"""`cosy-sync job`: many texts into a folder, stopped and continued at any time."""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

from cosy_sync.cli.console import emit
from cosy_sync.cli.exits import CODES, Exit, Stop
from cosy_sync.cli.job_run import parse_shard, run, write_report
from cosy_sync.cli.options import add_cache, add_service_options, number
from cosy_sync.cli.report.figures import count, speech
from cosy_sync.jobs import FORMATS, merge_manifests, sums
from cosy_sync.jobs.journal import Journal, State
from cosy_sync.jobs.manifest import EXPORTS, export

__all__ = ["add_parser"]

_EXAMPLES = """\
examples:
  cosy-sync job run texts.jsonl --to speech          speak what is not spoken yet
  cosy-sync job run texts.csv --to speech --dry-run  how many, how long, at which price
  cosy-sync job run texts.jsonl --to speech --only-failed
  cosy-sync job run texts.jsonl --to speech --shard 3/16    one of 16 parts, on any machine
  cosy-sync job run texts.jsonl --to speech --shard auto/16   each part that no machine works on
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
    merge.add_argument("folder", metavar="PLACE", help="the job's folder, or s3://bucket/prefix")
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
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that lie there under the texts' names and are not this job's",
    )
    _add_bounds(parser)
    parser.add_argument("--json", action="store_true", help="tell the end as a JSON object")
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    add_service_options(parser)
    add_cache(parser)
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
        type=parse_shard,
        metavar="K/N",
        help="speak only the K-th of N parts, or with auto/N one after the other all that are free "
        "(default: all; in a Slurm array, the task's part)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument(
        "--price-per-10k-chars",
        type=number(float, 0, 10**6),
        metavar="X",
        help="with --dry-run: what the service takes for 10 000 characters",
    )


def _refuse_none(args: argparse.Namespace) -> int:
    raise Stop("say what to do: cosy-sync job run, status, report, merge or export")


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
        emit(str(write_report(path, Path(args.folder))))
    return Exit.DONE


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
    for place in (Path(folder, ".cosy-job"), Path(folder)):
        if found := sorted(place.glob("journal*.sqlite")):
            return found
    raise Stop(f"{folder}: no job was run into this folder; of one into a bucket, give --journal's")
