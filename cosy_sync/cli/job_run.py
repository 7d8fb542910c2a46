"""`cosy-sync job run`: speaks a job's texts, tells how it goes, and what became of them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cosy_sync import ConfigError, CosyClient, CosyError
from cosy_sync.cli.console import Screen, emit, say
from cosy_sync.cli.exits import Exit, Stop, because, meaning
from cosy_sync.cli.heap import give_back_large_blocks
from cosy_sync.cli.options import make_client
from cosy_sync.cli.report.figures import count, duration, speech
from cosy_sync.cli.report.job import job_page
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.target import write_whole
from cosy_sync.jobs import Job, JobCounts, JobOptions, JobResult, read_texts, run_job
from cosy_sync.jobs.journal import Journal
from cosy_sync.jobs.plan import Plan, plan_job
from cosy_sync.jobs.shards import Shard, is_shard_finished, take_shards
from cosy_sync.storage import open_store

__all__ = ["parse_shard", "run", "shard_of_slurm", "write_report"]


# Seconds between two lines on the way, where no bar can be drawn.
_MINUTE = 60.0


def parse_shard(text: str) -> Shard:
    """Return the part that K/N or auto/N means; (0, N) is any that is free."""
    try:
        first, of = (int(part) for part in text.replace("auto", "0", 1).split("/"))
    except ValueError:
        first, of = 1, 0
    if not (0 if text.startswith("auto") else 1) <= first <= of or of < 1:
        raise argparse.ArgumentTypeError(
            "must be like 3/16, the third of sixteen parts, or auto/16, all that are free"
        )
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


def run(args: argparse.Namespace) -> int:
    """Run a job as the options say; return the exit code. Raises Stop and CosyError."""
    options = JobOptions(
        name=args.job_name,
        journal=args.journal,
        input_format=args.input_format,
        only_failed=args.only_failed,
        limit=None if args.limit is None else int(args.limit),
        max_errors=None if args.max_errors is None else int(args.max_errors),
        within=args.within,
        shard=args.shard or shard_of_slurm(os.environ),
        overwrite=args.overwrite,
    )
    give_back_large_blocks()
    silence = Silence()
    with make_client(args, observers=[silence]) as client:
        if args.dry_run:
            return _tell_plan(*_plan(args, client, options), args)
        with Screen(bar=not args.no_progress, trouble=silence.words, lines=_MINUTE) as screen:
            run = _Run(args, screen)
            try:
                with run.stoppable():
                    results = list(run.results(client, options))
            except (CosyError, OSError, KeyboardInterrupt) as error:
                raise run.ended(error) from error
            return run.close(results)


def _plan(
    args: argparse.Namespace, client: CosyClient, options: JobOptions
) -> tuple[Plan, list[str]]:
    """Return what a run would do, and the fields of the input that mean nothing."""
    if options.shard is not None and options.shard[0] == 0:
        raise Stop("--dry-run: give one part (--shard 3/16), or none for the whole job")
    unused: set[str] = set()
    texts = read_texts(args.input, args.input_format, unused=unused)
    return plan_job(texts, args.to, client, options), sorted(unused)


class _Run:
    """What the user sees of a run, and how he ends it."""

    def __init__(self, args: argparse.Namespace, screen: Screen) -> None:
        self._args = args
        self._screen = screen
        self._job: Job | None = None
        self._running = False
        self._pressed = False
        self._begun = time.monotonic()
        self._counts = JobCounts()
        # When the first text of this run was spoken.
        self._speaking: float | None = None
        screen.pace = self.pace

    def results(self, client: CosyClient, options: JobOptions) -> Iterator[JobResult]:
        """Run the job, its shard, or all shards that are free; yield the result of each."""

        def run(shard: Shard | None) -> JobResult:
            given = dataclasses.replace(options, shard=shard)
            where = (self._args.input, self._args.to, client, given)
            try:
                return run_job(*where, tell=self.tell, started=self.begin)
            finally:
                self._running = False

        if options.shard is None or options.shard[0] > 0:
            yield run(options.shard)
            return
        sink = open_store(self._args.to)
        parts = take_shards(
            options.shard[1], run, lambda shard: is_shard_finished(sink, options, shard)
        )
        for result in parts:
            yield result
            if result.stopped or result.limited:
                return

    def begin(self, job: Job) -> None:
        """Know the job, to stop it."""
        self._job = job
        self._running = True

    def tell(self, counts: JobCounts) -> None:
        """Draw the bar."""
        self._counts = counts
        if self._speaking is None and counts.spoken:
            self._speaking = time.monotonic()
        self._screen.total = max(counts.read, counts.done) or None
        self._screen.draw(counts.done)

    def pace(self) -> str:
        """Say how fast it goes, how long the rest takes, and what failed."""
        counts = self._counts
        if self._speaking is None:
            return "looking at what is done"
        rate = counts.spoken / max(time.monotonic() - self._speaking, 1.0)
        left = max(0, counts.read - counts.done) / rate
        words = [f"{rate:.0f}/s", f"{duration(left)} left", f"{speech(counts.seconds)} of speech"]
        words += [f"{count(lost)} x {name}" for name, lost in sorted(counts.errors.items())]
        return ", ".join(words)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM finish what is in flight; the second one breaks off. One that
        somebody ignores, as the shell of a script does for what runs behind it, stays so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        both, left = (signal.SIGINT, signal.SIGTERM), (None, signal.SIG_IGN)
        before = {
            each: signal.signal(each, self._press)
            for each in both
            if signal.getsignal(each) not in left
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._job is None or self._pressed or not self._running:
            raise KeyboardInterrupt
        self._pressed = True
        self._job.stop("interrupted")
        self._screen.say("cosy-sync: finishing what is in flight; once more breaks it off")

    def ended(self, error: BaseException) -> Stop:
        """Return how the command ends by an error, with what was kept."""
        self._screen.close()
        code, words = meaning(error)
        if isinstance(error, OSError) and not isinstance(error, CosyError):
            code, words = Exit.USAGE, f"{self._place(error)}{because(error)}"
        counts = self._job.counts if self._job is not None else JobCounts()
        # A wrong input that was found before anything was sent is wrong usage.
        nothing = isinstance(error, ConfigError) and counts.done == counts.skipped
        if counts.read and not nothing:
            if self._args.json:
                wall = time.monotonic() - self._begun
                emit(_as_json(counts, wall=wall, stopped=words, manifest=None))
            words += f"; {_kept(counts)} in {self._args.to}. To go on, run this again"
            code = Exit.FAILED if code == Exit.USAGE else code
        return Stop(words, code)

    def _place(self, error: OSError) -> str:
        """Say what could not be written; a file's temporary name tells nobody anything."""
        if error.errno is None:
            return ""  # one of ours, whose words name it
        name = str(error.filename or "")
        return f"{self._args.to if not name or name.endswith('.part') else name}: "

    def close(self, results: list[JobResult]) -> int:
        """Tell the end; return the exit code."""
        self._screen.close()
        folder = Path(self._args.to)
        counts = _sum(result.counts for result in results)
        wall = sum(result.wall for result in results)
        for result in results:
            if result.counts.spoken + result.counts.failed and folder.is_dir():
                with suppress(OSError):
                    write_report(result.journal, folder)
            for name, lost in sorted(result.counts.errors.items()):
                say(f"cosy-sync: {count(lost)} x {name}; see {result.manifest}")
        for key in counts.replaced:
            say(f"cosy-sync: the text of {key} has changed; its sound was replaced")
        stopped = next((result.stopped for result in results if result.stopped), None)
        if self._args.json:
            manifest = ", ".join(str(result.manifest) for result in results)
            emit(_as_json(counts, wall=wall, stopped=stopped, manifest=manifest))
        else:
            emit(
                f"{_kept(counts)} in {self._args.to}: {speech(counts.seconds)} of speech in "
                f"{duration(wall)}"
            )
        if stopped:
            say(f"cosy-sync: {stopped}; to go on, run this again")
        elif any(result.limited for result in results):
            say("cosy-sync: the limit is reached; to go on, run this again")
        if self._pressed:
            return Exit.INTERRUPTED
        return Exit.DONE if all(result.complete for result in results) else Exit.FAILED


