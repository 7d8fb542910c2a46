"""What a notebook shows: players with their length, tables, errors in red, nothing that runs."""

import base64
import io
import re
import sys

import pytest

from cosy_sync import Audio, CosyError, InvalidTextError, Outcome, ServerError
from cosy_sync.gathering import Outcomes
from cosy_sync.notebook import show_outcomes, show_segments
from cosy_sync.progress import Progress, TqdmProgress, as_progress
from cosy_sync.testing import FakeService


def spoken(text: str = "你好") -> Audio:
    data = FakeService.wav(text)
    return Audio(data, "wav", 24_000, 1, 44, len(data) - 44)


def sounds_in(shown: str) -> list[bytes]:
    return [base64.b64decode(part) for part in re.findall(r"base64,([^\"]+)", shown)]


def test_audio_plays_and_shows_its_length_before_it_is_played() -> None:
    shown = spoken()._repr_html_()
    assert 'preload="metadata"' in shown and len(sounds_in(shown)) == 1


def test_players_are_compressed_where_soundfile_is_and_wav_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    assert "data:audio/mpeg" in spoken()._repr_html_()
    assert len(sounds_in(spoken("长" * 40)._repr_html_())[0]) < len(spoken("长" * 40).data) / 4
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert sounds_in(spoken()._repr_html_()) == [spoken().data]


def test_the_length_stands_beside_a_player_which_counts_whole_seconds() -> None:
    audio = spoken()
    length = f"</audio> {audio.duration:.1f} s"
    assert length in audio._repr_html_()
    assert length in show_outcomes([Outcome(0, "你好", audio, None)])


def test_outcomes_show_their_ids_where_there_are_any() -> None:
    outcomes = [Outcome(0, "你好", None, None, "<i>"), Outcome(1, "再见", None, None)]
    shown = show_outcomes(outcomes)
    assert ">id</th>" in shown and ">&lt;i&gt;</td>" in shown
    assert ">id</th>" not in show_outcomes(outcomes[1:])


def test_an_item_that_is_no_text_shows_all_the_same() -> None:
    error = InvalidTextError("expected a text, got NoneType")
    for given in (None, 3, ["<b>"]):
        shown = show_outcomes([Outcome(0, given, None, error)])  # type: ignore[arg-type]
        assert "expected a text" in shown and "<b>" not in shown


def test_outcomes_are_a_list_that_shows_as_a_table() -> None:
    outcomes = Outcomes(
        [
            Outcome(0, "<script>alert(1)</script>", spoken(), None),
            Outcome(1, "再见", None, ServerError("down & <b>out</b>", status=500)),
        ]
    )
    assert isinstance(outcomes, list) and outcomes[1].text == "再见"
    shown = outcomes._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert '<span style="color:#c00">ServerError: down &amp; &lt;b&gt;out' in shown
    assert len(sounds_in(shown)) == 1 and shown.count("<tr>") == 3


def test_a_table_holds_no_more_than_20_mb_of_sound_and_200_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    large = Audio(bytes(9_000_000), "pcm", 24_000, 1, 0, 9_000_000)
    shown = show_outcomes([Outcome(n, "长", large, None) for n in range(4)])
    assert len(sounds_in(shown)) == 2 and shown.count(">187.5 s") == 2
    many = show_outcomes([Outcome(n, "x", None, CosyError("x")) for n in range(1_300)])
    assert many.count("<tr>") == 201 and "and 1,100 more" in many


def test_a_narration_is_a_player_and_a_table_with_players(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    sound = bytes(range(256)) * 750  # 4 s
    whole = Audio(sound, "pcm", 24_000, 1, 0, len(sound))
    rows: list[tuple[float, float, str, Exception | None]] = [
        (0.0, 1.0, "<i>一</i>", None),
        (1.5, 2.5, "二", CosyError("<b>broken</b>")),
        (3.0, 4.0, "三", None),
    ]
    shown = show_segments(whole, rows)
    parts = [wav[44:] for wav in sounds_in(shown)]
    assert parts == [sound, sound[:48_000], sound[144_000:]]
    assert "<i>" not in shown and "<b>" not in shown and "color:#c00" in shown
    assert len(sounds_in(show_segments(whole, rows[:1]))) == 1


def test_a_narration_embeds_no_more_than_20_mb_and_50_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    large = Audio(bytes(15_000_000), "pcm", 24_000, 1, 0, 15_000_000)
    shown = show_segments(large, [(n * 30.0, n * 30.0 + 30, "长", None) for n in range(10)])
    assert len(sounds_in(shown)) == 1 + 3 and len(shown) < 27_000_000
    small = Audio(bytes(480_000), "pcm", 24_000, 1, 0, 480_000)
    shown = show_segments(small, [(n / 10, n / 10 + 0.1, "短", None) for n in range(100)])
    assert len(sounds_in(shown)) == 1 + 50 and shown.count("<tr>") == 101
    assert show_segments("FileNotFoundError: <x>", [(0, 1, "一", None)]).startswith(
        "<p>FileNotFoundError: &lt;x&gt;</p>"
    )


class NotebookStream(io.StringIO):
    """As ipykernel's: no terminal, and of that module."""


NotebookStream.__module__ = "ipykernel.iostream"


def test_progress_is_drawn_in_a_notebook_with_tqdm_if_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    plain = as_progress(True)
    assert isinstance(plain, Progress)
    plain(3, 3)
    assert "3/3 texts" in stream.getvalue()

    class Bar:
        n = 0
        closed = False

        def __init__(self, total: int, unit: str) -> None:
            self.total = total

        def update(self, more: int) -> None:
            self.n += more

        def close(self) -> None:
            self.closed = True

    drawn = TqdmProgress(Bar)
    for done in (1, 2, 3):
        drawn(done, 3)
    assert (drawn._bar.n, drawn._bar.closed) == (3, True)


def test_elsewhere_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    quiet = as_progress(True)
    assert quiet is not None
    quiet(3, 3)
    assert stream.getvalue() == ""
