"""A job: nothing spoken twice, nothing lost, whatever ends it."""

import errno
import hashlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import AuthError, ConfigError, CosyClient, Endpoint, RetryConfig, TextError
from cosy_sync.cli.report.job import job_page
from cosy_sync.jobs import (
    Job,
    JobIsBusy,
    JobOptions,
    JobResult,
    JobText,
    merge_manifests,
    run_free_shards,
    run_job,
    shards,
    speak_shard,
    sums,
)
from cosy_sync.jobs.job import is_final
from cosy_sync.jobs.journal import Journal, State
from cosy_sync.jobs.names import key_of
from cosy_sync.jobs.shards import take_shards
from cosy_sync.server import Server, tone_wav
from cosy_sync.storage import LocalStore, local


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[CosyClient]:
    with CosyClient(Endpoint(server.url, rate=None), retry=RetryConfig(max_retries=0)) as made:
        yield made


@pytest.fixture
def job(tmp_path: Path, client: CosyClient) -> "Folder":
    return Folder(tmp_path, client)


class Folder:
    """A job's input and folder."""

    def __init__(self, path: Path, client: CosyClient) -> None:
        self.input = path / "in.jsonl"
        self.out = path / "out"
        self.client = client

    def write(self, texts: dict[str, str]) -> None:
        rows = (json.dumps({"id": id, "text": text}) for id, text in texts.items())
        self.input.write_text("\n".join(rows), encoding="utf-8")

    def run(self, **options: Any) -> JobResult:
        started = options.pop("started", lambda job: None)
        given = JobOptions(**options)
        return run_job(self.input, self.out, client=self.client, options=given, started=started)

    def sounds(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in self.out.glob("*/*.wav")}

    def manifest(self) -> list[dict[str, Any]]:
        lines = (self.out / "manifest.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]


TEXTS = {f"t{number}": f"第{number}句话，今天好。" for number in range(200)}


def test_every_text_gets_its_sound_and_its_line(job: Folder) -> None:
    job.write(TEXTS)
    result = job.run()
    assert result.complete and result.counts.spoken == 200
    assert job.sounds() == {id: tone_wav(text) for id, text in TEXTS.items()}
    rows = job.manifest()
    assert [row["id"] for row in rows] == list(TEXTS)
    for row in rows:
        data = (job.out / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert row["bytes"] == len(data) and row["text"] == TEXTS[row["id"]]


def test_a_finished_job_sends_nothing(job: Folder) -> None:
    job.write(TEXTS)
    job.run()
    before = job.client.stats().requests
    result = job.run()
    assert result.complete and result.counts.skipped == 200
    assert job.client.stats().requests == before


def test_texts_of_the_same_words_are_spoken_once(job: Folder) -> None:
    job.write({f"t{number}": f"第{number % 7}句话，今天好。" for number in range(200)})
    result = job.run()
    assert result.complete and result.counts.spoken == 7 and result.counts.linked == 193
    assert job.client.stats().texts_ok == 7
    assert len(job.sounds()) == 200 == len(job.manifest())
    job.write({"new": "第3句话，今天好。"})
    assert job.run().counts.linked == 1
    assert job.client.stats().texts_ok == 7


def test_a_changed_text_is_spoken_anew_and_its_sound_named(job: Folder) -> None:
    job.write(TEXTS)
    job.run()
    job.write({**TEXTS, "t5": "换了一句话，真好。"})
    result = job.run()
    assert result.counts.spoken == 1 and result.counts.changed == 1
    assert [Path(key).name for key in result.counts.replaced] == ["t5.wav"]
    assert job.sounds()["t5"] == tone_wav("换了一句话，真好。")
    assert [row["text"] for row in job.manifest() if row["id"] == "t5"] == ["换了一句话，真好。"]


def test_a_sound_that_is_gone_or_torn_is_spoken_anew(job: Folder) -> None:
    job.write(TEXTS)
    job.run()
    gone, torn = list(job.out.glob("*/*.wav"))[:2]
    gone.unlink()
    torn.write_bytes(b"RIFF")
    assert job.run().counts.spoken == 2
    assert job.sounds() == {id: tone_wav(text) for id, text in TEXTS.items()}


def test_a_text_is_not_linked_to_a_sound_that_is_gone(job: Folder) -> None:
    job.write({"a": "今天好"})
    job.run()
    next(job.out.glob("*/a.wav")).unlink()
    job.write({"b": "今天好", "c": "今天好"})
    result = job.run()
    assert (result.counts.spoken, result.counts.linked) == (1, 1)
    assert job.sounds() == {"b": tone_wav("今天好"), "c": tone_wav("今天好")}


def test_a_failed_text_is_tried_again_but_not_one_that_was_refused_for_good(job: Folder) -> None:
    job.write({"good": "你好，今天好。", "bad": "坏了[fail]坏了", "empty": "  "})
    first = job.run()
    assert (first.counts.spoken, first.counts.failed, first.complete) == (1, 2, False)
    errors = {row["id"]: row["error"]["type"] for row in job.manifest() if "error" in row}
    assert errors == {"bad": "TextError", "empty": "InvalidTextError"}
    second = job.run()
    assert (second.counts.failed, second.counts.refused, second.complete) == (0, 2, False)
    again = job.run(only_failed=True)
    assert (again.counts.failed, again.counts.skipped) == (2, 1)


def test_a_text_is_not_given_up_for_a_key_that_was_refused_meanwhile() -> None:
    assert is_final(TextError("too long", status=400))
    for status in (401, 402, 403):
        assert not is_final(TextError("others were spoken with this key", status=status))
    assert not is_final(AuthError("wrong key", status=401))


def test_an_id_that_stands_twice_is_refused_before_anything_is_sent(job: Folder) -> None:
    row = json.dumps({"id": "a", "text": "你好"})
    job.input.write_text(f"{row}\n" + '{"id": "b", "text": "好"}\n' + row, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"in\.jsonl, line 3: the id 'a' stands twice"):
        job.run()
    assert job.client.stats().requests == 0
    job.write({"a": "你好吗", "b": "好的好的"})
    assert job.run().complete


def test_a_wrong_last_line_is_told_before_anything_is_sent(job: Folder) -> None:
    job.write(TEXTS)
    job.input.write_text(job.input.read_text("utf-8") + "\n{", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 201: no JSON"):
        job.run()
    assert job.client.stats().requests == 0


def test_another_jobs_folder_is_refused(job: Folder) -> None:
    job.write(TEXTS)
    job.run()
    other = job.input.with_name("other.jsonl")
    other.write_bytes(job.input.read_bytes())
    with pytest.raises(ConfigError, match=r"whose name is 'in\.jsonl'"):
        run_job(other, job.out, client=job.client)
    voiced = job.client.with_options(voice="中文男")
    with pytest.raises(ConfigError, match=r"whose voice is ''.* is '中文男'"):
        run_job(job.input, job.out, client=voiced)
    # Or every sound that was paid for would be replaced.
    with pytest.raises(ConfigError, match=r"whose speed is 1\.0, and this one's is 1\.5; choose"):
        run_job(job.input, job.out, client=job.client.with_options(speed=1.5))
    assert (
        run_job(
            other, job.out, client=job.client, options=JobOptions(name="in.jsonl")
        ).counts.skipped
        == 200
    )


def test_files_that_the_job_did_not_make_are_not_replaced_unasked(job: Folder) -> None:
    job.write(TEXTS)
    job.run(shard=(1, 2))
    mine, before = job.sounds(), job.client.stats().requests
    other = job.out.with_name("journal")
    for options, hint in (
        ({}, "go on with the job that was run here in 2 parts"),
        ({"shard": (1, 3)}, "in 2 parts"),
        ({"journal": other}, "choose another folder, or pass overwrite=True"),
    ):
        for _ in range(2):  # nor by the same line once more
            with pytest.raises(ConfigError, match=r"holds ../t\d+\.wav, which this job .* " + hint):
                job.run(**options)
    assert job.sounds() == mine and job.client.stats().requests == before
    with closing(Journal(job.out / ".cosy-job" / "journal.sqlite", reading=True)) as book:
        assert book.counts() == {}  # or `status` would count texts that wait for nothing
    # The other part is no stranger, and with leave everything is spoken.
    assert job.run(shard=(2, 2)).counts.spoken == 200 - len(mine)
    assert job.run(overwrite=True).counts.spoken == 200
    with pytest.raises(ConfigError, match="run here in 2 parts or undivided"):
        job.run(shard=(1, 3))


def test_texts_that_come_one_by_one_replace_no_file_of_others_either(job: Folder) -> None:
    job.write(TEXTS)
    texts = [JobText(id, text) for id, text in TEXTS.items()]
    foreign = job.out / key_of("t199", "wav")
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"paid for")
    for _ in range(3):
        book = Journal(job.out.with_name("journal.sqlite"))
        with pytest.raises(ConfigError, match=foreign.name):
            Job(job.client, LocalStore(job.out), book, JobOptions(whole=False)).run(texts)
        book.close()
    assert foreign.read_bytes() == b"paid for"


def test_what_a_killed_first_run_left_is_no_stranger(job: Folder) -> None:
    job.write(TEXTS)
    job.run(within=0.0)
    # Stored, and not in the journal yet.
    LocalStore(job.out).put(key_of("t5", "wav"), b"half way")
    assert job.run().counts.spoken == 200


def test_a_folder_without_sounds_belongs_to_no_job_yet(job: Folder) -> None:
    job.write({"a": "[fail]坏了"})
    job.run()
    job.write(TEXTS)
    voiced = job.client.with_options(voice="中文男")
    assert run_job(job.input, job.out, client=voiced).counts.spoken == 200


def test_a_limit_is_kept_and_the_rest_comes_with_the_next_run(job: Folder) -> None:
    job.write(TEXTS)
    first = job.run(limit=30)
    assert first.counts.spoken == 30 and first.limited and first.complete
    assert job.run().counts.spoken == 170
    assert len(job.sounds()) == 200


def test_no_time_at_all_is_a_bound_too(job: Folder) -> None:
    job.write(TEXTS)
    result = job.run(within=0.0)
    assert result.stopped == "the 0 s are over" and not result.complete
    assert result.counts.spoken == job.client.stats().requests == 0


def test_a_job_that_is_stopped_keeps_what_was_in_flight(job: Folder) -> None:
    job.write(TEXTS)
    jobs: list[Job] = []
    result = run_job(
        job.input,
        job.out,
        client=job.client,
        started=jobs.append,
        tell=lambda counts: jobs[0].stop("enough") if counts.spoken >= 1 else None,
    )
    assert result.stopped == "enough" and not result.complete
    assert result.counts.spoken == len(job.sounds()) == len(job.manifest())
    assert job.run().complete


def test_a_run_that_does_not_begin_leaves_no_thread(job: Folder) -> None:
    def refuse(_: Job) -> None:
        raise RuntimeError

    job.write({"a": "你好"})
    with pytest.raises(RuntimeError):
        job.run(started=refuse)
    assert "cosy-journal" not in [thread.name for thread in threading.enumerate()]


def test_ctrl_c_while_the_last_sounds_are_stored_loses_none_that_is(job: Folder) -> None:
    def begin(run: Job) -> None:
        whole = run._storing.shutdown

        def shutdown() -> None:
            whole()
            raise KeyboardInterrupt

        run._storing.shutdown = shutdown  # type: ignore[method-assign]

    job.write({"a": "你好", "b": "再见"})
    with pytest.raises(KeyboardInterrupt):
        job.run(started=begin)
    assert "cosy-journal" not in [thread.name for thread in threading.enumerate()]
    again = job.run()
    assert (again.counts.skipped, again.counts.spoken) == (2, 0)


def test_shards_share_the_texts_out(job: Folder) -> None:
    job.write(TEXTS)
    spoken = [job.run(shard=(number, 3)).counts.spoken for number in (1, 2, 3)]
    assert sum(spoken) == 200 and min(spoken) > 30
    assert job.sounds() == {id: tone_wav(text) for id, text in TEXTS.items()}


def test_the_manifests_of_all_shards_are_merged(job: Folder) -> None:
    job.write(TEXTS)
    with pytest.raises(ConfigError, match="no manifest of a part"):
        merge_manifests(job.out)
    job.run(shard=(1, 3))
    with pytest.raises(ConfigError, match=r"manifests of \[2, 3\] are missing"):
        merge_manifests(job.out)
    job.run(shard=(2, 3))
    job.run(shard=(3, 3))
    assert merge_manifests(job.out) == (str(job.out / "manifest.jsonl"), 200)
    assert {row["id"] for row in job.manifest()} == set(TEXTS)


def test_free_shards_are_run_and_busy_ones_when_their_process_has_died(
    job: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_PAUSE", 0.01)
    job.write(TEXTS)
    place = job.out / ".cosy-job" / "journal-2-of-3.sqlite"
    with holding(place) as other:
        parts = run_free_shards(job.input, job.out, job.client, 3)
        assert next(parts).complete and next(parts).complete and len(job.sounds()) < 200
        other.kill()  # as its machine may: what it held is free then
        assert len(list(parts)) == 1 and len(job.sounds()) == 200


def test_a_shard_that_another_process_has_finished_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shards, "_PAUSE", 0)
    run: list[int] = []
    # Of each shard, what is met one after the other; the latest stays.
    finished = {1: [True], 2: [False, False, True], 3: [False], 4: [False], 5: [True, False, True]}
    busy = {2: 1, 3: 2, 5: 2}

    def try_to_run(shard: tuple[int, int]) -> Any:
        if busy.get(shard[0], 0):
            busy[shard[0]] -= 1
            raise JobIsBusy("in other hands")
        run.append(shard[0])

    def is_finished(shard: tuple[int, int]) -> bool:
        known = finished[shard[0]]
        return known.pop(0) if len(known) > 1 else known[0]

    list(take_shards(5, try_to_run, is_finished))
    # 1 was finished before, and its input may have changed; 2 and 5 were finished elsewhere
    # meanwhile, 3 became free.
    assert sorted(run) == [1, 3, 4]


@contextmanager
def holding(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have another process work on a part, until it is told to end."""
    code = (
        "import sys, pathlib, cosy_sync.jobs.journal as j\n"
        "held = j.Journal(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(place)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        yield other
        other.kill()


def test_a_shard_is_spoken_with_a_client_of_its_own(job: Folder, server: Server) -> None:
    job.write(TEXTS)
    settings = {"url": server.url}
    work = pickle.loads(pickle.dumps((speak_shard, str(job.input), str(job.out), (1, 2), settings)))
    counts = work[0](*work[1:])
    assert counts.spoken == len(job.sounds()) > 50
    assert pickle.loads(pickle.dumps(counts)) == counts


def test_one_process_works_on_a_job_at_a_time(job: Folder) -> None:
    job.write(TEXTS)

    def again(_: Job) -> None:
        code = (
            "import sys, pathlib, cosy_sync.jobs.journal as j; j.Journal(pathlib.Path(sys.argv[1]))"
        )
        place = job.out / ".cosy-job" / "journal.sqlite"
        command = [sys.executable, "-c", code, str(place)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert "another process works on this job now" in second.stderr

    assert job.run(started=again).complete


def test_only_failed_does_not_take_what_waits_for_done(job: Folder) -> None:
    job.write({"bad": "[fail]坏了", **TEXTS})
    job.run(limit=50)
    result = job.run(only_failed=True)
    assert (result.counts.failed, result.counts.skipped, result.counts.unsent) == (1, 49, 151)
    assert not result.complete


def test_a_text_that_left_the_input_without_a_sound_is_forgotten(job: Folder) -> None:
    job.write({"bad": "[fail]坏了", "good": "今天好"})
    assert not job.run().complete
    job.write({"better": "今天真好"})
    assert job.run().complete
    assert [row["id"] for row in job.manifest()] == ["good", "better"]


def test_two_threads_do_not_work_on_one_job_either(job: Folder) -> None:
    job.write(TEXTS)
    met: list[Job] = []

    def again(first: Job) -> None:
        met.append(first)
        with pytest.raises(JobIsBusy):
            job.run()
        link = job.out.with_name("link")
        link.symlink_to(job.out)
        with pytest.raises(JobIsBusy):
            run_job(job.input, link, job.client)

    assert job.run(started=again).complete and len(met) == 1
    assert job.run().complete


def test_a_refused_key_ends_it_at_once(job: Folder) -> None:
    with Server(latency=0, api_key="right") as server:
        job.client = CosyClient(server.url, api_key="wrong")
        with job.client:
            job.write(TEXTS)
            with pytest.raises(AuthError):
                job.run()
        assert server.stats()["texts"] == 0
    assert job.sounds() == {}


class FullStore(LocalStore):
    """Takes so many sounds, then its disk is full."""

    room = 50

    def put(self, key: str, data: bytes, *args: Any, **options: Any) -> bool:
        FullStore.room -= 1
        if FullStore.room < 0:
            raise OSError(28, "No space left on device", key)
        return super().put(key, data, *args, **options)


def test_a_full_disk_ends_it_and_it_goes_on_when_there_is_room(job: Folder) -> None:
    job.write(TEXTS)
    told: list[Job] = []
    with pytest.raises(OSError, match="No space left"):
        run_job(job.input, FullStore(job.out), client=job.client, started=told.append)
    kept = len(job.sounds())
    assert kept == 50
    assert len(job.manifest()) == kept == told[0].counts.spoken
    result = job.run()
    assert result.complete and result.counts.spoken == 150


def test_the_journal_may_be_on_another_disk(job: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job.write({**TEXTS, "same": TEXTS["t1"]})

    def within_a_disk(step: Any) -> Any:
        def checked(source: Path, target: Path) -> None:
            if source.is_relative_to(job.out) != target.is_relative_to(job.out):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            step(source, target)

        return checked

    monkeypatch.setattr(local.os, "replace", within_a_disk(os.replace))
    monkeypatch.setattr(local.os, "link", within_a_disk(os.link))
    result = job.run(journal=job.out.with_name("journal"))
    assert result.counts.spoken == 200 and result.counts.linked == 1
    assert not list(job.out.rglob("*.part"))


def test_a_damaged_journal_says_so(job: Folder) -> None:
    job.write(TEXTS)
    (job.out / ".cosy-job").mkdir(parents=True)
    (job.out / ".cosy-job" / "journal.sqlite").write_bytes(b"x" * 5_000)
    with pytest.raises(ConfigError, match=r"damaged .*the sounds are whole"):
        job.run()


def test_a_journal_of_another_version_is_left_alone(job: Folder) -> None:
    job.write(TEXTS)
    job.run()
    base = sqlite3.connect(job.out / ".cosy-job" / "journal.sqlite")
    with base:
        base.execute("UPDATE facts SET value = '99' WHERE name = 'version'")
    base.close()
    with pytest.raises(ConfigError, match="another version of cosy_sync"):
        job.run()


def test_texts_may_come_from_a_generator(job: Folder) -> None:
    texts = (JobText(id, text) for id, text in TEXTS.items())
    assert run_job(texts, job.out, client=job.client).counts.spoken == 200
    with pytest.raises(ConfigError, match="found str as number 1"):
        run_job(iter(["你好"]), job.out, client=job.client, options=JobOptions(name="texts"))  # type: ignore[arg-type]


def test_a_clock_that_is_set_back_between_two_runs_loses_nothing(
    job: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write(TEXTS)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert job.run(limit=80).counts.spoken == 80
    monkeypatch.setattr(time, "time", lambda: now - 7_200)
    result = job.run()
    assert result.complete and (result.counts.skipped, result.counts.spoken) == (80, 120)
    book = Journal(result.journal, reading=True)
    spans = sums.spans(book)
    assert [last - first for first, last in spans] == [0, 0] and (sums.rate(book) or 1) > 0
    assert "200 of 200 texts" in job_page(book, job.out, "in")
    book.close()


def test_the_journal_of_a_folder_that_nobody_can_write_can_be_read(
    job: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write(TEXTS)
    journal = job.run().journal
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    os.chmod(journal.parent, 0o500)
    try:
        book = Journal(journal, reading=True)
        assert book.counts() == {State.DONE: 200}
        book.close()
        assert not journal.with_name("journal.sqlite-shm").exists()
    finally:
        os.chmod(journal.parent, 0o700)
