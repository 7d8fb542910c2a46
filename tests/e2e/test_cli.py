"""The command as its users run it: processes, pipes, signals, full disks."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync.server import Server, tone_wav

ROOT = Path(cosy_sync.__file__).parents[1]
COMMAND = (sys.executable, "-W", "error", "-m", "cosy_sync")
# Bytes: room for the short sound of a test, but not for its long one.
FULL_AT = 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0.02, rate=0, max_connections=0, api_key="right") as server:
        yield server


@pytest.fixture
def environ(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    keep = {name: v for name, v in os.environ.items() if not name.startswith("COSY_SYNC_")}
    keep["PYTHONPATH"] = str(ROOT)
    return {**keep, "COSY_SYNC_URL": server.url, "COSY_SYNC_API_KEY": "right"}


@pytest.fixture
def run(tmp_path: Path, environ: dict[str, str]) -> "Runner":
    return Runner(tmp_path, environ)


class Runner:
    """Runs commands in a directory of its own."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ

    def __call__(
        self, *argv: str, data: bytes = b"", before: Sequence[str] = (), **kind: object
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(  # type: ignore[call-overload]
            [*before, *COMMAND, *argv],
            input=data,
            cwd=self.folder,
            env=self.environ,
            timeout=60,
            **({"capture_output": True} | kind),
        )
        assert b"Traceback" not in (done.stderr or b"")
        return done  # type: ignore[no-any-return]

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environ,
        )

    def files(self, name: str = "out") -> list[Path]:
        return sorted(path for path in (self.folder / name).iterdir())


