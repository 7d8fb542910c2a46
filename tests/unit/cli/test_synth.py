"""`synth`: texts in, files out, nothing lost in between and nothing shown that is private."""

import argparse
import hashlib
import io
import json
import os
import re
import signal
import sys
import threading
import wave
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import cosy_sync
from cosy_sync import Audio, ConfigError, CosyClient, InvalidTextError
from cosy_sync.cli import main
from cosy_sync.cli.console import Screen, emit, say
from cosy_sync.cli.exits import Stop, interruptible, uninterrupted, was_tried, words_of
from cosy_sync.cli.options import add_service_options, make_client
from cosy_sync.cli.reporter import Reporter
from cosy_sync.cli.source import Source, count_lines, read_lines
from cosy_sync.cli.synth import Synthesis
from cosy_sync.cli.target import Folder, Naming, check_template, open_target
from cosy_sync.jobs.inputs import read_texts
from cosy_sync.server import Server, tone_wav

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server(latency=0.0, rate=0, max_connections=0, seconds_per_char=0.05) as server:
        yield server.url


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tone(text: str) -> bytes:
    return tone_wav(text, seconds_per_char=0.05)


def written(folder: str = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def synth(*argv: str) -> int:
    return main(["synth", *argv])


# -- texts in -----------------------------------------------------------------------------------


def test_arguments_become_numbered_files(url: str, capsys: Captured) -> None:
    assert synth("--url", url, "-o", "out", "你好", "再见") == 0
    assert written() == {"0001.wav": tone("你好"), "0002.wav": tone("再见")}
    assert re.match(r"2 texts spoken to out/: .* of speech in ", capsys.readouterr().out)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_that_a_job_reads_whatever_ends_them(end: str) -> None:
    words = ["\ufeff你好", "", " 再见 ", "第三\u2028行", "\x0c第四行", "最后"]
    Path("in.txt").write_bytes(end.join(words).encode())
    found = [(text.place, text.text) for text in read_texts("in.txt")]
    assert [(f"in.txt, line {number}", text) for number, text in read_lines("in.txt")] == found
    assert [text for _, text in found] == ["你好", "再见", "第三\u2028行", "第四行", "最后"]


def test_blank_lines_and_line_ends_are_no_texts(url: str) -> None:
    Path("in.txt").write_bytes("\ufeff你好\r\n\r\n  \n再见".encode())
    assert synth("--url", url, "-f", "in.txt", "-o", "out") == 0
    assert written() == {"0001.wav": tone("你好"), "0002.wav": tone("再见")}


@pytest.mark.parametrize("format", ["mp3", "opus", "ogg", "flac"])
def test_files_are_of_the_format_that_was_asked_for(
    url: str, capsys: Captured, format: str
) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    assert synth("--url", url, "-o", "out", "--format", format, "--json", "你好呀", "再见了") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:2]
    assert list(written()) == [f"0001.{format}", f"0002.{format}"]
    for line, text in zip(told, ("你好呀", "再见了"), strict=True):
        sound = soundfile.info(line["file"])
        data = Path(line["file"]).read_bytes()
        assert sound.frames / sound.samplerate == pytest.approx(line["seconds"], abs=0.03)
        assert line["seconds"] == round((len(tone(text)) - 44) / 48_000, 3)
        assert line["sha256"] == hashlib.sha256(data).hexdigest()


def test_one_files_ending_says_its_format(url: str, capsysbinary: Any) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    assert synth("--url", url, "-o", "a.flac", "你好呀") == 0
    assert synth("--url", url, "-o", "b.mp3", "--format", "mp3", "--quality", "0", "你好呀") == 0
    assert synth("--url", url, "-o", "c.mp3", "--quality", "1", "你好呀") == 0
    assert Path("a.flac").read_bytes().startswith(b"fLaC")
    assert Path("b.mp3").stat().st_size < Path("c.mp3").stat().st_size
    capsysbinary.readouterr()
    assert synth("--url", url, "-o", "-", "--format", "flac", "你好呀") == 0
    assert capsysbinary.readouterr().out.startswith(b"fLaC")


