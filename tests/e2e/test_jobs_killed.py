"""Jobs as processes: killed, ended and continued; afterwards everything is there once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync.server import Server, tone_wav

ROOT = Path(cosy_sync.__file__).parents[1]
TEXTS = {f"t{number}": f"第{number}句话，今天天气好。" for number in range(1_500)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # Some 400 texts/s: a job of 1 500 can be ended in its middle.
    with Server(latency=0.15, rate=0, max_connections=0, workers=1) as server:
        yield server


@pytest.fixture
def job(server: Server, tmp_path: Path) -> "Process":
    return Process(server, tmp_path)


class Process:
    """Starts `cosy-sync job run` in a folder of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        rows = (json.dumps({"id": id, "text": text}) for id, text in TEXTS.items())
        (folder / "in.jsonl").write_text("\n".join(rows), encoding="utf-8")
        keep = {name: v for name, v in os.environ.items() if not name.startswith("COSY_SYNC_")}
        self.environ = {**keep, "PYTHONPATH": str(ROOT), "COSY_SYNC_URL": server.url}

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "cosy_sync"]
        return subprocess.Popen(
            [*command, "job", "run", "in.jsonl", "--to", "out", "--json"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sounds(self) -> int:
        return sum(1 for _ in self.out.glob("*/*.wav"))

    def wait_for_sounds(self, count: int) -> None:
        until = time.monotonic() + 30
        while self.sounds() < count:
            assert time.monotonic() < until
            time.sleep(0.02)

    def check(self) -> None:
        lines = (self.out / "manifest.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["id"] for row in rows] == list(TEXTS)
        for row in rows:
            assert (self.out / row["file"]).read_bytes() == tone_wav(TEXTS[row["id"]])
        assert self.sounds() == len(TEXTS)
        assert not list(self.out.rglob("*.part"))


def test_kill_9_loses_nothing_and_speaks_only_what_was_in_flight_again(job: Process) -> None:
    for stage in (64, 300):
        process = job.start()
        job.wait_for_sounds(stage)
        process.kill()
        process.communicate()
    kept = job.sounds()
    last = job.start()
    out, err = last.communicate(timeout=60)
    assert last.returncode == 0, err
    counts = json.loads(out)
    # What was stored in the last moment was not in the journal yet.
    assert counts["spoken"] + counts["skipped"] == len(TEXTS) and counts["skipped"] > kept / 8
    job.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_term_finish_what_is_in_flight(job: Process, number: signal.Signals) -> None:
    process = job.start()
    job.wait_for_sounds(64)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "finishing what is in flight" in err and "to go on, run this again" in err
    counts = json.loads(out)
    assert 64 <= counts["spoken"] == job.sounds() <= len(TEXTS)
    assert counts["stopped"] == "interrupted"
    last = job.start()
    out, _ = last.communicate(timeout=60)
    assert json.loads(out)["skipped"] == counts["spoken"]
    job.check()


def test_a_second_ctrl_c_breaks_it_off(job: Process) -> None:
    process = job.start()
    job.wait_for_sounds(64)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "finishing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "interrupted; " in err and "To go on, run this again" in err
    last = job.start()
    last.communicate(timeout=60)
    job.check()
