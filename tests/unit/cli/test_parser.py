"""What is mistyped is told the right option, in the usage of its own command."""

import pytest

from cosy_sync.cli import _COMMANDS, _parser, main
from cosy_sync.cli.parser import parse


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--ulr", "http://a"], "--ulr: no such option; did you mean --url?"),
        (["--batchsize=4"], "--batchsize: no such option; did you mean --batch-size?"),
        (["--timeout", "3"], "did you mean --deadline?"),
        (["--token", "x"], "did you mean --api-key-file?"),
        (["--speaker", "x"], "did you mean --voice?"),
        (["--threads", "3"], "did you mean --max-connections?"),
        (["--concurrency", "3"], "did you mean --max-connections?"),
        (["--qps", "3"], "did you mean --rate?"),
        (["--base-url", "x"], "did you mean --url?"),
        (["--prompt-wav", "x"], "did you mean --reference?"),
        (["--prompt-text", "x"], "did you mean --transcript?"),
        (["--input", "x"], "did you mean --file?"),
        (["--out-dir", "x"], "did you mean --output?"),
        (["--force"], "did you mean --overwrite?"),
        (["--retries", "2"], "set the variable COSY_SYNC_RETRY_MAX_RETRIES"),
        (["--proxy", "x"], "set HTTPS_PROXY"),
        (["--max-retries", "2"], "set the variable COSY_SYNC_RETRY_MAX_RETRIES"),
        (["--tenant", "x"], "set the variable COSY_SYNC_TENANT"),
        (["--serial"], "set the variable COSY_SYNC_SERIAL"),
        (["--redis-url", "x"], "set the variable COSY_SYNC_SHARING_REDIS_URL"),
        (["--no-verify-tls"], "set the variable COSY_SYNC_POOL_VERIFY_TLS"),
        (["--no-verify"], "for certificates write COSY_SYNC_POOL_VERIFY_TLS=false"),
        (["--conn", "3"], "--conn: no such option; did you mean --max-connections?"),
        (["--dead=3"], "--dead: no such option; did you mean --deadline?"),
        (["--s", "3"], "did you mean --sample-rate or --speed?"),
        (["--backoff", "3"], "set the variable COSY_SYNC_RETRY_BASE"),
        (["--gzip", "3"], "set the variable COSY_SYNC_BATCH_GZIP_ABOVE"),
        (["-5度"], "-5度: no such option; what begins with a dash and is no option goes behind --"),
        (["--xyzzy"], "--xyzzy: no such option; the usage above names them all"),
    ],
)
def test_a_mistyped_option_is_told_the_right_one(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["synth", "你好", *argv])
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told.startswith("usage: cosy-sync synth ") and hint in told


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["bench", "--max-txets", "3"], "did you mean --max-texts?"),
        (["demo", "--enigne", "tone"], "did you mean --engine?"),
        (["serve", "--prot", "80"], "did you mean --port?"),
        (["serve", "--po", "80"], "did you mean --port?"),
        (["demo", "--eng", "tone"], "did you mean --engine?"),
        (["bench", "--conn", "3"], "did you mean --max-connections?"),
        (["demo", "--url", "x"], "--url: no such option; the usage above names them all"),
    ],
)
def test_every_command_has_its_own_usage(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    told = capsys.readouterr().err
    assert told.startswith(f"usage: cosy-sync {argv[0]} ") and hint in told


def test_help_and_version_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("help", "version"):
        with pytest.raises(SystemExit):
            main([word])
        assert f"{word!r}: no such command; did you mean --{word}?" in capsys.readouterr().err


def test_an_option_before_the_command_is_told_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--url", "http://a.test", "synth", "你好"])
    told = capsys.readouterr().err
    assert end.value.code == 2 and "--url: options follow a command" in told


@pytest.mark.parametrize(("word", "hint"), [("synht", "did you mean synth?"), ("你好", "known: ")])
def test_a_mistyped_command_is_told_the_right_one(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([word, "-o", "x"])
    assert end.value.code == 2 and hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rate", "-1"], "--rate is -1: use a number from 0 to"),
        (["--max-texts", "0"], "--max-texts is 0: use a number from 1 to"),
        (["--audio-bytes", "3"], "--audio-bytes is 3: use an even number"),
        (["--fault", "reset:2"], "--fault 'reset': the probability is 2.0: use a number from 0"),
        (["--shortage", "1:1:2"], "--shortage: the share is 2.0: use a number above 0"),
    ],
)
def test_the_server_names_its_options_too(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *argv]) == 2
    told = capsys.readouterr().err
    assert f"cosy-sync serve: {words}" in told and "None" not in told


@pytest.mark.parametrize(
    ("argv", "dest", "words"),
    [
        (["synth", "--connections", "3"], "max_connections", "--max-connections"),
        (["serve", "--rps", "3"], "rate", "--rate"),
        (["demo", "--rps", "3"], "rate", "--rate"),
    ],
)
def test_an_options_name_of_before_is_taken_with_a_warning(
    argv: list[str], dest: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parse(_parser(argv), argv, _COMMANDS)
    assert getattr(args, dest) == 3
    assert capsys.readouterr().err == f"warning: {argv[1]} is called {words} now\n"
    args = parse(_parser(argv), argv[:1], _COMMANDS)
    assert getattr(args, dest) == {"synth": None}.get(argv[0], 100)


@pytest.mark.parametrize("step", ["status", "merge"])
def test_a_step_that_does_not_know_an_option_shows_its_own_usage(
    step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["job", step, "out", "--to", "x"])
    told = capsys.readouterr().err
    assert told.startswith(f"usage: cosy-sync job {step} [-h]")
    assert f"cosy-sync job {step}: error: --to: no such option" in told


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["job", "exprot", "out"], "STEP: there is no 'exprot'; did you mean export? known: run, "),
        (["cache", "stat"], "action: there is no 'stat'; did you mean stats? known: stats, clear"),
        (
            ["synth", "--format", "wave"],
            "--format: there is no 'wave'; did you mean wav? known: pcm",
        ),
        (["demo", "--engine", "x"], "--engine: there is no 'x'; known: auto, espeak, tone"),
    ],
)
def test_a_mistyped_choice_is_told_the_right_one(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert words in capsys.readouterr().err
