"""A job: texts in, sounds in a store, and a journal by which it goes on after any end."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

from cosy_sync import (
    Audio,
    BadRequestError,
    CosyClient,
    CosyError,
    InvalidTextError,
    TextError,
)
from cosy_sync.jobs.committer import Committer, is_stored
from cosy_sync.jobs.foreign import refuse_foreign
from cosy_sync.jobs.identity import TextDigest, is_mine
from cosy_sync.jobs.inputs import JobText, check_text
from cosy_sync.jobs.journal import Journal, Row, State
from cosy_sync.jobs.lease import Lease
from cosy_sync.jobs.names import key_of
from cosy_sync.jobs.speaker import Speaker
from cosy_sync.jobs.trickle import Trickle
from cosy_sync.storage import LocalStore, Sink, Stored

__all__ = ["Job", "JobCounts", "JobOptions", "is_final"]

# Texts that are entered into the journal together, at most; threads that store sounds, and how many
# sounds may wait for them.
_ENTERED = 1_000
_STORING = 16
_WAITING_SOUNDS = 256
# Texts that wait for another one of the same words.
_MOST_FOLLOWERS = 10_000
# Failures one after the other, none of them the text's own, after which the service is given up.
_HOPELESS = 200
# Failures that another run would meet again.
_FINAL = (InvalidTextError, TextError, BadRequestError)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a job is called, what a run does of it, and when the run ends."""

    name: str | None = None
    """What the job is called; a folder that holds another one is refused. None: as its files
    are."""
    input_format: str | None = None
    """One of FORMATS; None: as each file's name says."""
    journal: str | os.PathLike[str] | None = None
    """The folder of the journal; None: `.cosy-job` in the folder of the sounds."""

    only_failed: bool = False
    """Speak only what failed in earlier runs, also what the service refused for good."""
    limit: int | None = None
    """Texts to speak in this run; None for all."""
    max_errors: int | None = None
    """Failures after which the run ends; None for no limit."""
    within: float | None = None
    """Seconds after which nothing more is sent; None for no limit."""
    whole: bool = True
    """Read the whole input before the first text is spoken; not for one that may have no end."""
    shard: tuple[int, int] | None = None
    """(2, 16): the second of sixteen parts, by the ids' hashes; None for everything."""
    overwrite: bool = False
    """Replace files that lie in the folder under the texts' names and are not this job's."""


