"""The bench against the embedded server, whose own counters say what it was really sent."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import cosy_sync
from cosy_sync import ClientConfig, CosyClient, Endpoint
from cosy_sync.cli import bench_results, main
from cosy_sync.cli.bench_sweep import Plan, Sweep
from cosy_sync.server import Server, ServerConfig

Captured = pytest.CaptureFixture[str]

ROOT = Path(cosy_sync.__file__).parents[1]


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(server: Server, *argv: str) -> int:
    size = () if "--batch-size" in argv else ("--batch-size", "1")
    return main(["bench", "--url", server.url, "--seconds", "1", *size, *argv])


def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("cosy-bench.json").read_text("utf-8"))
    return found


def announced(capsys: Captured) -> tuple[int, int]:
    """Return the requests and the texts that were said to be the most."""
    found = re.search(r"at most ([\d,]+) requests with ([\d,]+) texts", capsys.readouterr().err)
    assert found
    requests, texts = (int(number.replace(",", "")) for number in found.groups())
    return requests, texts


def test_no_limit_is_exceeded_and_no_request_untold(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.05, rate=0, max_connections=4)) as server:
        assert bench(server, "--rate", "40", "--max-connections", "4") == 0
        stats = server.stats()
    assert stats["throttled"] == stats["refused"] == 0
    assert stats["connections_peak"] <= 4
    # 4 connections could do 80. Not 40: what left apart may arrive together.
    assert stats["peak_requests_per_second"] < 60
    found, (requests, texts) = figures(), announced(capsys)
    assert stats["requests"] == found["requests"] <= requests
    assert stats["texts"] == found["texts"] <= texts
    # At 20 requests/s for each in flight, 40/s are reached with 2.
    assert found["end"]["kind"] in ("rate", "top", "knee")
    assert [step["in_flight"] for step in found["steps"]] == [1, 2, 4][: len(found["steps"])]
    assert all(step["whole"] and not step["errors"] for step in found["steps"])
    # The first request goes alone and belongs to no step.
    assert sum(step["requests"] for step in found["steps"]) == found["requests"] - 1


def test_the_figures_are_those_of_the_server(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.1, rate=0, max_connections=0)) as server:
        assert bench(server, "--max-in-flight", "2", "--batch-size", "3", "--rate", "1000") == 0
    for step in figures()["steps"]:
        # What it takes longer than 100 ms is the machine's business; it can take no less.
        assert step["p99"] >= step["p50"] >= 0.1
        assert 0 < step["requests_per_second"] <= step["in_flight"] / 0.1
        # Those under way at the end of the second are the last: none is packed in advance.
        assert step["requests"] <= 11 * step["in_flight"]
        assert step["texts_per_second"] == pytest.approx(3 * step["requests_per_second"], rel=0.01)
        assert step["speech_per_second"] > step["texts_per_second"]
    assert Path("cosy-bench.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_queue_is_not_taken_for_throughput() -> None:
    # One call at a time, 20 ms each: never more than 50 a second, however many wait.
    plan = Plan(texts=["你好"], batch_size=1, ladder=[32], seconds=1, rate=500, max_texts=500)
    with Server(ServerConfig(latency=0.02, workers=1, rate=0)) as server:
        sweep = Sweep(Endpoint(server.url, rate=500), ClientConfig(), plan)
        sweep.run()
    (step,) = sweep.steps
    assert step.whole and 0 < step.requests_per_second <= 55
    assert step.p50 >= 0.5


def test_it_stops_when_it_is_throttled(capsys: Captured) -> None:
    # Three a second: also a slow machine sends more.
    with Server(ServerConfig(latency=0.05, rate=3)) as server:
        assert bench(server, "--rate", "400") == 1
        stats = server.stats()
    found = figures()
    *before, last = found["steps"]
    assert found["end"]["kind"] == "refused" and "HTTP 429" in found["end"]["words"]
    assert not last["whole"] and all(step["whole"] for step in before)
    assert last["throttled"] >= 1
    # Nothing was begun after the refusal: what was refused as well was under way.
    assert 1 <= stats["throttled"] <= last["in_flight"]
    assert stats["requests"] <= found["requests"]
    assert found["advice"] is None or found["advice"]["rate"] <= 3
    assert "cosy-sync: error: the service refuses at" in capsys.readouterr().err


def test_after_a_refusal_no_call_begins_however_long_the_cutting_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut_later(self: Sweep) -> None:
        self._cutter = threading.Timer(1.0, self._client.close, args=(0.0,))
        self._cutter.start()

    monkeypatch.setattr(Sweep, "_cut", cut_later)
    with Server(ServerConfig(latency=0.05, rate=0, max_connections=3)) as server:
        assert bench(server, "--rate", "400") == 1
        assert 1 <= server.stats()["refused"] <= 4


def test_it_stops_when_connections_are_refused(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.05, rate=0, max_connections=3)) as server:
        assert bench(server, "--rate", "1000") == 1
        stats = server.stats()
    found = figures()
    assert [step["in_flight"] for step in found["steps"]] == [1, 2, 4]
    assert found["end"]["kind"] == "refused" and "503" in found["end"]["words"]
    assert found["advice"]["max_connections"] <= 2
    assert stats["connections_peak"] <= 4


@pytest.mark.parametrize("fault", ["status-502", "throttle"])
def test_any_refusal_ends_it_however_rare(fault: str) -> None:
    config = ServerConfig(latency=0.01, rate=0, faults={fault: 0.05}, seed=4)
    with Server(config) as server:
        assert bench(server, "--rate", "500") == 1
    assert figures()["end"]["kind"] == "refused"


def test_a_rise_of_failed_texts_ends_it(capsys: Captured) -> None:
    lines = [f"第{n}句话{'[fail]' if n % 2 else ''}" for n in range(100)]
    Path("in.txt").write_text("\n".join(lines), "utf-8")
    with Server(ServerConfig(latency=0.01, rate=0)) as server:
        assert bench(server, "--texts", "in.txt") == 1
    found = figures()
    assert found["end"]["kind"] == "errors" and len(found["steps"]) == 1
    assert found["steps"][0]["errors"] == 3 and not found["steps"][0]["whole"]


def test_more_texts_than_said_are_never_sent(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.02, rate=0)) as server:
        assert bench(server, "--batch-size", "4", "--max-texts", "90", "--rate", "1000") == 0
        stats = server.stats()
    assert announced(capsys) == (22, 88)
    assert stats["texts"] <= 88 and stats["requests"] <= 22
    found = figures()
    assert found["end"]["kind"] == "texts" and "--max-texts" in found["end"]["words"]
    assert (stats["requests"], stats["texts"]) == (found["requests"], found["texts"])


def test_a_refused_batch_is_not_halved(capsys: Captured) -> None:
    lines = [f"第{n}句话{'[refuse]' if n == 5 else ''}" for n in range(100)]
    Path("in.txt").write_text("\n".join(lines), "utf-8")
    with Server(ServerConfig(latency=0.0, rate=0)) as server:
        assert bench(server, "--texts", "in.txt", "--batch-size", "8") == 1
        stats = server.stats()
    assert stats["requests"] == 1
    assert "the first request failed, so nothing was measured" in capsys.readouterr().err


def test_failed_calls_are_not_repeated(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.0, faults={"status-503": 1.0})) as server:
        assert bench(server) == 1
        assert server.stats()["requests"] == 1
    assert "HTTP 503" in capsys.readouterr().err and not Path("cosy-bench.json").exists()


def test_a_wrong_key_and_a_wrong_path_are_code_3(capsys: Captured) -> None:
    with Server(ServerConfig(api_key="r1ght", latency=0.0)) as server:
        assert bench(server) == 3
        assert "HTTP 401" in capsys.readouterr().err
        assert main(["bench", "--url", f"{server.base_url}/nothing"]) == 3
        assert "check the URL's path" in capsys.readouterr().err
        Path("key").write_text("r1ght")
        argv = ("--api-key-file", "key", "--max-in-flight", "1", "--rate", "20")
        assert bench(server, *argv) == 0
    told = "".join(capsys.readouterr()) + Path("cosy-bench.html").read_text("utf-8")
    assert "r1ght" not in told


def test_a_key_in_the_query_is_shown_nowhere(capsys: Captured) -> None:
    with Server(ServerConfig(latency=0.0)) as server:
        url = f"{server.url}?token=s3cret"
        argv = ["bench", "--url", url, "--seconds", "1", "--batch-size", "1"]
        assert main([*argv, "--rate", "20", "--max-in-flight", "1"]) == 0
    told = "".join(capsys.readouterr())
    assert "s3cret" not in told + Path("cosy-bench.html").read_text("utf-8")
    assert "s3cret" not in Path("cosy-bench.json").read_text("utf-8")


def run(*argv: str) -> "subprocess.Popen[bytes]":
    environ = {name: v for name, v in os.environ.items() if not name.startswith("COSY_SYNC_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "cosy_sync", "bench", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    ("owner", "name", "whole"),
    [
        (bench_results, "line_of", [True]),  # between two steps
        (Sweep, "_note", [False]),  # in the middle of one
        (CosyClient, "close", [True]),  # after the last
    ],
)
def test_ctrl_c_keeps_what_there_is_wherever_it_comes(
    owner: object, name: str, whole: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(owner, name)

    def interrupted(*args: object, **kind: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kind)

    monkeypatch.setattr(owner, name, interrupted)
    top = "1" if owner is CosyClient else "2"
    with Server(ServerConfig(latency=0.05, rate=0)) as server:
        assert bench(server, "--max-in-flight", top) == 130
    found = figures()
    assert found["end"]["kind"] == "interrupted"
    assert [step["whole"] for step in found["steps"]] == whole


def test_ctrl_c_before_the_first_step_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def interrupted(*args: object, **kind: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CosyClient, "synth_many", interrupted)
    with Server(ServerConfig(latency=0.05, rate=0)) as server:
        assert bench(server) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "cosy-sync: interrupted"
    assert not Path("cosy-bench.json").exists()


@pytest.mark.parametrize("pause", [0.0, 1.0])
def test_ctrl_c_keeps_what_was_measured(pause: float) -> None:
    with Server(ServerConfig(latency=0.3, rate=0)) as server:
        process = run("--url", server.url, "--seconds", "2.5")
        assert process.stderr is not None
        for line in process.stderr:
            if b"1 in flight" in line and b"p50" in line:
                break
        # At once it comes between two steps, or nearly so; later in the middle of one.
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert re.fullmatch(r"cosy-sync: interrupted .*", err.decode().splitlines()[-1])
    assert b"Traceback" not in err
    found = figures()
    whole = [step["whole"] for step in found["steps"]]
    assert whole == [True, False] or (not pause and whole == [True])
    assert (found["end"]["kind"], found["best"]) == ("interrupted", 1)
    assert b"<- best" in out and Path("cosy-bench.html").exists()


def test_without_an_address_it_brings_its_own_server() -> None:
    process = run("--seconds", "1", "--max-in-flight", "1", "--batch-size", "64")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"a server of its own" in err and b"Endpoint(" in out
    assert figures()["steps"][0]["p50"] >= 0.2
