"""`narrate`: a file in, a sound file out, subtitles beside it; what is refused before it costs."""

import io
import os
import socket
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosy_sync.cli import _parser, main
from cosy_sync.cli.options import make_client
from cosy_sync.testing import Server
from cosy_sync.text import read_subtitles

Captured = pytest.CaptureFixture[str]

TEXT = (
    "今天的天气真是好得不得了。我们一起出去走一走吧朋友！\n\n你觉得去哪里比较合适呢？[pause:1s]\n"
)
SRT = "1\n00:00:01,000 --> 00:00:02,000\n今天天气好。\n\n2\n00:00:05,000 --> 00:00:06,000\n再见。\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, "utf-8")
    Path("film.srt").write_text(SRT, "utf-8")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0) as made:
        yield made


def narrate(server: Server, *argv: str) -> int:
    return main(["narrate", *argv, "--url", server.url])


def seconds_of(path: str) -> float:
    with wave.open(path) as file:
        return file.getnframes() / file.getframerate()


def test_a_text_becomes_one_file_with_subtitles_beside_it(server: Server, capsys: Captured) -> None:
    assert narrate(server, "text.txt", "-o", "text.wav", "--srt", "--vtt") == 0
    cues = read_subtitles(Path("text.srt").read_text("utf-8"))
    assert [cue.text for cue in cues] == TEXT.split("[")[0].replace("。", "。\n").replace(
        "！", "！\n"
    ).split()
    assert cues == read_subtitles(Path("text.vtt").read_text("utf-8"))
    assert seconds_of("text.wav") == pytest.approx(cues[-1].end + 1.0, abs=0.01)
    assert "text.wav, text.srt, text.vtt: " in capsys.readouterr().out


def test_subtitles_become_speech_at_their_times(server: Server) -> None:
    assert narrate(server, "film.srt", "-o", "film.wav") == 0
    assert 5 < seconds_of("film.wav") < 7


