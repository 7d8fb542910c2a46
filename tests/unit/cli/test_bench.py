"""`bench`: what it refuses before it sends, and what it tells and draws of its figures."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cosy_sync import (
    BatchConfig,
    ClientConfig,
    CosyClient,
    CutError,
    Endpoint,
    LimitConfig,
    PoolConfig,
    RetryConfig,
    ThrottledError,
    Timing,
    Voice,
)
from cosy_sync.cli import demo_server, main
from cosy_sync.cli.bench_code import left_out_of, settings_of
from cosy_sync.cli.bench_page import page_of
from cosy_sync.cli.bench_results import BenchResults, json_of, line_of, table_of
from cosy_sync.cli.bench_steps import End, Step
from cosy_sync.cli.bench_sweep import Meter, Plan, careful
from cosy_sync.cli.demo_server import DemoServer
from cosy_sync.events import AttemptFinished, BreakerChanged
from cosy_sync.models import Recording
from cosy_sync.server import Server, ServerConfig
from cosy_sync.testing import tone_wav

Captured = pytest.CaptureFixture[str]

NOWHERE = "http://127.0.0.1:1/batch"


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recorded() -> Path:
    path = Path("my voice.wav")
    path.write_bytes(tone_wav("这是一段参考录音，用来模仿声音。"))
    return path


def bench(*argv: str) -> int:
    return main(["bench", *argv])


def test_a_bench_without_a_rate_limit_is_refused_by_its_option(capsys: Captured) -> None:
    assert bench("--url", NOWHERE, "--rate", "inf") != 0
    assert "--rate: a bench must know how many requests it may send" in capsys.readouterr().err


# -- before anything is sent --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-o", "x.png"], "use a name that ends in .html"),
        (["-o", "x.html"], "x.json: it is a directory"),
        (["-o", "y.html"], "y.html: it is a directory"),
        (["-o", "nowhere/x.html"], "cannot write to the directory nowhere"),
        (["--url", "http://127.0.0.1:2/batch"], "give --url once"),
        (["--texts", "missing.txt"], "cannot read missing.txt: No such file"),
        (["--texts", "blank.txt"], "no texts: there is nothing in blank.txt"),
        (["--texts", "latin.txt"], "latin.txt: line 2 is not UTF-8"),
        (["--texts", "long.txt"], "line 2 has 5001 characters, more than 5000"),
        (["--max-texts", "575"], "--max-texts 575 is too little: a request takes 64"),
        (["--max-texts", "35", "--batch-size", "4"], "give 36 at least"),
        (["--max-in-flight", "51"], "more than the 50 connections of the endpoint"),
        (["--max-in-flight", "4", "--max-connections", "3"], "more than the 3 connections"),
        (["--batch-size", "0"], "--batch-size: must be a whole number above 0"),
        (["--batch-size", "65"], "--batch-size: the wire 'batch' takes at most 64 texts a call"),
        (["--wire", "runtime_http", "--voice", "a", "--batch-size", "2"], "takes 1 text a call"),
        (["--wire", "smoke"], "wire: there is no 'smoke'"),
        (["--rate", "0"], "rate: must be a number above 0"),
        (["--api-key-file", "missing"], "cannot read the key from missing"),
    ],
)
def test_wrong_usage_ends_before_anything_is_sent(
    argv: list[str], words: str, capsys: Captured
) -> None:
    Path("blank.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"good\n\xe9\xe8\n")
    Path("long.txt").write_text(f"good\n{'x' * 5001}\n")
    Path("x.json").mkdir()
    Path("y.html").mkdir()
    # Nobody listens there: what is sent would end with another code.
    assert bench("--url", NOWHERE, *argv) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_a_wire_without_an_address_is_refused(capsys: Captured) -> None:
    assert bench("--wire", "openai") == 2
    assert "--wire openai needs --url" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        *(
            "--seconds=nan",
            "--seconds=0.9",
            "--seconds=601",
            "--max-in-flight=0",
            "--max-texts=1.5",
        ),
        *("--max-text=9x", "--second=x", "--conections=5"),
    ],
)
def test_mistyped_options_and_numbers_are_refused(option: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        bench("--url", NOWHERE, option)
    assert end.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def test_an_address_that_is_none_is_refused(capsys: Captured) -> None:
    assert bench("--url", "tts.example.com") == 2
    assert "write http://tts.example.com or https:" in capsys.readouterr().err


def test_the_pool_bounds_it_as_well(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("COSY_SYNC_POOL_MAX_CONNECTIONS", "3")
    assert bench("--url", NOWHERE, "--max-in-flight", "4") == 2
    assert "more than the 3 connections" in capsys.readouterr().err


def test_what_it_sends_at_most_is_told_first(capsys: Captured) -> None:
    Path("in.txt").write_text("一二三\n四五六\n")
    argv = ("--texts", "in.txt", "--max-in-flight", "2", "--seconds", "1", "--rate", "30")
    assert bench("--url", NOWHERE, "--batch-size", "4", *argv) == 3
    first, second, last = capsys.readouterr().err.splitlines()
    # One alone, then 30 in the first second and one more in flight, then 30 and two more.
    assert f"bench of {NOWHERE}: at most 64 requests with 256 texts in all" in first
    assert "30 requests/s and 2 in flight; 1 s a step" in first
    assert second.startswith("the texts repeat after 2:")
    assert "the first request failed, so nothing was measured: cannot connect" in last


def test_the_texts_may_be_the_bound(capsys: Captured) -> None:
    assert bench("--url", NOWHERE, "--batch-size", "4", "--max-texts", "43") == 3
    told = capsys.readouterr().err
    assert "at most 10 requests with 40 texts in all" in told and "repeat" not in told


def test_a_plan_lets_a_step_make_eight_calls_however_low_the_rate() -> None:
    plan = Plan(texts=["x"], batch_size=1, ladder=[1, 2], seconds=1.5, rate=0.5, max_texts=1000)
    assert (plan.share(1), plan.share(2), plan.requests) == (9, 10, 20)
    assert replace(plan, rate=100).share(2) == 202


def test_a_batch_is_one_request_sent_once() -> None:
    plan = Plan(
        texts=["长" * 900], batch_size=32, ladder=[1], seconds=1.0, rate=100, max_texts=1000
    )
    mine = ClientConfig(
        deadline=7.0,
        serial=True,
        batch=BatchConfig(gzip_above=5),
        retry=RetryConfig(base=0.5),
        limits=LimitConfig(max_bytes_in_flight=1 << 28),
    )
    config = careful(mine, plan)
    assert config.batch == BatchConfig(
        gzip_above=5, max_texts=32, max_chars=32 * 900, sort_window=1, halve_refused=False
    )
    assert config.retry == RetryConfig(base=0.5, max_retries=0)
    # A reply that waits for those before it would seem slow.
    assert config.limits.max_bytes_waiting == 1 << 28
    assert (config.serial, config.deadline) == (False, 7.0)


def test_without_an_address_it_has_a_server_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    calls = []

    @contextmanager
    def run(options: Sequence[str]) -> Iterator[DemoServer]:
        calls.append(list(options))
        with Server(ServerConfig(latency=0.0)) as server:
            yield DemoServer(server.url, os.getpid())

    monkeypatch.setattr(demo_server, "run_server", run)
    # None of these is meant for a server on this machine.
    monkeypatch.setenv("COSY_SYNC_URL", NOWHERE)
    monkeypatch.setenv("COSY_SYNC_BATCH_SIZE", "3")
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    assert bench("--seconds", "1", "--rate", "20", "--max-in-flight", "2") == 0
    assert calls == [["--engine", "tone"]]
    captured = capsys.readouterr()
    assert "a server of its own: 200 ms a call, 50 connections, 100 requests/s" in captured.err
    assert "COSY_SYNC_URL is left alone: its service is measured, and paid, by --url only" in (
        captured.err
    )
    found = json.loads(Path("cosy-bench.json").read_text())
    # Whether it comes to the limit is a matter of the machine.
    assert found["batch_size"] in (64, 16, 4, 1) and found["end"]["kind"] in ("rate", "top", "knee")


def test_its_own_server_is_asked_for_less_than_it_allows(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    @contextmanager
    def run(options: Sequence[str]) -> Iterator[DemoServer]:
        yield DemoServer(NOWHERE, os.getpid())

    monkeypatch.setattr(demo_server, "run_server", run)
    assert bench() == 3 and "at most 90 requests/s" in capsys.readouterr().err
    assert bench("--rate", "95") == 3 and "at most 95 requests/s" in capsys.readouterr().err


def test_a_full_disk_is_told_after_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def refuse(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("cosy_sync.cli.bench.write_whole", refuse)
    with Server(ServerConfig(latency=0.0)) as server:
        argv = ("--seconds", "1", "--rate", "20", "--max-in-flight", "1", "--batch-size", "1")
        assert bench("--url", server.url, *argv) == 1
    captured = capsys.readouterr()
    assert "cannot write cosy-bench.html: No space left on device" in captured.err
    assert "in flight  batch  requests/s" in captured.out and "picture" not in captured.out


def test_a_bench_measures_what_a_client_does_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    with Server(ServerConfig(latency=0.0)) as server:
        argv = ("--url", server.url, "--seconds", "1", "--rate", "10", "--max-in-flight", "1")
        assert bench(*argv) == 0
        alike = capsys.readouterr().out
        assert json.loads(Path("cosy-bench.json").read_text())["batch_size"] == 64
        assert "batch_size=" not in alike and "were tried" not in alike
        assert bench(*argv, "--batch-size", "1") == 0
        single = capsys.readouterr().out
    # What was asked for is what was tried, and the note says what was not.
    assert "batch_size=1," in single
    assert "only requests of 1 text were tried, and this wire takes 64" in single


@pytest.mark.parametrize(("size", "most"), [("1", "1,000"), ("2", "50,000")])
def test_the_bound_on_texts_follows_what_a_request_takes(
    size: str, most: str, capsys: Captured
) -> None:
    argv = ("--batch-size", size, "--rate", "100000")
    assert bench("--url", NOWHERE, *argv) == 3
    assert f"with {most} texts in all" in capsys.readouterr().err


# -- the meter ----------------------------------------------------------------------------------


def attempt(error: Exception | None = None) -> AttemptFinished:
    timing = Timing(
        started=1.0, queued=0.0, connect=0.0, first_byte=0.1, total=0.2,
        attempts=1, endpoint="http://a.test/", request_id="r",
    )  # fmt: skip
    return AttemptFinished(timing, 1, 3, 100, error)  # type: ignore[arg-type]


def test_the_first_refusal_is_passed_on_once() -> None:
    told: list[str] = []
    meter = Meter(lambda: told.append("now"))
    meter.arm()
    meter.on_event(attempt())
    meter.on_event(attempt(ThrottledError("HTTP 429", status=429)))
    meter.on_event(attempt(ThrottledError("HTTP 429 again", status=429)))
    assert told == ["now"] and meter.refusal == "HTTP 429"


def test_what_is_cut_off_after_a_refusal_is_no_failure_of_the_service() -> None:
    meter = Meter(lambda: None)
    meter.arm()
    meter.on_event(attempt(CutError("before")))
    meter.on_event(attempt(ThrottledError("HTTP 429", status=429)))
    meter.on_event(attempt(CutError("we cut it")))
    meter.on_event(attempt())
    kinds = [type(call.error).__name__ for call in meter.take()]
    assert kinds == ["CutError", "ThrottledError", "NoneType"]
    assert meter.take() == []


def test_nothing_counts_before_it_is_armed() -> None:
    meter = Meter(lambda: pytest.fail("too early"))
    meter.on_event(attempt(ThrottledError("HTTP 429", status=429)))
    meter.arm()
    assert meter.refusal is None and meter.take() == []


def test_a_breaker_that_opens_is_a_refusal() -> None:
    told = threading.Event()
    meter = Meter(told.set)
    meter.arm()
    meter.on_event(BreakerChanged("http://a.test/", "open", "half-open"))
    assert not told.is_set()
    meter.on_event(BreakerChanged("http://a.test/", "closed", "open"))
    assert told.is_set() and "breaker" in (meter.refusal or "")


# -- the results --------------------------------------------------------------------------------


def step(in_flight: int, rate: float, **changes: object) -> Step:
    made = Step(
        in_flight=in_flight,
        batch_size=4,
        seconds=2.0,
        requests=int(2 * rate),
        requests_per_second=rate,
        texts_per_second=rate * 4,
        speech_per_second=rate * 12,
        latency=0.2,
        p50=0.2,
        p99=0.31,
        errors=0,
        throttled=0,
        cpu=0.1,
        whole=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


NOT_DONE = step(8, 0.0, latency=0.0, p50=0.0, p99=0.0, errors=4, throttled=1, whole=False)
RESULTS = BenchResults(
    steps=[step(1, 5), step(2, 10), step(4, 20), step(8, 20.5)],
    end=End("knee", "4 to 8 in flight brought 2 % more requests/s"),
    endpoint="http://tts.test/batch",
    wire="batch",
    batch_size=4,
    seconds=2.0,
    rate=100.0,
    max_connections=50,
    requests=112,
    texts=448,
    version="0.1.0",
    created="2026-03-04T10:22:31+08:00",
)
REFUSED = replace(
    RESULTS,
    steps=[*RESULTS.steps[:3], NOT_DONE],
    end=End("refused", "the service refuses at 8 in flight: <b>429</b>"),
)
NOTHING = replace(RESULTS, steps=[NOT_DONE], end=End("errors", "4 of 4 texts failed"))


def test_the_table_shows_every_step_and_marks_the_knee() -> None:
    table = table_of(RESULTS, [("picture", "file:///x.html")])
    head, *rows = (line.strip() for line in table.splitlines()[1:6])
    assert (
        head
        == "in flight  batch  requests/s  texts/s  speech s/s     p50     p99  errors  throttled"
    )
    assert rows[0] == "1      4        5.00     20.0        60.0  200 ms  310 ms       0          0"
    assert [row.endswith("  <- knee") for row in rows] == [False, False, True, False]
    for line in (
        "knee     4 in flight with 4 texts each: 20.0 requests/s, 80.0 texts/s, p99 310 ms",
        "ended    4 to 8 in flight brought 2 % more requests/s",
        "sent     112 requests with 448 texts",
        "picture  file:///x.html",
    ):
        assert f"\n  {line}\n" in table


def test_where_throughput_may_still_grow_there_is_no_knee() -> None:
    table = table_of(REFUSED, [])
    assert "<- best" in table and "knee" not in table
    (last,) = [line for line in table.splitlines() if "cut short" in line]
    assert last.split() == ["8", "4", *"–––––", "4", "1", "cut", "short"]
    assert json.loads(json_of(REFUSED))["knee"] is None
    assert json.loads(json_of(REFUSED))["best"] == 4


def test_without_a_whole_step_nothing_is_advised() -> None:
    table = table_of(NOTHING, [])
    assert "not found: no step had its time" in table and "configure" not in table
    assert NOTHING.code == "" and json.loads(json_of(NOTHING))["advice"] is None


def test_the_code_makes_the_client_that_was_measured() -> None:
    with ran(RESULTS.code) as client:
        assert client.config.batch.max_texts == 4
        assert client.config.pool == PoolConfig.for_load(20, 0.2)
    assert 'Endpoint("http://tts.test/batch", max_connections=4, rate=100)' in RESULTS.code


def test_the_code_stands_in_the_table_as_it_is_pasted() -> None:
    assert table_of(RESULTS, []).endswith(f"\n  configure:\n\n{RESULTS.code}\n")


def test_defaults_are_not_repeated_in_the_code() -> None:
    assert "batch_size" not in replace(RESULTS, batch_size=64).code
    assert "batch_size" not in replace(RESULTS, batch_size=1, usual_size=1).code
    assert settings_of(ClientConfig()) == ()


def ran(code: str) -> CosyClient:
    """Run code as a program of its own; return the client that it makes."""
    names: dict[str, object] = {}
    exec(code, names)
    client = names["client"]
    assert isinstance(client, CosyClient)
    return client


def measured(config: ClientConfig, **where: str | None) -> str:
    return replace(RESULTS, settings=settings_of(config, **where), batch_size=1).code


def test_the_code_asks_for_the_speech_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSY_SYNC_API_KEY", "sk-of-the-environment")
    config = ClientConfig(
        wire="openai",
        voice=Voice('中文"女', instruction="慢一点"),
        model="FunAudioLLM/CosyVoice2-0.5B",
        format="pcm",
        sample_rate=44_100,
        speed=1.5,
        deadline=7.0,
        extra={"service": "siliconflow", "gain": 3, "on": True, "list": [None, {"音": 0.5}]},
        api_key="sk-of-the-environment",
    )
    code = measured(config)
    assert "sk-of" not in code and "中文" in code
    with ran(code) as client:
        names = ("wire", "voice", "model", "format", "sample_rate", "speed", "deadline", "extra")
        for name in (*names, "api_key"):
            assert getattr(client.config, name) == getattr(config, name)


def test_the_code_reads_recording_and_key_from_their_files(recorded: Path) -> None:
    Path("the key").write_text("sk-of-the-file\n")
    voice = Voice(reference=str(recorded), transcript="你好")
    config = ClientConfig(wire="runtime_http", voice=voice, api_key="sk-of-the-file")
    code = measured(config, reference=str(recorded), key_file="the key")
    assert "sk-of" not in code
    with ran(code) as client:
        assert client.config.api_key == "sk-of-the-file"
        assert client.config.voice is not None
        assert client.config.voice.transcript == "你好"
        assert isinstance(client.config.voice.reference, Recording)


def test_what_may_hold_a_key_is_left_out_of_the_code_and_named() -> None:
    config = ClientConfig(extra={"access_token": "sk-1", "seed": 1})
    left_out = left_out_of(Endpoint("http://tts.test/batch?token=sk-2"), config)
    code = replace(RESULTS, settings=settings_of(config), left_out=left_out).code
    assert "sk-" not in code and 'extra={"seed": 1}' in code
    assert '# Add the address\'s query and extra["access_token"]: left out' in code
    ran(code).close()
    assert left_out_of(Endpoint("http://tts.test/batch"), ClientConfig()) == ()


def test_a_busy_client_is_told_of() -> None:
    busy = [step(1, 5, cpu=0.84), step(2, 10, cpu=0.85), step(4, 20, cpu=0.99)]
    table = table_of(replace(RESULTS, steps=busy), [])
    assert "note     from 2 in flight on, this client kept a core 85 % busy" in table
    cut = [step(1, 5), step(2, 10, cpu=2.0, whole=False)]
    assert "note" not in table_of(replace(RESULTS, steps=cut), [])


def test_the_json_has_every_figure() -> None:
    fields = json.loads(json_of(RESULTS))
    assert [each["in_flight"] for each in fields["steps"]] == [1, 2, 4, 8]
    assert (fields["knee"], fields["best"], fields["texts"]) == (4, 4, 448)
    assert fields["end"]["kind"] == "knee" and fields["code"] == RESULTS.code
    assert fields["advice"]["requests_per_second"] == 20.0


def test_a_step_is_told_in_a_line() -> None:
    assert line_of(step(4, 20)) == "4 in flight x 4 texts: 20.0 requests/s, p50 200 ms, p99 310 ms"
    assert line_of(NOT_DONE) == "8 in flight x 4 texts: 0 requests/s, 4 failed"


# -- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("results", [RESULTS, REFUSED, NOTHING, replace(NOTHING, steps=[])])
def test_the_page_is_one_well_formed_text_that_loads_nothing(results: BenchResults) -> None:
    page = page_of(results)
    assert "$" not in page and "<b>429" not in page
    assert "src=" not in page and "http-equiv" in page and "@import" not in page
    assert page.count("href=") == 1 and '<link rel="icon" href="data:,">' in page
    closed = page.replace("<!DOCTYPE html>", "").replace('href="data:,">', 'href="data:,"/>')
    closed = closed.replace('charset="utf-8">', 'charset="utf-8"/>')
    for name in ('initial-scale=1">', 'file:">'):
        closed = closed.replace(name, f"{name[:-1]}/>")
    ElementTree.fromstring(closed)


def test_the_page_shows_what_the_table_shows() -> None:
    page = page_of(REFUSED)
    assert "80.0 texts/s with 4 calls in flight" in page
    assert "The service refuses at 8 in flight: &lt;b&gt;429" in page
    assert page.count("<tr") == 1 + 4 and 'class="best"' in page and "cut short" in page
    assert "PoolConfig.for_load(20, 0.2)" in page
    assert "Nothing was measured in full" in page_of(NOTHING)
