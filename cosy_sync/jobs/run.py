"""`run_job`: a job from its input to its manifest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from cosy_sync import ConfigError, CosyClient, Recording
from cosy_sync.jobs.inputs import JobText, read_texts
from cosy_sync.jobs.job import Job, JobCounts, JobOptions
from cosy_sync.jobs.journal import Journal
from cosy_sync.jobs.lease import Lease
from cosy_sync.jobs.manifest import write_manifest
from cosy_sync.storage import Bucket, LocalStore, Sink, open_store

__all__ = ["JobResult", "is_finished", "journal_path", "part_of", "run_job"]

# Files; or the texts themselves.
Input = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[JobText]


@dataclass(frozen=True)
class JobResult:
    """What one run of a job has done. `wall` in seconds; `stopped`: why it ended early, if it did;
    `limited`: there is more than the limit of this run allowed.

    `manifest` lists every text that was spoken or failed, in this run or before; `journal` is the
    file that knows the rest.
    """

    counts: JobCounts
    wall: float
    stopped: str
    limited: bool
    manifest: Path
    journal: Path

    @property
    def complete(self) -> bool:
        """Return whether every text has its sound that this run was to speak."""
        lost = self.counts.failed or self.counts.refused or self.counts.unsent
        return not self.stopped and not lost


def run_job(
    texts: Input,
    to: str | os.PathLike[str] | Sink,
    client: CosyClient,
    options: JobOptions | None = None,
    *,
    tell: Callable[[JobCounts], object] = lambda counts: None,
    started: Callable[[Job], object] = lambda job: None,
) -> JobResult:
    """Speak every text that is not spoken yet, and store the sounds.

    It can be stopped at any instant, also by kill -9, and run again: what is stored is not spoken
    twice, but for texts that were in flight. A text whose words have changed is spoken anew; texts
    of the same words are spoken once.

    Args:
        texts: a file or a list of files as `read_texts` takes them, or an iterable of JobText.
        to: a folder, or a store.
        client: speaks; it is not closed.
        options: what to do of it, and when to end.
        tell: called with the counts after each text.
        started: called with the Job, whose `stop` ends it in good order.

    Raises ConfigError for an input that is wrong or a folder of another job, its child JobIsBusy
    where another process or machine works on it, OSError where sounds cannot be stored, and the
    CosyError that every further text would meet.
    """
    begun = time.monotonic()
    sink: Sink = open_store(to) if isinstance(to, (str, os.PathLike)) else to
    options = options or JobOptions()
    files = _files(texts)
    if files is not None:
        options = replace(options, whole="-" not in files)
    place = journal_path(sink, options.journal, options.shard)
    with closing(Journal(place)) as book:
        if isinstance(sink, LocalStore) and sink is not to:
            # Only now, as the journal is locked, are parts that lie there surely nobody's. They are
            # on the sounds' disk; the journal may be on another.
            sink = LocalStore(sink.path, scratch=sink.path / ".cosy-job" / f"{_owner(book)}.parts")
        _check_identity(book, _name(options.name, files), client, place)
        source = _texts(texts) if files is None else read_texts(files, options.input_format)
        manifest = _manifest_path(place, options.shard)
        with _held(sink, book, options) as lease:
            job = Job(client, sink, book, options, tell, lease)
            started(job)
            _run(job, source, book, sink, manifest)
            if not (job.stopped or job.limited or job.counts.unsent or options.only_failed):
                book.note("finished", "yes")
    return JobResult(
        job.counts, time.monotonic() - begun, job.stopped, job.limited, manifest, place
    )


@contextmanager
def _held(sink: Sink, book: Journal, options: JobOptions) -> Iterator[Lease | None]:
    """Hold the lease of a job in a bucket, or of its shard; a folder's journal is locked itself.

    Raises JobIsBusy where another machine holds it.
    """
    book.note("finished", "")
    if not isinstance(sink, Bucket):
        yield None
        return
    lease = Lease(sink, part_of(options.shard), _owner(book))
    lease.take()
    try:
        yield lease
    finally:
        with suppress(OSError):
            lease.give_back(done=is_finished(book))


def _owner(book: Journal) -> str:
    """Return what stands for a journal, and for no other."""
    owner = book.fact("owner")
    if owner is None:
        owner = uuid4().hex
        book.note("owner", owner)
    return owner


def is_finished(book: Journal) -> bool:
    """Return whether the latest run came to the end of its input."""
    return book.fact("finished") == "yes"


def _run(job: Job, texts: Iterator[JobText], book: Journal, sink: Sink, manifest: Path) -> None:
    try:
        job.run(texts)
    except BaseException:
        with suppress(OSError):
            _list(job, book, sink, manifest)
        raise
    _list(job, book, sink, manifest)


def _list(job: Job, book: Journal, sink: Sink, manifest: Path) -> None:
    counts = job.counts
    local = isinstance(sink, LocalStore)
    if local and manifest.exists() and not counts.spoken + counts.linked + counts.failed:
        return  # a job that was done before is not listed again
    write_manifest(book.rows(), manifest)
    if not local:
        sink.put_file(manifest.name, manifest, {"content-type": "application/jsonl"})


def part_of(shard: tuple[int, int] | None) -> str:
    """Return how the files of a shard are called, after the name that those of the job have."""
    return "" if shard is None else f"-{shard[0]}-of-{shard[1]}"


def journal_path(
    sink: Sink, folder: str | os.PathLike[str] | None, shard: tuple[int, int] | None
) -> Path:
    """Return where the journal of a job, or of one of its shards, lies.

    Raises ConfigError for a store that is no folder, where `folder` must say it.
    """
    if folder is not None:
        base = Path(folder)
    elif isinstance(sink, LocalStore):
        base = sink.path / ".cosy-job"
    else:
        raise ConfigError(
            "journal: a bucket cannot hold it; give a folder of this machine (--journal DIR)"
        )
    return base / f"journal{part_of(shard)}.sqlite"


def _manifest_path(journal: Path, shard: tuple[int, int] | None) -> Path:
    if journal.parent.name != ".cosy-job":
        return journal.with_name(journal.name.replace("journal", "manifest")).with_suffix(".jsonl")
    return journal.parent.parent / f"manifest{part_of(shard)}.jsonl"


def _files(texts: object) -> list[str] | None:
    if isinstance(texts, (str, os.PathLike)):
        return [os.fspath(texts)]
    if isinstance(texts, (list, tuple)) and texts and isinstance(texts[0], (str, os.PathLike)):
        return [os.fspath(path) for path in texts]
    return None


def _texts(texts: Any) -> Iterator[JobText]:
    for number, text in enumerate(texts, 1):
        if not isinstance(text, JobText):
            raise ConfigError(
                f"texts: expected JobText('a1', '你好'), found {type(text).__name__} as number "
                f"{number}"
            )
        yield text


def _name(name: str | None, files: list[str] | None) -> str:
    # Packed or not, it is the same input.
    return name or ",".join(Path(path).name.removesuffix(".gz") for path in files or ["texts"])


def _check_identity(book: Journal, name: str, client: CosyClient, place: Path) -> None:
    """Note what job this is. Raises ConfigError where sounds of another one are there."""
    mine = {"name": name, **_manner(client)}
    known = json.loads(book.fact("job") or "{}")
    other = next((key for key, value in mine.items() if known.get(key, value) != value), None)
    if other is not None and book.ask("SELECT 1 FROM texts WHERE state = 1 LIMIT 1"):
        hint = f"name it {known[other]!r} to go on with it, or " if other == "name" else ""
        raise ConfigError(
            f"{place.parent}: holds a job whose {other} is {known[other]!r}, and this one's is "
            f"{mine[other]!r}; {hint}choose another folder"
        )
    if known != mine:
        book.note("job", json.dumps(mine, ensure_ascii=False))


def _manner(client: CosyClient) -> dict[str, Any]:
    """Return how a client speaks: with another value every text would be spoken anew."""
    config, voice = client.config, client.config.voice
    recording = None if voice is None else voice.reference
    return {
        "wire": config.wire,
        "model": config.model or "",
        "format": config.format,
        "voice": "" if voice is None else voice.name or "a recording",
        "recording": recording.digest[:16] if isinstance(recording, Recording) else "",
        "instruction": (voice.instruction if voice else None) or "",
        "speed": config.speed,
        "sample_rate": config.sample_rate,
        "extra": json.dumps(dict(config.extra), sort_keys=True, default=repr),
    }
