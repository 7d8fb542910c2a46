"""`job`: what its steps say, and the page that a run leaves behind."""

import argparse
import errno
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosy_sync.cli import job_run, main
from cosy_sync.cli.console import Screen
from cosy_sync.cli.job_run import _Run, shard_of_slurm
from cosy_sync.jobs import JobCounts
from cosy_sync.storage import LocalStore
from cosy_sync.testing import Server

Captured = pytest.CaptureFixture[str]

TEXTS = {
    "a1": "今天天气很好。",
    "a2": "今天天气很好。",
    "b/1": "我们去公园吧。",
    "bad": "<b>坏了</b>[fail]坏了",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"id": id, "text": text}) for id, text in TEXTS.items())
    Path("in.jsonl").write_text("\n".join(rows), "utf-8")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0) as made:
        yield made


def job(server: Server, *argv: str) -> int:
    return main(["job", "run", "in.jsonl", "--to", "out", "--url", server.url, *argv])


def test_a_run_tells_what_it_did(server: Server, capsys: Captured) -> None:
    assert job(server) == 1
    told = capsys.readouterr()
    assert told.out.startswith("2 texts spoken, 1 shared the sound of another, 1 failed in out: ")
    assert told.err == "cosy-sync: 1 x TextError; see out/manifest.jsonl\n"
    assert job(server, "--json") == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["skipped"], counts["refused"], counts["failed"]) == (3, 1, 0)


def test_on_the_way_it_tells_its_pace_what_is_left_and_what_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    run = job_run._Run(argparse.Namespace(), Screen(bar=False))
    # What was done before does not count as speed.
    run.tell(JobCounts(read=1_000_000, skipped=900_000))
    assert run.pace() == "looking at what is done"
    run.tell(JobCounts(read=1_000_000, skipped=900_000, spoken=1))
    now += 100.0
    counts = JobCounts(read=1_000_000, skipped=900_000, spoken=49_000, failed=1_000, seconds=9_000)
    counts.errors = {"TextError": 990, "CutError": 10}
    run.tell(counts)
    wanted = "490/s, 102 s left, 2 h 30 min of speech, 10 x CutError, 990 x TextError"
    assert run.pace() == wanted


def test_the_page_shows_failures_and_sounds_and_escapes_texts(server: Server) -> None:
    job(server)
    page = Path("out", "report.html").read_text("utf-8")
    assert "3 of 4 texts have their sound" in page
    assert "&lt;b&gt;坏了&lt;/b&gt;[fail]坏了" in page and "<b>坏了" not in page
    assert "TextError: " in page and "1 refused for good (--only-failed tries them again)" in page
    assert 'src="./b/1.wav"' in page
    for place in ("http:", "https:", "<script"):
        assert place not in page