def skip_ignored(number: signal.Signals) -> None:
    """Skip where what is started ignores a signal from the beginning."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this session ignores the signal, as under nohup")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_arguments_a_file_and_standard_input_give_the_same(run: Runner) -> None:
    (run.folder / "in.txt").write_text("你好\n再见\n", encoding="utf-8")
    assert run("synth", "你好", "再见", "-o", "a").returncode == 0
    assert run("synth", "-f", "in.txt", "-o", "b").returncode == 0
    assert run("synth", "-f", "-", "-o", "c", data="你好\n再见".encode()).returncode == 0
    wanted = [tone_wav("你好"), tone_wav("再见")]
    for name in "abc":
        assert [path.read_bytes() for path in run.files(name)] == wanted


def test_a_pipe_gets_a_whole_wav_file(run: Runner) -> None:
    done = run("synth", "-f", "-", "-o", "-", data="你好\n".encode())
    assert done.returncode == 0
    with wave.open(BytesIO(done.stdout)) as sound:
        assert sound.getnframes() == 4_800


def test_json_lines_agree_with_the_files(run: Runner) -> None:
    done = run("synth", "--json", "-o", "out", "一二", "坏[fail]", "三四")
    assert done.returncode == 1
    *texts, total = map(json.loads, done.stdout.splitlines())
    assert [text["ok"] for text in texts] == [True, False, True]
    for text in texts[::2]:
        data = (run.folder / text["file"]).read_bytes()
        assert text["sha256"] == hashlib.sha256(data).hexdigest()
    assert total["ok"] == 2 and total["failed"] == 1


def test_a_wrong_key_is_code_3(run: Runner) -> None:
    run.environ["COSY_SYNC_API_KEY"] = "wrong"
    done = run("synth", "你好", "-o", "out")
    assert done.returncode == 3
    assert b"HTTP 401" in done.stderr and b"COSY_SYNC_API_KEY" in done.stderr
    assert b"wrong or missing" in done.stderr and not run.files()


def test_a_wrong_path_is_code_3(run: Runner, server: Server) -> None:
    done = run("synth", "你好", "-o", "out", "--url", f"{server.base_url}/nothing")
    assert done.returncode == 3 and b"HTTP 404" in done.stderr


def test_a_server_that_is_not_there_is_code_3(run: Runner) -> None:
    run.environ["COSY_SYNC_RETRY_OUTLAST"] = "0.1"
    done = run("synth", "你好", "-o", "out", "--url", "http://127.0.0.1:1/batch")
    assert done.returncode == 3 and b"cannot connect" in done.stderr


def test_an_address_that_is_none_is_code_2(run: Runner) -> None:
    done = run("synth", "你好", "--url", "tts.example.com")
    assert done.returncode == 2 and b"url" in done.stderr


def test_a_directory_that_cannot_be_is_code_2(run: Runner) -> None:
    (run.folder / "file").write_text("")
    done = run("synth", "你好", "-o", "file/deep")
    assert done.returncode == 2 and b"cannot make the directory file/deep" in done.stderr


# Runs a command whose files cannot grow beyond that: a write fails then, as on a full disk (Python
# ignores the signal that comes with it).
FULL_DISK = (
    sys.executable,
    "-c",
    "import os, resource, sys; "
    f"resource.setrlimit(resource.RLIMIT_FSIZE, ({FULL_AT}, {FULL_AT})); "
    "os.execv(sys.argv[1], sys.argv[1:])",
)


def test_a_full_disk_keeps_what_was_written_and_says_so(run: Runner) -> None:
    argv = ("synth", "-o", "out", "短句", "长" * 50, "短二")
    done = run(*argv, before=FULL_DISK)
    assert done.returncode == 1
    assert b"cannot write out/0002.wav: File too large" in done.stderr
    assert b"1 text spoken and kept in out/" in done.stderr
    # Nothing half written stays behind.
    assert [path.read_bytes() for path in run.files()] == [tone_wav("短句")]


def test_a_full_disk_is_code_1_for_a_single_file_too(run: Runner) -> None:
    done = run("synth", "-o", "x.wav", "长" * 50, before=FULL_DISK)
    assert done.returncode == 1 and b"cannot write x.wav: File too large" in done.stderr
    assert list(run.folder.iterdir()) == []


def test_a_full_standard_output_is_told(run: Runner) -> None:
    with open("/dev/full", "wb") as full:
        pipes = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run("synth", "你好", "-o", "-", **pipes)
    assert done.returncode == 1
    assert b"cannot write to standard output: No space left on device" in done.stderr


def test_an_unbuffered_sound_is_written_to_its_end_or_told(run: Runner) -> None:
    run.environ["PYTHONUNBUFFERED"] = "1"
    with open(run.folder / "short.wav", "wb") as file:
        pipes = {"capture_output": False, "stdout": file, "stderr": subprocess.PIPE}
        done = run("synth", "长" * 50, "-o", "-", before=FULL_DISK, **pipes)
    assert (run.folder / "short.wav").stat().st_size == FULL_AT
    assert done.returncode == 1
    assert b"cannot write to standard output: File too large" in done.stderr
    done = run("synth", "长" * 50, "-o", "-")
    assert (done.returncode, done.stdout) == (0, tone_wav("长" * 50))


def test_a_reader_may_leave_early(run: Runner) -> None:
    (run.folder / "in.txt").write_text("".join(f"第{n}句\n" for n in range(300)))
    process = run.start("synth", "--json", "-f", "in.txt", "-o", "out")
    assert process.stdout and process.stderr and process.stdin
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(30) == 1 and told == b""
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_keeps_finished_files_and_no_half_ones(
    run: Runner, number: signal.Signals
) -> None:
    skip_ignored(number)
    (run.folder / "in.txt").write_text("".join(f"第{n}句\n" for n in range(100_000)))
    process = run.start("synth", "-f", "in.txt", "-o", "out")
    until = time.monotonic() + 30
    while time.monotonic() < until and len(list(run.folder.glob("out/*.wav"))) < 20:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    files = run.files()
    assert process.returncode == 130 and out == b""
    assert err.decode().startswith(f"cosy-sync: interrupted; {len(files):,} texts spoken and kept")
    assert err.count(b"\n") == 1
    for place, path in enumerate(files):
        assert path.read_bytes() == tone_wav(f"第{place}句")


@pytest.mark.parametrize(
    ("number", "ending"),
    [(signal.SIGINT, "flac"), (signal.SIGHUP, "wav"), (signal.SIGKILL, "flac")],
    ids=["SIGINT", "SIGHUP", "SIGKILL"],
)
def test_a_narration_that_is_killed_leaves_no_file_and_the_next_one_what_it_left(
    run: Runner, number: signal.Signals, ending: str
) -> None:
    skip_ignored(number)
    sentence, file = "今天的天气真是好得不得了。", f"x.{ending}"
    (run.folder / "in.txt").write_text(sentence * 50_000)
    process = run.start("narrate", "in.txt", "-o", file, "--srt", "--no-progress")
    until = time.monotonic() + 30
    while time.monotonic() < until and not any(
        part.stat().st_size for part in run.folder.glob(".*.part")
    ):
        time.sleep(0.01)
    process.send_signal(number)
    told = process.communicate(timeout=30)[1].decode()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert re.fullmatch(
            r"cosy-sync: interrupted with [\d,]+ parts spoken; no file was written\n", told
        )
    left = [path.name for path in run.folder.iterdir() if path.name != "in.txt"]
    assert len(left) == (1 if number == signal.SIGKILL else 0), left
    assert all(name.endswith(".part") for name in left)
    (run.folder / "in.txt").write_text(sentence)
    assert run("narrate", "in.txt", "-o", file, "--srt").returncode == 0
    assert {path.name for path in run.folder.iterdir()} == {"in.txt", "x.srt", file}


def test_the_demo_writes_and_checks_everything(run: Runner) -> None:
    argv = ("demo", "--engine", "tone", "--texts", "100", "--latency", "0.02", "-o", "out")
    done = run(*argv)
    assert done.returncode == 0, done.stderr
    assert b"100 of 100 spoken" in done.stdout and b"100, all checked" in done.stdout
    names = [path.name for path in run.files()]
    assert names == ["index.html", "manifest.jsonl", "wav"]
    assert len(run.files("out/wav")) == 100
    lines = (run.folder / "out/manifest.jsonl").read_text("utf-8").splitlines()
    assert len({json.loads(line)["sha256"] for line in lines}) == 100


def test_a_demo_on_a_full_disk_says_what_there_is(run: Runner) -> None:
    argv = ("demo", "--engine", "tone", "--texts", "9", "--no-serial", "-o", "out")
    done = run(*argv, before=FULL_DISK)
    assert done.returncode == 1
    assert b"File too large; 0 of 9 texts are in out" in done.stderr


def child_of(pid: int) -> int:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("the demo has started no server")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks children up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demos_server_ends_with_the_demo(run: Runner, number: signal.Signals) -> None:
    demo = run.start("demo", "--engine", "tone", "--latency", "5", "-o", "out")
    assert demo.stderr is not None
    child = child_of(demo.pid)
    # The server is up when the first sentence is on its way.
    assert b"one after the other" in demo.stderr.readline()
    time.sleep(0.5)  # the rest of the library is being imported; the first reply takes 5 s
    demo.send_signal(number)
    _, err = demo.communicate(timeout=30)
    until = time.monotonic() + 10
    while not is_gone(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert is_gone(child)
    if number != signal.SIGKILL:
        assert demo.returncode == 130 and b"interrupted" in err and b"Traceback" not in err