def _as_json(counts: JobCounts, *, wall: float, **end: str | None) -> str:
    facts = {**dataclasses.asdict(counts), "wall": round(wall, 3), **end}
    return json.dumps(facts, ensure_ascii=False)


def _sum(parts: Iterable[JobCounts]) -> JobCounts:
    total = JobCounts()
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, dict):
                for error, lost in value.items():
                    total.errors[error] = total.errors.get(error, 0) + lost
            else:
                setattr(total, name, getattr(total, name) + value)
    total.replaced = total.replaced[:10]
    return total


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


def _tell_plan(plan: Plan, unused: list[str], args: argparse.Namespace) -> int:
    price = args.price_per_10k_chars
    cost = None if price is None else round(plan.open_characters / 10_000 * price, 2)
    if args.json:
        more = {"minutes": plan.minutes, "cost": cost, "unused": unused}
        emit(json.dumps({**dataclasses.asdict(plan), **more}, ensure_ascii=False))
        return Exit.DONE
    emit(
        f"{count(plan.texts)} texts, {count(plan.characters)} characters; "
        f"{count(plan.done)} are done, {count(plan.shared)} have the words of another"
        f"{_cached(plan)}{_left_out(plan)}; to speak: {count(plan.open)} texts, "
        f"{count(plan.open_characters)} characters"
    )
    if plan.minutes is None:
        emit("how long it takes is not known before some of it was run: try --limit 200")
    else:
        emit(f"some {plan.minutes:.1f} minutes at {plan.rate:.1f} texts/s, as in the latest run")
    if cost is not None:
        emit(f"cost: {cost:.2f} at {price:g} for 10 000 characters")
    if args.limit is not None and args.limit < plan.open:
        emit(f"--limit: a run speaks {count(int(args.limit))} of these; time and cost are of all")
    if unused:
        emit(f"fields of the input that are not used: {', '.join(unused)}")
    return Exit.DONE


def _cached(plan: Plan) -> str:
    if not plan.cached:
        return ""
    share = 100 * plan.cached / (plan.cached + plan.open)
    return f", {count(plan.cached)} are in the cache ({share:.0f} % of what is left)"


def _left_out(plan: Plan) -> str:
    words = ""
    if plan.refused:
        words += f", {count(plan.refused)} were refused before (--only-failed tries them again)"
    if plan.unsent:
        words += f", {count(plan.unsent)} were not tried yet, which --only-failed leaves out"
    return words


def write_report(journal: Path, folder: Path) -> Path:
    """Write the page on a job into a folder; return its path. Raises OSError."""
    book = Journal(journal, reading=True)
    try:
        page = job_page(book, folder, json.loads(book.fact("job") or "{}").get("name", ""))
    finally:
        book.close()
    place = folder / f"{journal.stem.replace('journal', 'report')}.html"
    write_whole(place, page)
    return place