def test_status_counts_and_export_lists(server: Server, capsys: Captured) -> None:
    job(server)
    capsys.readouterr()
    assert main(["job", "status", "out"]) == 1
    assert "3 texts done" in capsys.readouterr().out
    assert main(["job", "status", "out", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["failed"], told["waiting"]) == (3, 1, 0)
    for format in ("ljspeech", "kaldi", "audiofolder"):
        assert main(["job", "export", "out", "--format", format]) == 0
    lines = Path("out", "metadata.csv").read_text("utf-8").splitlines()
    assert [line.split("|")[1] for line in lines] == ["今天天气很好。"] * 2 + ["我们去公园吧。"]
    scp = Path("out", "kaldi", "wav.scp").read_text("utf-8").splitlines()
    assert [line.split()[0] for line in scp] == ["speaker-a1", "speaker-a2", "speaker-b-1"]
    assert all(Path(line.split()[1]).is_file() for line in scp)
    rows = Path("out", "metadata.jsonl").read_text("utf-8").splitlines()
    assert all(Path("out", json.loads(row)["file_name"]).is_file() for row in rows)


def test_a_dry_run_sends_nothing_and_tells_the_price(server: Server, capsys: Captured) -> None:
    assert job(server, "--dry-run", "--price-per-10k-chars", "2000", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["texts"], plan["shared"], plan["open"], plan["minutes"]) == (4, 1, 3, None)
    assert plan["cost"] == plan["open_characters"] / 10_000 * 2000
    assert server.stats()["texts"] == 0 and not Path("out").exists()
    job(server)
    capsys.readouterr()
    assert job(server, "--dry-run") == 0
    assert "3 are done" in capsys.readouterr().out


def test_a_dry_run_counts_what_the_same_run_would_speak(server: Server, capsys: Captured) -> None:
    assert job(server, "--dry-run", "--only-failed", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["open"], plan["open_characters"], plan["unsent"]) == (0, 0, 4)
    assert job(server, "--dry-run", "--limit", "2") == 0
    assert "--limit: a run speaks 2 of these" in capsys.readouterr().out
    job(server)
    capsys.readouterr()
    assert job(server, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["done"], plan["refused"], plan["open"]) == (3, 1, 0)
    assert job(server, "--dry-run", "--only-failed", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["done"], plan["refused"], plan["unsent"], plan["open"]) == (3, 0, 0, 1)
    changed = {**TEXTS, "bad": "好了"}
    rows = (json.dumps({"id": id, "text": text}) for id, text in changed.items())
    Path("in.jsonl").write_text("\n".join(rows), "utf-8")
    assert job(server, "--dry-run") == 0
    assert "to speak: 1 texts, 2 characters" in capsys.readouterr().out


def test_a_folder_of_other_files_is_wrong_usage(server: Server, capsys: Captured) -> None:
    job(server, "--shard", "1/1")
    capsys.readouterr()
    assert job(server) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.endswith(
        "choose another folder, go on with the job that was run here in 1 parts, or give "
        "--overwrite to replace such files\n"
    )
    assert main(["job", "status", "out"]) == 1
    assert capsys.readouterr().out.startswith("3 texts done (")
    assert job(server, "--overwrite") == 1


def test_a_dry_run_names_the_fields_that_mean_nothing(server: Server, capsys: Captured) -> None:
    Path("in.jsonl").write_text('{"id": "a", "text": "好", "voise": "x", "lang": "zh"}', "utf-8")
    assert job(server, "--dry-run") == 0
    assert "fields of the input that are not used: lang, voise\n" in capsys.readouterr().out
    assert job(server, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unused"] == ["lang", "voise"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["job"], "say what to do: cosy-sync job run, status"),
        (["job", "status", "none"], "none: no job was run into this folder"),
        (["job", "run", "none.jsonl", "--to", "out"], "none.jsonl: cannot be read"),
    ],
)
def test_what_is_missing_says_so(
    argv: list[str], words: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_URL", "http://127.0.0.1:9/batch")
    assert main(argv) == 2
    assert words in capsys.readouterr().err


def test_a_task_of_a_slurm_array_takes_its_part() -> None:
    array = {"ID": "7", "MIN": "5", "MAX": "20"}
    given = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
    assert shard_of_slurm(given) == (3, 16)
    assert shard_of_slurm({}) is None


def test_what_the_disk_refuses_names_the_place(
    server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    assert job(server, "--to", "file/x") == 2
    assert capsys.readouterr().err == "cosy-sync: error: file/x/.cosy-job: Not a directory\n"

    def full(self: LocalStore, part: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalStore, "_write", full)
    assert job(server, "--json") == 1
    told = capsys.readouterr()
    assert "error: out: No space left on device; " in told.err
    # Programs are told of this end too.
    assert json.loads(told.out)["stopped"] == "out: No space left on device"


def test_auto_takes_every_part_and_tells_of_all_together(server: Server, capsys: Captured) -> None:
    assert job(server, "--shard", "auto/3", "--json") == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["read"], counts["failed"], counts["errors"]) == (4, 1, {"TextError": 1})
    assert counts["spoken"] + counts["linked"] == 3
    assert main(["job", "merge", "out"]) == 0
    assert len(Path("out", "manifest.jsonl").read_text("utf-8").splitlines()) == 4


def test_a_job_in_a_bucket_is_asked_for_by_its_journal(server: Server, capsys: Captured) -> None:
    assert job(server, "--journal", "journal") == 1
    capsys.readouterr()
    assert main(["job", "status", "journal"]) == 1
    assert capsys.readouterr().out.startswith("3 texts done")
    assert job(server, "--journal", "journal", "--dry-run") == 0
    assert "3 are done" in capsys.readouterr().out
    assert main(["job", "status", "out"]) == 2
    assert "give --journal's" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "auto/0", "auto", "x/3", "3", "1/2/3", "-1/3"])
def test_a_wrong_shard_says_what_is_right(wrong: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["job", "run", "in.jsonl", "--to", "out", f"--shard={wrong}"])
    assert "must be like 3/16, the third of sixteen parts, or auto/16" in capsys.readouterr().err


def test_a_dry_run_tells_the_share_that_the_cache_holds_and_a_run_does_not_send_it(
    server: Server, capsys: Captured
) -> None:
    assert (
        main(["synth", "今天天气很好。", "-o", "a.wav", "--cache", "c", "--url", server.url]) == 0
    )
    capsys.readouterr()
    price = ("--price-per-10k-chars", "10000")
    assert job(server, "--cache", "c", "--dry-run", "--json", *price) == 0
    plan = json.loads(capsys.readouterr().out)
    rest = len(TEXTS["b/1"]) + len(TEXTS["bad"])
    assert (plan["cached"], plan["shared"], plan["open"], plan["cost"]) == (1, 1, 2, rest)
    assert job(server, "--cache", "c", "--dry-run") == 0
    assert "1 are in the cache (33 % of what is left); to speak: 2 texts" in capsys.readouterr().out
    before = server.stats()["texts"]
    assert job(server, "--cache", "c") == 1
    assert server.stats()["texts"] - before == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_does_not_stop_a_job(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with _Run(argparse.Namespace(), Screen(bar=False)).stoppable():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
