"""The demo: it trusts no file that it has not heard again, and touches nothing but its own."""

import json
import os
import signal
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cosy_sync import ConnectError, CosyClient, Outcome, Timing
from cosy_sync.cli import demo_server, main
from cosy_sync.cli.corpus import load_sentences
from cosy_sync.cli.demo_results import Results
from cosy_sync.cli.demo_server import DemoServer, run_server
from cosy_sync.cli.demo_table import page_of, rows_of, summary_of, table_of
from cosy_sync.cli.exits import Stop
from cosy_sync.cli.manifest import DemoFolder, Entry
from cosy_sync.cli.verify_files import check_files
from cosy_sync.server import Server

Captured = pytest.CaptureFixture[str]

STATS = {"connections_peak": 3, "peak_requests_per_second": 7, "throttled": 0, "refused": 0}


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Put a server of this process in place of the child; return the options it was given."""
    calls: list[list[str]] = []

    @contextmanager
    def run(options: list[str]) -> Iterator[DemoServer]:
        calls.append(options)
        if "espeak" in options:
            raise Stop("the demo's server did not start; it said:\n  no espeak", 3)
        with Server(latency=0.0, seconds_per_char=0.02) as server:
            yield DemoServer(server.url, os.getpid())

    monkeypatch.setattr(demo_server, "run_server", run)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return calls


def demo(*argv: str) -> int:
    return main(["demo", "--engine", "tone", "-o", "out", *argv])


def entries() -> list[dict[str, object]]:
    return [json.loads(line) for line in Path("out/manifest.jsonl").read_text("utf-8").splitlines()]


# -- the whole ----------------------------------------------------------------------------------


def test_every_text_has_a_file_a_line_and_a_place_on_the_page(
    started: list[list[str]], capsys: Captured
) -> None:
    assert demo("--texts", "30") == 0
    assert len(list(Path("out/wav").iterdir())) == 30
    listed = entries()
    assert [entry["index"] for entry in listed] == list(range(1, 31))
    assert listed[4]["text"] == load_sentences()[4].text and listed[4]["error"] is None
    assert "./wav/0030.wav" in Path("out/index.html").read_text("utf-8")
    table = capsys.readouterr().out
    assert "30 of 30 spoken" in table and "30, all checked" in table and "one by one" in table


def test_the_serial_part_can_be_left_out(started: list[list[str]], capsys: Captured) -> None:
    assert demo("--texts", "3", "--no-serial") == 0
    assert "speed-up" not in capsys.readouterr().out


def test_limits_are_given_to_the_server(started: list[list[str]]) -> None:
    assert demo("--texts", "1", "--rate", "7", "--max-connections", "3", "--latency", "0.5") == 0
    told = " ".join(started[0])
    assert "--latency 0.5" in told and "--rate 7" in told and "--max-connections 3" in told


def test_settings_for_other_services_do_not_disturb(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("COSY_SYNC_FORMAT", "pcm"), ("HTTP_PROXY", "http://127.0.0.1:1")):
        monkeypatch.setenv(name, value)
    assert demo("--texts", "2") == 0


def test_without_speech_auto_takes_tones_and_says_so(
    started: list[list[str]], capsys: Captured
) -> None:
    assert main(["demo", "-o", "out", "--texts", "2", "--no-serial"]) == 0
    assert [options[1] for options in started] == ["espeak", "tone"]
    told = capsys.readouterr().err
    assert "tones instead (no espeak)" in told and "pip install 'espeakng-loader>=0.2.4'" in told


def test_without_speech_espeak_is_an_error(started: list[list[str]], capsys: Captured) -> None:
    assert main(["demo", "-o", "out", "--engine", "espeak"]) == 3
    assert "pip install 'espeakng-loader>=0.2.4'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--texts=0", "--texts=1001", "--latency=nan", "--rate=x"])
def test_numbers_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(SystemExit) as end:
        demo(option)
    assert end.value.code == 2


def test_ctrl_c_before_the_end_writes_nothing_and_says_so(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def interrupted(client: CosyClient, *args: object, **kind: object) -> None:
        from cosy_sync import InterruptedBatch

        raise InterruptedBatch([])

    monkeypatch.setattr(CosyClient, "synth_many", interrupted)
    assert demo("--texts", "2", "--no-serial") == 130
    assert "interrupted with 0 texts spoken; no file" in capsys.readouterr().err


def test_a_full_disk_is_told_with_what_there_is(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    real = DemoFolder.sound

    def sound(folder: DemoFolder, index: int) -> Path:
        if index == 3 and entries():
            raise OSError(28, "No space left on device")
        return real(folder, index)

    monkeypatch.setattr(DemoFolder, "sound", sound)
    Path("out").mkdir()
    Path("out/manifest.jsonl").write_text("")
    assert demo("--texts", "5", "--no-serial") == 1
    told = capsys.readouterr().err
    assert "No space left on device; 2 of 5 texts are in out, the rest is not" in told


def test_what_does_not_hold_is_told(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    numbers = {"connections_peak": 51, "peak_requests_per_second": 101, "throttled": 2}
    monkeypatch.setattr(DemoServer, "stats", lambda server: {**STATS, **numbers, "refused": 1})
    assert demo("--texts", "2", "--no-serial") == 1
    captured = capsys.readouterr()
    assert "51 connections were open" in captured.err
    assert "101 requests were sent in one second" in captured.err
    assert "the server refused 3 requests" in captured.err
    assert "error: 3 things are not as they should be" in captured.err
    assert "NOT all good" in captured.out


# -- the directory ------------------------------------------------------------------------------


def test_an_earlier_demo_is_replaced_and_other_files_stay(started: list[list[str]]) -> None:
    assert demo("--texts", "9", "--no-serial") == 0
    others = [Path("out/mine.txt"), Path("out/wav/song.wav"), Path("out/wav/9999.wav")]
    for path in others:
        path.write_text("mine")
    assert demo("--texts", "2", "--no-serial") == 0
    assert all(path.read_text() == "mine" for path in others)
    left = sorted(path.name for path in Path("out/wav").iterdir())
    assert left == ["0001.wav", "0002.wav", "9999.wav", "song.wav"]


@pytest.mark.parametrize("name", ["index.html", "manifest.jsonl", "wav/0002.wav"])
def test_files_of_others_are_not_overwritten(
    name: str, started: list[list[str]], capsys: Captured
) -> None:
    Path("out/wav").mkdir(parents=True)
    Path("out", name).write_text("mine")
    assert demo("--texts", "2") == 2
    assert "is not from a demo: choose another directory" in capsys.readouterr().err
    assert Path("out", name).read_text() == "mine" and not started


def test_a_manifest_cannot_name_files_elsewhere(started: list[list[str]]) -> None:
    assert demo("--texts", "1", "--no-serial") == 0
    Path("out/precious.wav").write_text("mine")
    (entry,) = entries()
    names = ["wav/../precious.wav", "../precious.wav", "precious.wav", "wav/1.wav/../0001.wav"]
    lines = [json.dumps({**entry, "file": name}) for name in names]
    Path("out/manifest.jsonl").write_text("\n".join([*lines, "not json", "[1]", ""]))
    assert demo("--texts", "1", "--no-serial") == 0
    assert Path("out/precious.wav").read_text() == "mine"


def test_a_directory_that_cannot_be_made_ends_it_at_once(
    started: list[list[str]], capsys: Captured
) -> None:
    Path("file").write_text("")
    assert main(["demo", "--engine", "tone", "-o", "file/deep"]) == 2
    assert "cannot make the directory file/deep" in capsys.readouterr().err
    assert not started


# -- the checks ---------------------------------------------------------------------------------


def sound(path: Path, seconds: float, value: int) -> Entry:
    import hashlib

    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes([value, 0]) * int(8000 * seconds))
    data = path.read_bytes()
    return Entry(
        index=int(path.stem),
        text="你好",
        category="service",
        file=f"wav/{path.name}",
        seconds=seconds,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        latency=0.2,
        attempts=1,
        request_id="r-1",
        error=None,
    )


def rewritten(entry: Entry, data: bytes) -> Entry:
    import hashlib

    Path(str(entry.file)).write_bytes(data)
    return replace(entry, sha256=hashlib.sha256(data).hexdigest())


def test_good_files_pass() -> None:
    good = [sound(Path(f"wav/000{n}.wav"), 2.0, n) for n in (1, 2)]
    lost = replace(good[0], file=None, error="TextError: refused")
    assert check_files(Path(), [*good, lost], (1.0, 15.0)) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("gone", "cannot be read: No such file"),
        ("changed", "is not what was written"),
        ("noise", "is no WAV file"),
        ("cut", "is no WAV file"),
        ("short", "is 0.50 s long"),
        ("other", "is 2.00 s long, and not 3.0 s"),
        ("double", "sounds exactly like text 1"),
    ],
)
def test_every_fault_is_found(fault: str, words: str) -> None:
    first = sound(Path("wav/0001.wav"), 2.0, 1)
    path = Path("wav/0002.wav")
    second = sound(path, 0.5 if fault == "short" else 2.0, 1 if fault == "double" else 2)
    if fault == "gone":
        path.unlink()
    elif fault == "changed":
        path.write_bytes(path.read_bytes()[:-2] + b"xx")
    elif fault == "noise":
        second = rewritten(second, b"<html>" * 99)
    elif fault == "cut":
        second = rewritten(second, path.read_bytes()[:-1000])
    elif fault == "other":
        second = replace(second, seconds=3.0)
    (wrong,) = check_files(Path(), [first, second], (1.0, 15.0))
    assert wrong.startswith("wav/0002.wav: ") and words in wrong


# -- the numbers --------------------------------------------------------------------------------


def test_a_run_in_which_all_failed_has_a_table_and_a_page() -> None:
    sentences = load_sentences()[:2]
    results = Results(sentences=sentences, engine="tone", url="http://x/batch", server=STATS)
    results.outcomes = [
        Outcome(n, sentence.text, None, ConnectError("refused"))
        for n, sentence in enumerate(sentences)
    ]
    entry = sound(Path("wav/0001.wav"), 2.0, 1)
    lost = replace(entry, file=None, seconds=None, latency=None, error="ConnectError: refused")
    results.entries = [replace(lost, index=n) for n in (1, 2)]
    results.problems = ["text 1 failed", "text 2 failed"]
    assert "0 of 2 spoken" in table_of(results, Path("index.html"))
    assert "ConnectError: refused" in page_of(results)
    assert summary_of(results).failed == 2


def test_calls_are_numbered_as_they_were_sent() -> None:
    with Server(latency=0.0) as server, CosyClient(server.url, batch_size=2) as client:
        outcomes = client.synth_many([f"第{n}句话" for n in range(6)], on_error="return")
    entry = sound(Path("wav/0001.wav"), 2.0, 1)
    results = Results(sentences=load_sentences()[:6], outcomes=outcomes, entries=[entry] * 6)
    rows = rows_of(results)
    assert {row.batch for row in rows} == {1, 2, 3}
    timings = [outcome.timing for outcome in outcomes]
    assert all(isinstance(timing, Timing) for timing in timings)
    by_start = sorted(zip([t.started for t in timings if t], rows, strict=True), key=lambda p: p[0])
    assert [row.batch for _, row in by_start] == [1, 1, 2, 2, 3, 3]


# -- the child ----------------------------------------------------------------------------------


def test_the_child_serves_and_is_gone_afterwards() -> None:
    with run_server(["--engine", "tone"]) as server:
        assert server.stats()["requests"] == 0
        os.kill(server.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    with pytest.raises(Stop, match="server is gone"):
        server.stats()


def test_a_child_that_does_not_start_tells_why() -> None:
    with pytest.raises(Stop, match=r"it said:\n  .*latency is -1"), run_server(["--latency=-1"]):
        pass


def test_an_error_of_the_demo_ends_the_child_too() -> None:
    with pytest.raises(RuntimeError), run_server(["--engine", "tone"]) as server:
        raise RuntimeError
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_child_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "_STOP_SECONDS", 0.2)
    with run_server(["--engine", "tone"]) as server:
        os.kill(server.pid, signal.SIGSTOP)
        started = time.monotonic()
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