def test_standard_input_is_a_text(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO("你好，世界。".encode()), "utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    assert narrate(server, "-", "-o", "note.wav") == 0
    assert seconds_of("note.wav") > 0.3


def test_pauses_and_lines_are_options(server: Server) -> None:
    narrate(server, "text.txt", "-o", "a.wav", "--sentence-pause", "0", "--paragraph-pause", "0")
    narrate(server, "text.txt", "-o", "b.wav", "--sentence-pause", "2", "--paragraph-pause", "3")
    assert seconds_of("b.wav") - seconds_of("a.wav") == pytest.approx(5)
    narrate(server, "text.txt", "-o", "c.wav", "--srt", "lines.srt", "--line-length", "5")
    assert len(read_subtitles(Path("lines.srt").read_text("utf-8"))) > 5


def test_what_no_option_says_the_environment_says(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrate(server, "text.txt", "-o", "a.wav")
    monkeypatch.setenv("COSY_SYNC_NARRATION_SENTENCE_PAUSE", "2.25")
    narrate(server, "text.txt", "-o", "b.wav", "--paragraph-pause", "2.75")
    assert seconds_of("b.wav") - seconds_of("a.wav") == pytest.approx(4)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("text.txt", "-o", "x.aac"), "'x.aac' must end in .wav"),
        (("text.txt", "-o", "-"), "-o -: give a file's name; only `cosy-sync synth`"),
        (("text.txt", "-o", "x.flac", "--quality", "1"), "quality: flac loses nothing"),
        (("gone.txt", "-o", "x.wav"), "cannot read gone.txt"),
        (("text.txt", "-o", "x.wav", "--srt", "x.wav"), "x.wav would be sound and srt"),
        (("text.txt", "-o", "x.wav", "--srt", "y", "--vtt", "y"), "y would be srt and vtt"),
        (("film.srt", "-o", "film.wav", "--srt", "--overwrite"), "film.srt would be input and srt"),
        (("text.txt", "-o", "folder.wav"), "folder.wav is a directory"),
        (("text.txt", "-o", "x.wav", "--srt", "folder.wav"), "folder.wav is a directory"),
        (("text.txt", "-o", "x.wav", "--line-length", "9"), "--line-length does nothing here"),
        (("text.txt", "-o", "x.wav", "--max-speed", "2"), "--max-speed does nothing here"),
        (("film.srt", "-o", "x.wav", "--sentence-pause", "1"), "--sentence-pause does nothing"),
        (("film.srt", "-o", "x.wav", "--whole-paragraphs"), "--whole-paragraphs does nothing"),
        (("text.txt", "-o", "gone/x.wav"), "cannot write to the directory gone"),
        (("text.txt", "-o", "film.srt"), "must end in .wav"),
        (("empty.txt", "-o", "x.wav"), "nothing to say"),
        (("bad.srt", "-o", "x.wav"), "subtitles: line 1: expected times"),
        (("latin.txt", "-o", "x.wav"), "latin.txt: line 1 is not UTF-8"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sent(
    server: Server, capsys: Captured, argv: tuple[str, ...], message: str
) -> None:
    Path("empty.txt").write_text("……\n", "utf-8")
    Path("bad.srt").write_text("no times here\n", "utf-8")
    Path("folder.wav").mkdir()
    Path("latin.txt").write_bytes(b"caf\xe9\n")
    assert narrate(server, *argv) == 2
    assert message in capsys.readouterr().err
    assert server.stats()["texts"] == 0 and not os.path.exists("x.wav")


@pytest.mark.parametrize("there", ["text.wav", "text.srt"])
def test_what_is_there_is_replaced_with_overwrite_only(
    server: Server, capsys: Captured, there: str
) -> None:
    Path(there).write_text("mine")
    assert narrate(server, "text.txt", "-o", "text.wav", "--srt") == 2
    assert f"{there} is there already" in capsys.readouterr().err
    assert Path(there).read_text() == "mine" and server.stats()["texts"] == 0
    assert narrate(server, "text.txt", "-o", "text.wav", "--srt", "--overwrite") == 0
    assert Path(there).read_bytes() != b"mine"


def test_a_part_that_fails_writes_no_file_unless_it_may_be_silent(capsys: Captured) -> None:
    with Server(latency=0, max_text_chars=12) as server:
        assert narrate(server, "text.txt", "-o", "text.wav") == 1
        assert (
            "2 of 3 parts failed, and no file was written (--keep-going" in capsys.readouterr().err
        )
        assert not os.path.exists("text.wav")
        assert narrate(server, "text.txt", "-o", "text.wav", "--keep-going") == 1
        assert "part 1 failed: " in capsys.readouterr().out
        assert os.path.exists("text.wav")


def test_a_missing_package_is_told_what_needs_it_and_how_it_is_installed(
    server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert narrate(server, "text.txt", "-o", "x.mp3") == 2
    told = capsys.readouterr().err
    assert "error: --format: writing mp3 needs soundfile: pip install" in told
    assert server.stats()["texts"] == 0


@pytest.mark.parametrize("more", [(), ("--keep-going",)])
def test_a_wrong_address_shows_soon_and_no_file_of_silence_is_left(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setattr("cosy_sync.cli.options._FIRST_CONTACT", 0.1)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/batch"
        assert main(["narrate", "text.txt", "-o", "text.wav", "--url", url, *more]) == 3
    told = capsys.readouterr().err
    assert "3 of 3 parts failed, and no file was written" in told and "cannot connect" in told
    assert ("--keep-going" in told) is (more == ())
    assert not os.path.exists("text.wav")


def test_a_lexicon_says_words_rightly_and_a_wrong_one_is_told(
    server: Server, capsys: Captured
) -> None:
    Path("words.tsv").write_text("天气\tweather\n", "utf-8")
    Path("bad.tsv").write_text("天气\n", "utf-8")
    assert narrate(server, "text.txt", "-o", "a.wav", "--srt", "--lexicon", "words.tsv") == 0
    assert "今天的weather真是" in Path("a.srt").read_text("utf-8")
    assert narrate(server, "text.txt", "-o", "b.wav", "--lexicon", "bad.tsv") == 2
    assert narrate(server, "text.txt", "-o", "b.wav", "--lexicon", "gone.tsv") == 2
    told = capsys.readouterr().err
    assert "bad.tsv, line 1: expected a word" in told and "the lexicon gone.tsv: No such" in told


def test_dashscope_gets_a_lexicon_as_its_own_field() -> None:
    Path("words.tsv").write_text("天气\ttian1 qi4\n", "utf-8")
    argv = ["narrate", "text.txt", "-o", "a.wav", "--lexicon", "words.tsv", "--voice", "longanyang"]
    argv += [
        "--model",
        "cosyvoice-v3-flash",
        "--extra",
        '{"seed": 1}',
        "--wire",
        "dashscope_http",
        "--url",
        "http://127.0.0.1:9",
    ]
    with make_client(_parser(argv).parse_args(argv)) as client:
        assert dict(client.config.extra) == {
            "seed": 1,
            "hot_fix": {"pronunciation": [{"天气": "tian1 qi4"}]},
        }
        assert not client.config.prepare
