"""The command: what it knows, and how it tells an error. One line, one exit code."""

import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync import (
    AuthError,
    ConfigError,
    ConnectError,
    CosyError,
    DeadlineError,
    ReplyTimeout,
    ThrottledError,
)
from cosy_sync import __version__ as version
from cosy_sync.cli import main, synth
from cosy_sync.cli.exits import CODES, Exit, Stop, because, code_for, is_hopeless
from cosy_sync.errors import server_error

COMMANDS = ("synth", "serve", "demo", "bench")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: object) -> int:
        raise error

    monkeypatch.setattr(synth, "run", run)


def test_the_version_is_the_librarys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cosy-sync {version}\n"


def test_the_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(f"\n    {command} " in told for command in COMMANDS)
    assert all(f"\n  {code} " in told for code in (0, 1, 2, 3, 130))


def test_an_interruption_while_a_command_is_loaded_is_told_as_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cosy_sync.cli, "_parser", interrupt)
    assert main(["synth", "--help"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "cosy-sync: interrupted\n"


@pytest.mark.parametrize(
    ("encoding", "errors"),
    [
        ("ascii", "strict"),
        ("latin-1", "strict"),
        ("gbk", "strict"),
        ("ascii", "surrogateescape"),  # the locale C, without Python's UTF-8 mode
    ],
)
def test_a_terminal_of_another_encoding_gets_every_help(
    encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding, errors)
    monkeypatch.setattr(sys, "stdout", screen)
    with pytest.raises(SystemExit) as end:
        main(["synth", "--help"])
    screen.flush()
    told = screen.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert end.value.code == 0
    assert "中文女" in told if encoding == "gbk" else r"\u4e2d\u6587\u5973" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: cosy-sync {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["synth", "demo", "bench"])
def test_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert "examples:" in told and "exit codes:" in told


def test_without_a_command_the_help_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: cosy-sync" in capsys.readouterr().err


def test_an_unknown_command_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["sing"])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert all(command in told for command in COMMANDS)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Stop("no such file"), 2, "error: no such file"),
        (Stop("half way", 1), 1, "error: half way"),
        (ConfigError("speed: must be 1"), 2, "error: --speed: must be 1"),
        (ConnectError("cannot connect"), 3, "error: cannot connect"),
        (AuthError("HTTP 401", status=401), 3, "error: HTTP 401"),
        (ThrottledError("HTTP 429", status=429), 1, "error: HTTP 429"),
        (OSError(28, "No space left on device", "x.wav"), 2, "x.wav: No space left on device"),
        (RuntimeError("can't start\nnew thread"), 1, "RuntimeError: can't start new thread"),
        (KeyboardInterrupt(), 130, "cosy-sync: interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(monkeypatch, error)
    assert main(["synth", "x"]) == code
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.startswith("cosy-sync: ")
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize("argv", [["-v", "synth", "x"], ["synth", "x", "-v"]])
def test_verbose_shows_where_an_error_comes_from(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, Stop("no such file"))
    assert main(argv) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and told.endswith("cosy-sync: error: no such file\n")


@pytest.mark.parametrize(("option", "shown"), [("", ""), ("-v", "i"), ("-vv", "id")])
def test_verbose_shows_the_log_while_the_command_runs(
    option: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("cosy_sync")

    def run(args: object) -> int:
        logger.info("<i>")
        logger.debug("<d>")
        return 0

    monkeypatch.setattr(synth, "run", run)
    before = logger.level, list(logger.handlers)
    assert main([*([option] if option else []), "synth", "x"]) == 0
    told = capsys.readouterr().err
    assert [mark for mark in "id" if f"<{mark}>" in told] == list(shown)
    assert (logger.level, logger.handlers) == before


def test_a_reader_who_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, BrokenPipeError())
    assert main(["synth", "x"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_command_loads_nothing_of_the_others() -> None:
    code = (
        "import sys\n"
        "from cosy_sync.cli import main\n"
        "try: main(['synth', '--help'])\n"
        "except SystemExit: pass\n"
        "others = {'asyncio', 'cosy_sync.server', 'cosy_sync.cli.corpus'} & set(sys.modules)\n"
        "assert not others, others\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def refused(*attempts: CosyError) -> DeadlineError:
    return DeadlineError("no time left", attempts=attempts)


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (ConnectError("refused"), True),
        (refused(ConnectError("refused")), True),
        (refused(), False),
        (refused(ConnectError("refused"), ThrottledError("429", status=429)), False),
        (ThrottledError("429", status=429), False),
        (server_error(404, "nothing here"), True),
        (server_error(308, "it moved"), True),
        (server_error(400, "what?"), False),
    ],
)
def test_a_service_that_never_answered_is_unreachable(error: CosyError, hopeless: bool) -> None:
    assert is_hopeless(error) is hopeless
    assert code_for(error) == (3 if hopeless else 1)


def test_the_systems_reason_is_shown_without_its_number() -> None:
    assert because(OSError(28, "No space left on device", "x")) == "No space left on device"
    assert because(OSError("odd")) == "odd"


def test_the_page_and_the_help_tell_the_exit_codes_that_there_are() -> None:
    page = (Path(cosy_sync.__file__).parents[1] / "docs/command-line.md").read_text("utf-8")
    on_page = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    in_help = dict(re.findall(r"^  (\d+) +(.*)$", CODES, re.MULTILINE))
    assert on_page == in_help and {int(code) for code in on_page} == set(Exit)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (None, Exit.USAGE),
        (ConfigError("speed: must be 0.25 to 4"), Exit.USAGE),
        (ConnectError("refused"), Exit.UNREACHABLE),
        (AuthError("HTTP 401"), Exit.UNREACHABLE),
        (ReplyTimeout("late"), Exit.FAILED),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_setting_that_a_service_was_asked_for_ends_as_that_asking_did(
    cause: CosyError | None, code: Exit
) -> None:
    error = ConfigError("wire: nothing tells what it speaks")
    error.__cause__ = cause
    assert code_for(error) == code