def test_a_format_that_cannot_be_made_here_is_told_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    nobody = ("--url", "http://127.0.0.1:1/batch")
    assert synth(*nobody, "-o", "a.mp3", "你好") == 2
    assert "--format: writing mp3" in (told := capsys.readouterr().err) and "pip install" in told
    assert synth(*nobody, "-o", "out", "--quality", "0.5", "你好") == 2
    assert "--quality: wav loses nothing" in capsys.readouterr().err


def test_the_address_may_come_from_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_URL", url)
    assert synth("-o", "out", "--rate", "50", "--max-connections", "2", "你好") == 0
    assert list(written()) == ["0001.wav"]


@pytest.mark.parametrize(
    ("rate", "argv", "words"),
    [
        ("0", [], "COSY_SYNC_ENDPOINT_RATE: must be a number above 0"),
        ("7", [], "7 requests/s"),
        ("7", ["--rate", "9"], "9 requests/s"),
    ],
)
def test_the_addresses_of_the_environment_bring_their_limits(
    rate: str, argv: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_URL", " http://a.test/batch , ")
    monkeypatch.setenv("COSY_SYNC_ENDPOINT_RATE", rate)
    parser = argparse.ArgumentParser()
    add_service_options(parser)
    try:
        (endpoint,) = make_client(parser.parse_args(argv)).endpoints
    except ConfigError as error:
        assert words in str(error)
    else:
        assert f"{endpoint.rate:g} requests/s" == words
        assert endpoint.url == "http://a.test/batch"


def test_a_key_on_the_command_line_is_refused_and_not_shown(capsys: Captured) -> None:
    for argv in (["--api-key", "sk-secret"], ["--api-key=sk-secret"]):
        with pytest.raises(SystemExit) as caught:
            synth("--url", "http://127.0.0.1:1/batch", *argv, "你好")
        told = capsys.readouterr().err
        assert caught.value.code == 2
        assert "--api-key-file" in told and "sk-secret" not in told


def test_a_regular_file_is_counted_before_it_is_spoken() -> None:
    Path("in.txt").write_text("你好\n\n再见\n")
    assert count_lines("in.txt") == 2
    assert count_lines("-") is None
    assert count_lines("/dev/null") is None


def test_digits_follow_the_number_of_texts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.txt").write_text("你好")
    monkeypatch.setattr("cosy_sync.cli.synth.count_lines", lambda path: 123_456)
    assert synth("--url", url, "-f", "in.txt", "-o", "out") == 0
    assert list(written()) == ["000001.wav"]


def test_an_item_has_the_hash_that_errors_have(url: str) -> None:
    source = Source.of_arguments(["长" * 9000])
    with CosyClient(url) as client, pytest.raises(InvalidTextError) as caught:
        client.synth(next(source))
    assert source.next_item().hash == caught.value.text_hash


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing to speak: give texts, or -f FILE"),
        (["x", "-f", "in.txt"], "not both"),
        (["-f", "missing.txt"], "cannot read missing.txt: No such file"),
        (["-f", "."], "cannot read .: Is a directory"),
        (["-f", "latin.txt"], "latin.txt: line 2 is not UTF-8"),
        (
            ["-f", "wide.txt"],
            "wide.txt: line 1 is not UTF-8; convert the file first, for example "
            "with: iconv -f UTF-16 -t UTF-8",
        ),
        (["x", "-o", "-", "--json"], "both want standard output"),
        (["x", "-o", "in.txt"], "in.txt is a file"),
        (["x", "-o", "in.txt/deep"], "cannot make the directory in.txt/deep: Not a directory"),
        (["-f", "sound.mp3"], "sound.mp3 is not a text file; give one in UTF-8"),
        (["x", "--voice", ""], "the name of a speaker, such as --voice 中文女\n"),
        (["x", "-o", "x.m4a"], "use a name that ends in .wav"),
        (["x", "-o", "nowhere/x.wav"], "cannot write to the directory nowhere"),
        (["x", "y", "-o", "x.wav"], "several texts do not fit into x.wav"),
        (["x", "y", "-o", "-"], "several texts do not fit into standard output"),
        (["-f", "blank.txt", "-o", "x.wav"], "the input is empty"),
        (["x", "--speed", "9"], "speed: must be 0.25 to 4"),
        (["x", "--rate", "0"], "--rate: must be a number above 0, or inf for no limit"),
        (
            ["x", "--wire", "openai", "--extra", '{"service": "no"}'],
            "extra: service must be one of",
        ),
        (["x", "--wire", "smoke"], "wire: there is no 'smoke'; known: batch"),
        (["x", "--api-key-file", "missing"], "cannot read the key from missing"),
        (["x", "--api-key-file", "two.txt"], "the key and nothing else"),
        (["x", "--api-key-file", "latin.txt"], "it is not text"),
    ],
)
def test_wrong_usage_ends_before_anything_is_sent(
    argv: list[str], words: str, capsys: Captured
) -> None:
    Path("in.txt").write_text("你好")
    Path("two.txt").write_text("two words")
    Path("blank.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"good\n\xe9\xe8\n")
    Path("wide.txt").write_text("你好", "utf-16")
    Path("sound.mp3").write_bytes(b"ID3\4\0\0\xff\xfb\x90")
    # Nobody listens there: what is sent would end with another code.
    assert synth("--url", "http://127.0.0.1:1/batch", *argv) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_an_empty_path_is_told_as_such(url: str, capsys: Captured) -> None:
    assert synth("--url", url, "你好", "-o", "") == 2
    assert "-o: the path is empty; give a directory or a file" in capsys.readouterr().err
    assert synth("--url", url, "-f", "", "-o", "out") == 2
    assert "cannot read '': " in capsys.readouterr().err
    assert main(["job", "run", "", "--to", "out", "--url", url]) == 2
    assert "'': cannot be read: " in capsys.readouterr().err


def test_without_an_address_the_fix_is_named(capsys: Captured) -> None:
    assert synth("x") == 2
    assert "COSY_SYNC_URL" in capsys.readouterr().err


def test_an_empty_file_is_no_error_for_a_directory(url: str, capsys: Captured) -> None:
    Path("blank.txt").write_text("\n\n")
    assert synth("--url", url, "-f", "blank.txt", "-o", "out") == 0
    assert capsys.readouterr().out == "there was nothing to speak\n"


class Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_input_that_turns_out_not_to_be_utf8_half_way_keeps_what_came_before(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = "".join(f"第{n}句话\n" for n in range(9)).encode() + b"\xff\n"
    monkeypatch.setattr(sys, "stdin", Input(lines))
    assert synth("--url", url, "-f", "-", "-o", "out", "--batch-size", "3") == 1
    assert len(written()) == 9
    told = capsys.readouterr().err
    assert "standard input: line 10 is not UTF-8" in told
    assert "9 texts spoken and kept in out/" in told


# -- names --------------------------------------------------------------------------------------


def test_names_follow_the_template(url: str) -> None:
    Path("in.txt").write_text("\n你好\n")
    assert synth("--url", url, "-f", "in.txt", "-o", "out", "--name", "a-{line}-{hash}") == 0
    assert re.fullmatch(r"a-2-[0-9a-f]{10}\.wav", next(iter(written())))


@pytest.mark.parametrize("template", ["{index}", "{index:06d}-{hash}", "{line:d}.wav", "第{index}"])
def test_good_templates(template: str) -> None:
    assert check_template(template) == template


@pytest.mark.parametrize(
    "template",
    [
        "",
        "plain",
        "{hash}",
        "{text}-{index}",
        "{index!r}",
        "{index:e}",
        "{index:c}",
        "{index:4d}",
        "{index:{line}}",
        "{index.real}",
        "{index",
        "{}",
        "../{index}",
        "a/{index}",
        ".{index}",
        "-{index}",
        "{index}\n",
        "{index}" + "x" * 300,
        "{index:099d}{line:099d}{index:099d}",
    ],
)
def test_templates_that_could_lose_or_misplace_files_are_refused(
    template: str, capsys: Captured
) -> None:
    with pytest.raises(ValueError):
        check_template(template)
    with pytest.raises(SystemExit) as end:
        synth("x", f"--name={template}")
    assert end.value.code == 2
    assert "argument --name" in capsys.readouterr().err


# -- sound out ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option", "start"),
    [("x.wav", "wav", 0), ("x.WAV", "pcm", 0), ("x.pcm", "wav", 44), ("x.raw", "pcm", 44)],
)
def test_one_text_goes_into_one_file(url: str, name: str, option: str, start: int) -> None:
    assert synth("--url", url, "你好", "-o", name, "--format", option) == 0
    assert Path(name).read_bytes() == tone("你好")[start:]


def test_bare_samples_fill_a_directory_too(url: str) -> None:
    assert synth("--url", url, "你好", "-o", "out", "--format", "pcm") == 0
    assert written() == {"0001.pcm": tone("你好")[44:]}


def test_standard_output_carries_the_sound_alone(
    url: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert synth("--url", url, "你好", "-o", "-") == 0
    out, err = capfdbinary.readouterr()
    assert out == tone("你好")
    assert b"1 text spoken to standard output" in err


def test_sound_is_not_written_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert synth("--url", "http://127.0.0.1:1/batch", "你好", "-o", "-") == 2
    assert "| aplay" in capsys.readouterr().err


def test_settings_reach_the_service(url: str) -> None:
    argv = ("--speed", "2", "--sample-rate", "16000", "--voice", "中文男", "-o", "x.wav")
    assert synth("--url", url, "你好你好", *argv) == 0
    with wave.open("x.wav") as sound:
        assert sound.getframerate() == 16000
        assert sound.getnframes() == 1600


# -- failures -----------------------------------------------------------------------------------


def test_failed_texts_are_listed_without_their_words(url: str, capsys: Captured) -> None:
    lines = ["", *(f"秘密{n}[fail]" for n in range(13)), "你好"]
    Path("in.txt").write_text("\n".join(lines))
    assert synth("--url", url, "-f", "in.txt", "-o", "out") == 1
    captured = capsys.readouterr()
    assert list(written()) == ["0014.wav"]
    assert captured.err.count(" failed: TextError: ") == 10
    assert "text 1 (line 2) #" in captured.err and "and 3 more failed" in captured.err
    assert "秘密" not in captured.err + captured.out
    assert "1 text spoken" in captured.out and "13 texts failed" in captured.out


def test_every_text_is_one_json_line_and_the_sum_the_last(url: str, capsys: Captured) -> None:
    Path("in.txt").write_text("你好\n\n坏[fail]\n")
    assert synth("--url", url, "-f", "in.txt", "-o", "out", "--json") == 1
    good, bad, total = map(json.loads, capsys.readouterr().out.splitlines())
    data = tone("你好")
    assert good.pop("latency") > 0
    assert good == {
        "index": 1,
        "line": 1,
        "ok": True,
        "file": "out/0001.wav",
        "seconds": 0.1,
        "sha256": hashlib.sha256(data).hexdigest(),
        "error": None,
    }
    assert (bad["index"], bad["line"], bad["ok"], bad["file"]) == (2, 3, False, None)
    assert bad["error"].startswith("TextError: ")
    assert (total["texts"], total["ok"], total["failed"], total["stopped"]) == (2, 1, 1, None)


def test_a_wrong_address_ends_at_the_first_text(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_RETRY_OUTLAST", "0.1")
    Path("in.txt").write_text("\n".join(f"第{n}句" for n in range(5000)))
    assert synth("--url", "http://127.0.0.1:1/batch", "-f", "in.txt", "-o", "out") == 3
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "cannot connect" in told
    assert "1 text was not sent, the rest was not spoken" in told


def test_the_only_text_leaves_no_rest(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSY_SYNC_RETRY_OUTLAST", "0.1")
    assert synth("--url", "http://127.0.0.1:1/batch", "你好", "-o", "out") == 3
    assert capsys.readouterr().err.endswith("; 1 text was not sent\n")


def test_a_path_without_a_service_ends_at_the_first_batch(url: str, capsys: Captured) -> None:
    assert synth("--url", f"{url}/x", "你好", "-o", "out") == 3
    assert "HTTP 404" in capsys.readouterr().err


def test_a_refused_key_ends_an_endless_input(capsys: Captured) -> None:
    with Server(api_key="right", latency=0.0) as server, CosyClient(server.url) as client:
        source = Source((n, f"第{n}句") for n in count(1))
        reporter = Reporter(Screen(bar=False), as_json=False, quiet_output=False)
        with pytest.raises(Stop, match="HTTP 401") as caught:
            Synthesis(source, Folder(Path(), Naming(), ".wav"), reporter).run(client)
    assert caught.value.code == 3
    assert reporter.ok == 0 and reporter.failed == 1


def test_the_key_comes_from_a_file(capsys: Captured) -> None:
    Path("key").write_text("right\n")
    with Server(api_key="right", latency=0.0) as server:
        assert synth("--url", server.url, "--api-key-file", "key", "你好", "-o", "x.wav") == 0
        assert synth("--url", server.url, "你好", "-o", "y.wav") == 3
    assert "right" not in "".join(capsys.readouterr())


def failing_save(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    real, calls = Audio.save, count(1)

    def save(self: Audio, path: Any) -> Path:
        if next(calls) > after:
            raise error
        return real(self, path)

    monkeypatch.setattr(Audio, "save", save)


@pytest.mark.parametrize(("after", "code"), [(0, 1), (2, 1)])
def test_a_full_disk_ends_it_and_keeps_what_is_there(
    after: int, code: int, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    failing_save(monkeypatch, after, OSError(28, "No space left on device"))
    assert synth("--url", url, "一二", "二三", "三四", "-o", "out") == code
    assert len(written()) == after
    told = capsys.readouterr().err
    assert f"cannot write out/000{after + 1}.wav: No space left on device" in told
    assert ("2 texts spoken and kept in out/" in told) == bool(after)


def test_ctrl_c_keeps_what_is_finished_and_counts_it(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    failing_save(monkeypatch, 2, KeyboardInterrupt())
    assert synth("--url", url, "一二", "二三", "三四", "-o", "out", "--json") == 130
    captured = capsys.readouterr()
    assert "interrupted; 2 texts spoken and kept in out/" in captured.err
    assert len(written()) == 2
    assert json.loads(captured.out.splitlines()[-1])["stopped"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_waits_for_the_file_that_is_being_written(number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this session ignores the signal, as under nohup")
    done = False
    with pytest.raises(KeyboardInterrupt), interruptible(), uninterrupted():
        os.kill(os.getpid(), number)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_as_under_nohup_interrupts_nothing(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible(), uninterrupted():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_other_threads_leave_signals_alone() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


# -- the console --------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_makes_room_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    screen = Screen(bar=True, total=2)
    screen.draw(1)
    screen.say("a message")
    screen.draw(2)
    screen.clear()
    assert "1/2 texts" in terminal.getvalue()
    assert "\r\x1b[Ka message\n" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_the_bar_counts_when_nobody_knows_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Screen(bar=True).draw(7)
    assert "7 texts, " in terminal.getvalue()


def test_without_a_terminal_there_is_no_bar(capsys: Captured) -> None:
    Screen(bar=True, total=2).draw(1)
    assert capsys.readouterr().err == ""


def test_closed_streams_are_survived(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    say("nobody hears this")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stdout", None)
    emit("nor this")
    with pytest.raises(Stop, match="standard output is closed"):
        open_target("-", Naming(), "wav")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Stop, match="standard input: it is closed"):
        list(Source.of_file("-"))


@pytest.mark.parametrize("given", ["seed=1", "[1]", "1" * 5_000, "[" * 100_000])
def test_extra_fields_that_are_no_json_object_are_refused(given: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        synth("x", "--extra", given)
    assert end.value.code == 2
    assert "must be a JSON object, such as" in capsys.readouterr().err


def test_an_error_is_told_with_its_endpoint_and_with_what_led_to_it() -> None:
    before = cosy_sync.ConnectError("Connection refused", endpoint="http://tts/v1")
    refused = cosy_sync.BreakerOpenError("breaker open", endpoint="http://tts/v1")
    told = words_of(refused.with_details(attempts=(before, refused)))
    assert told == "breaker open [http://tts/v1]; before: Connection refused"
    assert words_of(cosy_sync.CosyError("no http://tts", endpoint="http://tts")) == "no http://tts"


# -- what is there already ----------------------------------------------------------------------


def test_a_recording_of_an_earlier_run_is_not_replaced_unasked(url: str, capsys: Captured) -> None:
    Path("in.txt").write_text("你好\n再见\n")
    Path("out").mkdir()
    for name in ("out/0002.wav", "x.wav"):
        Path(name).write_text("precious")
    nobody = "http://127.0.0.1:1/batch"
    for argv, name in (
        (["-f", "in.txt", "-o", "out"], "out/0002.wav"),
        (["你好", "再见", "-o", "out"], "out/0002.wav"),
        (["你好", "-o", "x.wav"], "x.wav"),
    ):
        # Before anything is sent: nobody listens there.
        assert synth("--url", nobody, *argv) == 2
        told = capsys.readouterr().err
        assert f"{name} is there already" in told and "--overwrite" in told
        assert Path(name).read_text() == "precious"
    assert synth("--url", url, "-f", "in.txt", "-o", "out", "--overwrite") == 0
    assert synth("--url", url, "你好", "-o", "x.wav", "--overwrite") == 0
    assert written()["0002.wav"] == tone("再见") and Path("x.wav").read_bytes() == tone("你好")


def test_a_text_from_a_pipe_is_not_sent_if_its_file_is_there(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Path("out").mkdir()
    Path("out/a2.wav").write_text("precious")
    monkeypatch.setattr(sys, "stdin", Input("你好\n再见\n".encode()))
    assert synth("--url", url, "-f", "-", "-o", "out", "--name", "a{index}") == 1
    told = capsys.readouterr().err
    assert "out/a2.wav is there already" in told and "1 text spoken and kept in out/" in told
    assert Path("out/a2.wav").read_text() == "precious"


def test_numbers_of_an_earlier_run_are_not_mixed_with_a_pipes(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Path("out").mkdir()
    Path("out/00001.wav").write_text("precious")
    monkeypatch.setattr(sys, "stdin", Input("你好\n".encode()))
    assert synth("--url", "http://127.0.0.1:1/batch", "-f", "-", "-o", "out") == 2
    assert "out/00001.wav is there already" in capsys.readouterr().err


# -- numbers ------------------------------------------------------------------------------------


def test_numbers_from_a_pipe_get_the_digits_of_the_largest(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.cli.synth._DIGITS", 1)
    lines = [f"第{n}句" for n in range(101)]
    lines[4] = "坏[fail]"
    monkeypatch.setattr(sys, "stdin", Input("\n".join(lines).encode()))
    assert synth("--url", url, "-f", "-", "-o", "out") == 1
    there = written()
    assert list(there) == [f"{n:03d}.wav" for n in range(1, 102) if n != 5]
    assert [there[f"{n:03d}.wav"] for n in (1, 9, 10, 101)] == [
        tone(lines[n - 1]) for n in (1, 9, 10, 101)
    ]


def test_names_that_were_told_as_json_stay(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", Input("你好\n再见\n".encode()))
    assert synth("--url", url, "-f", "-", "-o", "out", "--json") == 0
    *texts, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert [text["file"] for text in texts] == ["out/000000001.wav", "out/000000002.wav"]
    assert all(Path(text["file"]).exists() for text in texts)


def test_a_file_as_standard_input_is_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.txt").write_text("\n".join(f"第{n}句" for n in range(12)))
    monkeypatch.setattr("cosy_sync.cli.synth._DIGITS", 1)
    with open("in.txt") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert count_lines("-") == 12
        assert synth("--url", url, "-f", "-", "-o", "out") == 0
    assert list(written()) == [f"{n:02d}.wav" for n in range(1, 13)]


def test_a_file_may_have_the_longest_name(url: str) -> None:
    name = "好" * 83 + "ab.wav"
    assert len(name.encode()) == 255
    assert synth("--url", url, "你好", "-o", name) == 0
    assert synth("--url", url, "你好", "-o", "out", "--name", "{index}" + "x" * 230) == 0
    assert Path(name).read_bytes() == tone("你好")


# -- what is no text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.csv", "A.CSV", "a.tsv", "a.jsonl", "a.json", "a.srt", "a.html", "a.docx"]
)
def test_a_file_of_another_kind_is_not_read_aloud(name: str, capsys: Captured) -> None:
    Path(name).write_text("id,text\n1,你好\n")
    service = ["--url", "http://a.test"]
    commands = {
        "-f -": ["synth", "-f", name, "-o", "out"],
        "--texts -": ["bench", "--texts", name, "-o", "x.html", *service],
        "-": ["warm", name, "--to", "out", *service],
    }
    if not name.endswith("srt"):
        commands[" -"] = ["narrate", name, "-o", "x.wav", *service]
    for stdin, command in commands.items():
        assert main(command) == 2
        told = capsys.readouterr().err
        assert name in told and "would be spoken too" in told and told.count("\n") == 1
        assert f"as it is: {stdin.strip()} < {name})" in told


def test_the_name_of_a_file_is_not_spoken(capsys: Captured) -> None:
    Path("in.txt").write_text("你好")
    assert synth("--url", "http://127.0.0.1:1/batch", "in.txt") == 2
    assert "in.txt is a file: to speak its lines, write -f in.txt" in capsys.readouterr().err


# -- what was not sent --------------------------------------------------------------------------


def test_texts_that_were_not_sent_are_not_called_failed(capsys: Captured) -> None:
    Path("in.txt").write_text("\n".join(f"第{n}句" for n in range(300)))
    before = cosy_sync.ConnectError("refused")
    errors = [
        (before.with_details(attempts=(before,)), False),
        (before.with_details(attempts=(cosy_sync.CutError("cut"),)), True),
        (cosy_sync.BreakerOpenError("open"), False),
        (cosy_sync.BreakerOpenError("open").with_details(attempts=(before,)), False),
        (cosy_sync.AuthError("HTTP 401"), True),
        (cosy_sync.AuthError("HTTP 401").with_details(sent=False), False),
        (cosy_sync.DeadlineError("late", phase="waiting to be sent"), False),
        (cosy_sync.DeadlineError("late", phase="waiting for the service (read)"), True),
        (cosy_sync.DeadlineError("late", phase="waiting for the service (tls)"), False),
        (cosy_sync.ClosedError("closed"), False),
        (InvalidTextError("empty"), True),
    ]
    assert [was_tried(error) for error, _ in errors] == [tried for _, tried in errors]
    reporter = Reporter(Screen(bar=False), as_json=False, quiet_output=False)
    source = Source.of_arguments([f"第{n}句" for n in range(len(errors))])
    for _, (error, _) in zip(source, errors, strict=True):
        reporter.lost(source.next_item(), error)
    reporter.close("out/")
    captured = capsys.readouterr()
    assert (reporter.failed, reporter.unsent) == (4, 7)
    assert "4 texts failed, 7 texts were not sent" in captured.out
    assert captured.err.count(" failed: ") == 4 and captured.err.count(" was not sent: ") == 1


def test_what_a_refused_key_leaves_was_not_sent() -> None:
    with (
        Server(api_key="right", latency=0.0) as server,
        CosyClient(server.url, batch_size=1, serial=True) as client,
    ):
        outcomes = client.synth_many(["你好", "再见", "谢谢"], on_error="return")
    assert [was_tried(outcome.error) for outcome in outcomes if outcome.error] == [
        True,
        False,
        False,
    ]


def test_texts_have_one_number_everywhere(url: str, capsys: Captured) -> None:
    assert synth("--url", url, "你好", "再见", "坏[fail]", "-o", "out", "--json", "-v") == 1
    captured = capsys.readouterr()
    assert "cosy-sync: text 3 #" in captured.err and "text 2" not in captured.err
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert lines[2]["index"] == 3 and lines[1]["file"] == "out/0002.wav"


def test_what_ends_a_command_has_that_number_in_its_traceback_too(
    url: str, capsys: Captured
) -> None:
    assert synth("--url", f"{url}/nothing-here", "你好", "-o", "out", "-v") == 3
    error = capsys.readouterr().err
    assert "[text 1, #" in error and "[text 0" not in error