@dataclass
class JobCounts:
    """What a run has done so far: numbers of texts, `seconds` of sound.

    `skipped` were done before; `refused` failed for good before, and are not tried again; `linked`
    have the words of another text and share its sound; `unsent` were given up before anything was
    sent for them; `replaced` are the keys whose text has changed since an earlier run, the first
    ten of `changed`.
    """

    read: int = 0
    spoken: int = 0
    linked: int = 0
    skipped: int = 0
    failed: int = 0
    refused: int = 0
    unsent: int = 0
    changed: int = 0
    seconds: float = 0.0
    replaced: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Return how many texts of the input have been dealt with."""
        return self.spoken + self.linked + self.skipped + self.failed + self.refused + self.unsent


class Job:
    """One run of a job. Use `run` once; `stop` may be called by any thread, or a signal's handler.

    Args:
        client: speaks; it stays the caller's.
        sink: where the sounds go.
        journal: what is known of the job's texts.
        tell: called after each text, on the thread that runs.
        lease: of a job in a bucket; once it is lost, nothing more is sent.
    """

    def __init__(
        self,
        client: CosyClient,
        sink: Sink,
        journal: Journal,
        options: JobOptions,
        tell: Callable[[JobCounts], object] = lambda counts: None,
        lease: Lease | None = None,
    ) -> None:
        self.counts = JobCounts()
        self._client = client
        self._sink = sink
        self._journal = journal
        self._options = options
        self._tell = tell
        self._digest_of = TextDigest(client)
        self._speaker = Speaker(client, self._digest_of)
        self._committer = Committer(journal, sink)
        self._storing = ThreadPoolExecutor(_STORING, "cosy-store")
        self._room = threading.Semaphore(_WAITING_SOUNDS)
        self._until = time.monotonic() + options.within if options.within is not None else None
        self._stopped = ""
        # Whether there is more to speak than `limit` allowed.
        self.limited = False
        self._lease = lease
        self._adopts = _may_adopt(sink, lease)
        # Failures since the last success.
        self._streak = 0

    def stop(self, why: str) -> None:
        """Send nothing more than what was read ahead."""
        self._stopped = self._stopped or why

    @property
    def stopped(self) -> str:
        """Return why the run ended before the input did; nothing if it did not."""
        return self._stopped

    def run(self, texts: Iterable[JobText]) -> JobCounts:
        """Speak what is not done yet; return what was.

        Raises the error that every further text would meet, OSError where the store or the journal
        cannot be written, ConfigError for an input that is wrong; what was done before is kept.
        """
        self._committer.start()
        outcomes = self._speaker.outcomes(self._feed(texts))
        try:
            for row, outcome in outcomes:
                if outcome.audio is not None:
                    self._keep(row, outcome.audio)
                else:
                    assert outcome.error is not None
                    self._lose(row, outcome.error)
                self._committer.check()
                self._tell(self.counts)
        finally:
            try:
                outcomes.close()
                self._storing.shutdown()
            finally:  # a second Ctrl-C does not lose what is stored
                self._committer.close()
                self._count_linked()
        self._committer.check()
        return self.counts

    # -- in ---------------------------------------------------------------------------------------

    def _feed(self, texts: Iterable[JobText]) -> Iterator[Row | None]:
        sent = 0
        for row in self._open_rows(texts):
            if self._must_stop():
                return
            if row is not None:
                if self._options.limit is not None and sent >= self._options.limit:
                    self.limited = True
                    return
                if self._committer.follow(row, _MOST_FOLLOWERS):
                    continue
                sent += 1
            yield row

    def _must_stop(self) -> bool:
        if self._until is not None and time.monotonic() >= self._until:
            self.stop(f"the {self._options.within:g} s are over")
        if self._lease is not None and self._lease.lost:
            self.stop(self._lease.lost)
        return bool(self._stopped)

    def _open_rows(self, texts: Iterable[JobText]) -> Iterator[Row | None]:
        """Enter texts into the journal, and yield the rows of those that are to be spoken.

        A whole input is entered first: what is wrong with its last line shows before anything is
        spoken. Of one that may have no end, what is at hand is; None says that there is no more.
        """
        if not self._options.whole:
            with Trickle(texts, _ENTERED) as chunks:
                for chunk in chunks:
                    rows = self._journal.rows_of(self._enter(chunk))
                    self._refuse_foreign(rows)
                    yield from self._open_ones(rows)
                    if not chunk:
                        yield None
            return
        source = iter(texts)
        while chunk := list(islice(source, _ENTERED)):
            self._enter(chunk)
            if self._stopped:
                return
        self._journal.forget_missing()
        self._refuse_foreign(self._journal.rows(run=self._journal.run))
        entered = self._journal.rows(run=self._journal.run)
        while group := list(islice(entered, _ENTERED)):
            yield from self._open_ones(group)

    def _refuse_foreign(self, rows: Iterable[Row]) -> None:
        given, whole = () if self._options.overwrite else rows, self._options.whole
        refuse_foreign(self._sink, self._journal, given, self._client.config.format, whole=whole)

    def _enter(self, given: list[JobText]) -> list[str]:
        for text in given:
            check_text(text)
        texts = [text for text in given if is_mine(text.id, self._options.shard)]
        for before in self._journal.enter([(text, self._digest_of(text)) for text in texts]):
            if before.state == State.DONE:
                self._note_change(before)
        self.counts.read += len(texts)
        self._tell(self.counts)
        return [text.id for text in texts]

    def _open_ones(self, rows: list[Row]) -> Iterator[Row]:
        """Yield the rows that are to be spoken; take over sounds that another machine has put into
        the bucket."""
        rows = [row for row in rows if self._is_open(row)]
        if not self._adopts:
            yield from rows
            return
        ending = self._client.config.format
        keys = [key_of(row.id, ending) for row in rows]
        heads = self._storing.map(self._sink.head, keys)
        for row, key, found in zip(rows, keys, heads, strict=True):
            if found is not None and found.meta.get("digest") == row.digest.hex():
                self._committer.adopt(_done(row, key, found))
                self.counts.skipped += 1
            else:
                yield row

    def _is_open(self, row: Row) -> bool:
        """Return whether a text is to be spoken; count it if not."""
        if row.state == State.FAILED and row.final and not self._options.only_failed:
            self.counts.refused += 1
            return False
        if self._options.only_failed and row.state != State.FAILED:
            self.counts.skipped += row.state == State.DONE
            self.counts.unsent += row.state == State.WAITING
            return False
        wanted = row.state != State.DONE or not is_stored(self._sink, row)
        self.counts.skipped += not wanted
        return wanted

    def _note_change(self, before: Row) -> None:
        self.counts.changed += 1
        if before.key is not None and len(self.counts.replaced) < 10:
            self.counts.replaced.append(before.key)

    # -- out --------------------------------------------------------------------------------------

    def _keep(self, row: Row, audio: Audio) -> None:
        self._streak = 0
        self.counts.spoken += 1
        self.counts.seconds += audio.duration
        self._room.acquire()
        self._storing.submit(self._store, row, audio)

    def _store(self, row: Row, audio: Audio) -> None:
        try:
            key = key_of(row.id, audio.format)
            data = bytes(audio.data)
            facts = {
                "content-type": _TYPES.get(audio.format, "application/octet-stream"),
                "digest": row.digest.hex(),
                "seconds": f"{audio.duration:.6f}",
                "sample-rate": str(audio.sample_rate),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            kept = self._put(key, data, facts)
            timing = audio.timing
            self._committer.add(
                replace(
                    _done(row, key, kept),
                    attempts=timing.attempts if timing else None,
                    endpoint=timing.endpoint if timing else None,
                    latency=round(timing.total, 4) if timing else None,
                )
            )
        except BaseException as error:
            self._committer.fail(error)
        finally:
            self._room.release()

    def _put(self, key: str, data: bytes, facts: Mapping[str, str]) -> Stored:
        """Store a sound, unless another process has stored one of this text meanwhile; return what
        is stored."""
        if isinstance(self._sink, LocalStore):
            self._sink.put(key, data)  # the journal knows that it may be replaced
        elif not self._sink.put(key, data, facts, if_absent=True):
            found = self._sink.head(key)
            if found is not None and found.meta.get("digest") == facts["digest"]:
                return found
            self._sink.put(key, data, facts, if_absent=False)
        return Stored(len(data), facts)

    def _lose(self, row: Row, error: CosyError) -> None:
        name = type(error).__name__
        self.counts.errors[name] = self.counts.errors.get(name, 0) + 1
        final = is_final(error)
        self._streak = 0 if final else self._streak + 1
        if _was_sent(error):
            self.counts.failed += 1
            told = json.dumps(error.with_details(index=None).to_dict(), ensure_ascii=False)
            self._committer.add(
                replace(
                    row,
                    state=State.FAILED,
                    final=int(final),
                    attempts=error.attempt_count,
                    finished=time.time(),
                    error=told,
                )
            )
        else:
            self.counts.unsent += 1
            self._committer.forget(row)
        if error.hopeless or self._streak >= _HOPELESS:
            raise error
        most = self._options.max_errors
        if most is not None and self.counts.failed > most:
            self.stop(f"more than {most} texts failed")

    def _count_linked(self) -> None:
        self.counts.spoken -= self._committer.unkept
        self.counts.linked = self._committer.linked
        self.counts.failed += self._committer.lost


def _may_adopt(sink: Sink, lease: Lease | None) -> bool:
    """Return whether the store may hold sounds that the journal knows nothing of."""
    if isinstance(sink, LocalStore) or (lease is not None and not lease.is_new_here):
        return False
    return any(not key.startswith(".") for key in sink.keys(""))


def _done(row: Row, key: str, stored: Stored) -> Row:
    facts = stored.meta
    return replace(
        row,
        state=State.DONE,
        final=0,
        key=key,
        size=stored.size,
        seconds=float(facts.get("seconds", 0.0)),
        rate=int(facts.get("sample-rate", 0)),
        sha256=facts.get("sha256"),
        finished=time.time(),
        error=None,
    )


_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}


def is_final(error: CosyError) -> bool:
    """Return whether another run would meet the error again. One that a text met alone, as a key
    was refused or used up, is the key's: other texts had been spoken with it before."""
    return isinstance(error, _FINAL) and getattr(error, "status", None) not in (401, 402, 403)


def _was_sent(error: CosyError) -> bool:
    return isinstance(error, InvalidTextError) or any(e.sent for e in (*error.attempts, error))
