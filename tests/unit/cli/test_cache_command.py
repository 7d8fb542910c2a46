"""`cosy-sync cache`: how much there is, filling it ahead, forgetting."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cosy_sync import ClientConfig, CosyClient, DiskCache, Entry
from cosy_sync.cli import main
from cosy_sync.cli.bench_sweep import careful
from cosy_sync.testing import Server


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("你好世界\n\n再见了朋友\n你好世界\n", "utf-8")
    return file


def test_warm_speaks_what_is_missing_and_a_client_finds_it(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "cache")
    with Server(latency=0) as server:
        warm = ["cache", "warm", "-f", str(texts), "--cache", place, "--url", server.url]
        assert main([*warm, "--json", "--no-progress"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert first["spoken"] + first["known"] == 3 and first["failed"] == 0
        assert main([*warm, "--no-progress"]) == 0
        assert capsys.readouterr().out == "0 texts spoken, 3 known, 0 failed\n"
        with CosyClient(server.url, cache=place) as client:
            assert client.synth("再见了朋友").from_cache
    assert main(["cache", "stats", "--cache", place, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["entries"] == 2 and held["bytes"] > 1000
    assert main(["cache", "clear", "--cache", place]) == 0
    assert capsys.readouterr().out.startswith("2 texts, ")
    assert main(["cache", "stats", "--cache", place]) == 0
    assert capsys.readouterr().out == "0 texts, 0.0 MB held\n"


def test_warm_speaks_nothing_that_cannot_be_kept(
    tmp_path: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(self: DiskCache, entries: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(DiskCache, "put_many", refuse)
    with Server(latency=0) as server:
        warm = ["cache", "warm", "-f", str(texts), "--cache", str(tmp_path / "c")]
        assert main([*warm, "--url", server.url, "--no-progress"]) == 1
        assert server.stats()["texts"] == 0
    told = capsys.readouterr()
    assert told.err == "cosy-sync: error: cannot reach the cache: Read-only file system\n"


def test_warm_ends_where_the_cache_keeps_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = DiskCache.put_many

    def fill(self: DiskCache, entries: list[Entry]) -> None:
        if len(entries) > 1:  # the trial before it is one
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(self, entries)

    monkeypatch.setattr(DiskCache, "put_many", fill)
    file = tmp_path / "many.txt"
    file.write_text("".join(f"第{n}句话。\n" for n in range(1_000)), "utf-8")
    with Server(latency=0) as server:
        warm = ["cache", "warm", "-f", str(file), "--cache", str(tmp_path / "c")]
        assert main([*warm, "--url", server.url, "--no-progress"]) == 1
        assert server.stats()["texts"] < 1_000
    told = capsys.readouterr()
    assert told.out == "" and "64 of the latest 64 texts were spoken, and the cache" in told.err


def test_warm_notices_at_the_end_what_was_not_kept(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_VERIFY_ENABLED", "false")  # then nothing is kept
    with Server(latency=0) as server:
        warm = ["cache", "warm", "-f", str(texts), "--cache", str(tmp_path / "c")]
        assert main([*warm, "--url", server.url, "--no-progress"]) == 1


def test_a_cache_that_cannot_be_written_is_told_and_the_text_spoken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with Server(latency=0) as server:
        argv = ["synth", "你好", "-o", str(tmp_path / "x.wav"), "--url", server.url]
        assert main([*argv, "--cache", str(file / "c")]) == 0
        told = capsys.readouterr().err
        assert f"warning: cannot write to the cache {file}/c: Not a directory; nothing is" in told
        assert main([*argv, "--overwrite", "--cache", str(tmp_path / "c")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_the_variable_names_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COSY_SYNC_CACHE", str(tmp_path))
    assert main(["cache", "stats"]) == 0
    assert capsys.readouterr().out == "0 texts, 0.0 MB held\n"


def test_a_text_that_fails_is_told_by_its_line(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(latency=0, max_text_chars=4) as server:
        warm = ["cache", "warm", "-f", str(texts), "--cache", str(tmp_path / "c")]
        assert main([*warm, "--url", server.url, "--no-progress"]) == 1
    told = capsys.readouterr()
    assert "cosy-sync: line 3: " in told.err and "再见" not in told.err
    assert "1 failed" in told.out


def test_a_bench_measures_the_service_and_not_the_cache() -> None:
    plan = SimpleNamespace(texts=["你好"], batch_size=1)
    assert careful(ClientConfig(cache="memory"), plan).cache is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["stats"], "no cache: give --cache PLACE, or set COSY_SYNC_CACHE"),
        (["stats", "--cache", "memory"], "a cache in memory ends with its program"),
        (["warm", "--cache", "x"], "warm: give the texts by -f FILE"),
        (["stats", "--cache", "x", "-f", "y"], "-f FILE belongs to warm"),
        (["clear", "--cache", "redis://127.0.0.1:1/0"], "cannot reach the cache: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *args]) != 0
    assert f"cosy-sync: error: {words}" in capsys.readouterr().err
