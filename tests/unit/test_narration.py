"""Long texts spoken: pieces in batches, joined to the sample, with their times."""

import io
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import soundfile

from cosy_sync import (
    Audio,
    BatchError,
    ConfigError,
    CosyClient,
    Endpoint,
    InterruptedBatch,
    InvalidTextError,
    LimitConfig,
    NarrationConfig,
    RetryConfig,
    joining,
)
from cosy_sync.joining import SoundBuffer
from cosy_sync.models import wav_header
from cosy_sync.testing import FakeService, Server
from cosy_sync.text import read_subtitles

URL = "http://tts.test/batch"
FIRST = "今天的天气真是好得不得了。"
SECOND = "我们一起出去走一走吧朋友！"
THIRD = "你觉得去哪里比较合适呢？"
TEXT = f"{FIRST}{SECOND}\n\n{THIRD}"
PAUSES = NarrationConfig(sentence_pause=0.2, paragraph_pause=0.7)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[CosyClient]:
    http_client = httpx.Client(transport=service)
    with CosyClient(
        URL, http_client=http_client, narration=PAUSES, retry=RetryConfig(max_retries=0)
    ) as made:
        yield made


class Refusing(FakeService):
    """Refuses texts that hold a word."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "哪里".encode() in request.read() or b"\\u54ea" in request.read():
            return httpx.Response(400, json={"error": {"message": "bad text"}})
        return super().handle_request(request)


def test_pieces_are_joined_to_the_sample_with_the_pauses_between(client: CosyClient) -> None:
    narration = client.narrate(TEXT)
    one, two, three = (client.synth(text).pcm() for text in (FIRST, SECOND, THIRD))
    gap, paragraph = bytes(2 * round(0.2 * 24_000)), bytes(2 * round(0.7 * 24_000))
    assert narration.audio.pcm() == one + gap + two + paragraph + three
    assert [segment.text for segment in narration.segments] == [FIRST, SECOND, THIRD]


def test_times_of_segments_are_where_their_sound_is(client: CosyClient) -> None:
    narration = client.narrate(TEXT)
    for segment in narration.segments:
        said = client.synth(segment.text)
        start = round(segment.start * 24_000) * 2
        assert narration.audio.pcm()[start : start + said.pcm_size] == said.pcm()
        assert segment.end == pytest.approx(segment.start + said.duration)
    assert narration.segments[-1].end == narration.duration == narration.audio.duration


def test_pieces_share_batches(client: CosyClient, service: FakeService) -> None:
    sentences = [f"这是一本很长的书里面的第{n}个句子，它不短也不长。" for n in range(150)]
    client.narrate("".join(sentences))
    assert sorted(text for call in service.calls for text in call) == sorted(sentences)
    assert len(service.calls) == 3


def test_segments_come_as_they_are_ready_and_together_are_the_whole(client: CosyClient) -> None:
    segments = list(client.narrate_iter(f"[pause:1s]{TEXT}[pause:2s]"))
    whole = client.narrate(f"[pause:1s]{TEXT}[pause:2s]")
    assert b"".join(s.audio.pcm() for s in segments if s.audio is not None) == whole.audio.pcm()
    assert [s.start for s in segments] == [s.start for s in whole.segments]
    assert (segments[0].start, whole.duration) == (1.0, whole.segments[-1].end + 2.0)


def test_subtitles_end_with_the_sound(client: CosyClient) -> None:
    narration = client.narrate(TEXT)
    for text in (narration.srt(), narration.vtt(), narration.srt(max_chars=5)):
        cues = read_subtitles(text)
        assert "".join(cue.text for cue in cues) == TEXT.replace("\n", "")
        assert abs(cues[-1].end - narration.duration) < 0.01
    with pytest.raises(ConfigError, match="max_chars"):
        narration.srt(max_chars=0)


@pytest.mark.parametrize("rate", [22_050, 24_000])
@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "opus", "ogg"])
def test_subtitles_end_where_a_decoder_finds_the_end_of_the_file(
    tmp_path: Path, ending: str, rate: int
) -> None:
    class Other(FakeService):
        @staticmethod
        def wav(text: str) -> bytes:
            pcm = FakeService.wav(text)[44:]
            return wav_header(rate, 1, len(pcm)) + pcm

    path = tmp_path / f"x.{ending}"
    config = NarrationConfig(sentence_pause=0.123)
    with CosyClient(URL, http_client=httpx.Client(transport=Other()), narration=config) as client:
        narration = client.narrate(TEXT, to=path)
    read = soundfile.info(path)
    end = read_subtitles(narration.srt())[-1].end
    assert abs(end - read.frames / read.samplerate) < 0.002


@pytest.mark.parametrize("ending", ["wav", "pcm", "flac"])
def test_a_narration_goes_to_a_file_in_the_format_of_its_ending(
    client: CosyClient, tmp_path: Path, ending: str
) -> None:
    narration = client.narrate(TEXT, to=tmp_path / f"text.{ending}")
    assert narration.path == tmp_path / f"text.{ending}"
    assert narration.audio == client.narrate(TEXT).audio
    assert narration.duration == narration.audio.duration
    assert os.listdir(tmp_path) == [f"text.{ending}"]


def test_the_sound_is_in_the_clients_format(client: CosyClient) -> None:
    assert client.narrate(TEXT).audio.format == "wav"
    quick = client.with_options(format="pcm")
    assert quick.narrate(TEXT).audio.format == "pcm"
    assert {s.audio.format for s in quick.narrate_iter(TEXT) if s.audio} == {"pcm"}


def test_a_failed_segment_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with CosyClient(URL, http_client=httpx.Client(transport=Refusing())) as client:
        with pytest.raises(BatchError, match=r"segment 2 of 3 failed.*on_error='return'") as caught:
            client.narrate(TEXT)
        assert [outcome.ok for outcome in caught.value.outcomes] == [True, True, False]
        assert caught.value.outcomes[0].result() == client.synth(FIRST)
        with pytest.raises(BatchError):
            client.narrate(TEXT, to=tmp_path / "text.wav")
        assert os.listdir(tmp_path) == []


def test_what_cannot_become_a_file_any_more_is_not_spoken_to_its_end(tmp_path: Path) -> None:
    refusing = Refusing()
    text = THIRD + "".join(f"这是一本书里面的第{n}个句子，它不短也不长。" for n in range(5000))
    waiting = LimitConfig(max_bytes_waiting=8_000_000)
    with (
        CosyClient(URL, http_client=httpx.Client(transport=refusing), limits=waiting) as client,
        pytest.raises(BatchError, match="segment 0 of 5001 failed"),
    ):
        client.narrate(text, to=tmp_path / "text.wav")
    assert sum(map(len, refusing.calls)) < 3000


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_what_was_joined_before_a_call_broke_off_is_not_lost(format: str) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    client = CosyClient(URL, http_client=httpx.Client(transport=FakeService()), format=format)
    with client:
        with pytest.raises(KeyboardInterrupt) as caught:
            client.narrate(TEXT, progress=stop)
        outcomes = caught.value.outcomes  # type: ignore[attr-defined]
        for outcome, text in zip(outcomes, (FIRST, SECOND, THIRD), strict=True):
            alone = client.synth(text)
            assert outcome.result() == alone
            assert outcome.result().data == alone.data
            assert outcome.result().format == format and outcome.timing is not None


class Tagged(FakeService):
    """Speaks with 0.2 s of silence at both ends, in files that say who wrote them."""

    @staticmethod
    def wav(text: str) -> bytes:
        pause = bytes(2 * 4_800)
        pcm = pause + FakeService.wav(text)[44:] + pause
        tag = b"LIST" + struct.pack("<I4s4sI6s", 18, b"INFO", b"ISFT", 6, b"maker\0")
        head = wav_header(24_000, 1, len(pcm))
        return b"".join(
            (b"RIFF", struct.pack("<I", 62 + len(pcm)), head[8:36], tag, head[36:], pcm)
        )


@pytest.mark.parametrize("trims", [False, True])
def test_what_breaks_a_call_off_carries_each_sound_as_the_service_sent_it(trims: bool) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    config = NarrationConfig(trim=trims)
    with (
        CosyClient(URL, http_client=httpx.Client(transport=Tagged()), narration=config) as client,
        pytest.raises(InterruptedBatch) as caught,
    ):
        client.narrate(TEXT, progress=stop)
    for outcome, text in zip(caught.value.outcomes, (FIRST, SECOND, THIRD), strict=True):
        assert outcome.result().data == Tagged.wav(text)


def test_ctrl_c_while_sounds_are_put_back_leaves_no_outcome_without_its_own(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = SoundBuffer.read, []

    def interrupt(buffer: SoundBuffer, begin: int, end: int) -> bytes:
        calls.append(begin)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(buffer, begin, end)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise ValueError

    monkeypatch.setattr(SoundBuffer, "read", interrupt)
    with pytest.raises(InterruptedBatch) as caught:
        client.narrate(TEXT, progress=stop)
    assert [outcome.result().data for outcome in caught.value.outcomes] == [
        FakeService.wav(text) for text in (FIRST, SECOND, THIRD)
    ]


def test_silence_that_no_wav_file_can_hold_takes_no_memory(
    client: CosyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MOST_WAV", 24_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="4 GiB") as caught:
            client.dub([(0.0, 5.0, FIRST), (600.0, 605.0, SECOND)])
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert [outcome.ok for outcome in caught.value.outcomes] == [True, True]  # type: ignore[attr-defined]


def test_an_error_says_of_a_file_that_its_sound_is_not_kept(tmp_path: Path) -> None:
    http_client = httpx.Client(transport=Refusing())
    with CosyClient(URL, http_client=http_client) as client:
        with pytest.raises(BatchError, match="finished audio included"):
            client.narrate(TEXT)
        with pytest.raises(
            BatchError, match=r"no file was made; with to= \.outcomes holds no audio"
        ):
            client.narrate(TEXT, to=tmp_path / "x.wav")


class Counting(FakeService):
    """Counts the texts that it has spoken; says whether it has had nothing to do for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.spoken += len(self.calls[-1])
        return response

    def rest(self) -> None:
        known = -1
        while known != self.spoken:
            known = self.spoken
            time.sleep(0.01)


@pytest.mark.parametrize("known", [True, False])
def test_sound_that_is_encoded_slowly_is_not_asked_for_faster_than_there_is_room(
    tmp_path: Path, known: bool
) -> None:
    service, ahead, size = Counting(), [0], 8
    sound = len(FakeService.wav(FIRST))

    def draw(done: int, total: int) -> None:
        if done % size == 1:  # the encoder takes its time
            service.rest()
            ahead.append(service.spoken - before - done)

    with CosyClient(
        Endpoint(URL, rate=None),
        http_client=httpx.Client(transport=service),
        batch_size=size,
        limits=LimitConfig(max_bytes_waiting=8 * size * sound),
        retry=RetryConfig(max_retries=0),
    ) as client:
        if known:  # it may be asked for much at once
            client.synth_many([f"第{n:03}句。" for n in range(400)])
        before = service.spoken
        sentences = [f"这是第{n:03}个句子不长。" for n in range(400)]
        client.narrate("".join(sentences), to=tmp_path / "x.flac", progress=draw)
    assert service.spoken - before == len(sentences)
    # Room for 8 batches, for twice as many once the caller had to wait on a busy machine, and two.
    assert max(ahead) <= 20 * size


def test_a_narration_that_is_encoded_is_known_the_second_time(
    service: FakeService, tmp_path: Path
) -> None:
    http_client = httpx.Client(transport=service)
    text = "".join(f"第{n:03}个句子不长不短。" for n in range(300))
    with CosyClient(URL, http_client=http_client, cache="memory") as client:
        first = client.narrate(text, to=tmp_path / "x.flac").audio
        calls = len(service.calls)
        assert client.narrate(text, to=tmp_path / "y.flac").audio == first
    assert len(service.calls) == calls


def test_a_narration_in_a_file_can_be_pickled_and_shown_when_the_file_is_gone(
    client: CosyClient, tmp_path: Path
) -> None:
    narration = client.narrate(TEXT, to=tmp_path / "text.wav")
    again = pickle.loads(pickle.dumps(narration))
    assert again.audio == narration.audio and again.srt() == narration.srt()
    (tmp_path / "text.wav").unlink()
    assert "FileNotFoundError" in narration._repr_html_()


@pytest.mark.parametrize("name", ["", "n" * 252 + ".wav"])
def test_a_place_that_no_file_can_have_is_told_before_anything_is_sent(
    client: CosyClient, service: FakeService, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(OSError):
        client.narrate(TEXT, to=tmp_path / (name or "folder.wav"))
    assert service.calls == []


@pytest.mark.parametrize("bad_first", [True, False])
def test_on_error_return_leaves_silence_that_is_marked(bad_first: bool) -> None:
    text = f"{THIRD}{FIRST}" if bad_first else f"{FIRST}{THIRD}"
    with CosyClient(
        URL, http_client=httpx.Client(transport=Refusing()), narration=NarrationConfig(gap=0.5)
    ) as client:
        narration = client.narrate(text, on_error="return")
        lost, said = narration.segments if bad_first else narration.segments[::-1]
        assert not lost.ok and said.ok
        assert lost.end - lost.start == pytest.approx(0.5)
        assert THIRD not in narration.srt()
        assert [s.ok for s in client.narrate_iter(text)] == [s.ok for s in narration.segments]


def test_a_text_that_all_fails_is_silence_of_the_rate_that_was_asked_for() -> None:
    with CosyClient(URL, http_client=httpx.Client(transport=Refusing())) as client:
        narration = client.narrate(THIRD, on_error="return")
        assert narration.duration == 1.0 and narration.audio.sample_rate == 24_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("……", "nothing to say"),
        (["一", "二"], "got several"),
        (b"text", "decode it"),
        (Path("chapter.txt"), "read the file first"),
        (None, "expected a text"),
        ("一\ud800", "surrogate"),
    ],
)
def test_a_text_that_cannot_be_is_refused_before_anything_is_sent(
    client: CosyClient, service: FakeService, text: str, message: str
) -> None:
    for call in (client.narrate, client.narrate_iter):
        with pytest.raises(InvalidTextError, match=message):
            call(text)
    assert service.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "x.aac"}, "must end in"),
        ({"to": 3}, "the path of a file, got int"),
        ({"to": io.BytesIO()}, "the path of a file, got BytesIO"),
        ({"to": b"x.wav"}, "the path of a file, got bytes"),
        ({"sentence_pause": 1}, r"with_options\(narration=NarrationConfig\(sentence_pause"),
        ({"max_retries": 1}, r"with_options\(retry=RetryConfig\(max_retries"),
        ({"on_error": "ignore"}, "on_error"),
        ({"within": -1}, "within"),
        ({"voice": ""}, "voice"),
        ({"voices": "x"}, "voice"),
        ({"progress": 3}, "progress"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_sent(
    client: CosyClient, service: FakeService, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        client.narrate(TEXT, **options)  # type: ignore[arg-type]
    assert service.calls == []


def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(
    client: CosyClient, service: FakeService, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        client.narrate(TEXT, to=tmp_path / "gone" / "x.wav")
    assert service.calls == []


def test_progress_counts_segments(client: CosyClient) -> None:
    seen: list[tuple[int, int]] = []
    client.narrate(TEXT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_ctrl_c_carries_what_was_spoken_and_leaves_no_file(
    client: CosyClient, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBatch) as caught:
        client.narrate(TEXT, progress=interrupt, to=tmp_path / "x.wav")
    assert len(caught.value.outcomes) >= 2
    assert os.listdir(tmp_path) == []


class Padding(FakeService):
    """Speaks with 0.2 s of silence at both ends."""

    @staticmethod
    def wav(text: str) -> bytes:
        pcm = FakeService.wav(text)[44:]
        return wav_header(24_000, 1, len(pcm) + 19_200) + bytes(9600) + pcm + bytes(9600)


class Slowing(FakeService):
    """Speaks one text at another rate."""

    @staticmethod
    def wav(text: str) -> bytes:
        pcm = FakeService.wav(text)[44:]
        return wav_header(12_000 if text == SECOND else 24_000, 1, len(pcm)) + pcm


def test_trimmed_segments_have_exact_pauses() -> None:
    config = NarrationConfig(trim=True, sentence_pause=0.25)
    with CosyClient(URL, http_client=httpx.Client(transport=Padding()), narration=config) as client:
        one, two = client.narrate(f"{FIRST}{SECOND}").segments
        assert two.start - one.end == pytest.approx(0.25)
        assert two.end == pytest.approx(
            client.synth(FIRST).duration + client.synth(SECOND).duration + 0.25 - 4 * 0.18, abs=0.03
        )


def test_trimmed_segments_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    config = NarrationConfig(trim=True)
    text = "".join(f"这是一本书里面的第{n}个句子，它不短也不长。" for n in range(100))
    with CosyClient(
        URL, http_client=httpx.Client(transport=FakeService()), narration=config
    ) as client:
        assert client.narrate(text, to=tmp_path / "x.wav").audio == client.narrate(text).audio


def test_sound_that_goes_to_a_file_is_written_out_of_its_reply(
    client: CosyClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Audio] = []
    monkeypatch.setattr("cosy_sync.engine.bulk.detach", copied.append)
    text = "".join(f"这是一本书里面的第{n}个句子，它不短也不长。" for n in range(100))
    narration = client.narrate(text, to=tmp_path / "x.wav")
    monkeypatch.undo()
    assert copied == [] and narration.audio == client.narrate(text).audio


def test_a_rate_that_changes_between_segments_is_refused(tmp_path: Path) -> None:
    with CosyClient(URL, http_client=httpx.Client(transport=Slowing())) as client:
        with pytest.raises(ConfigError, match=r"segment 1 came with 12000 Hz.*24000 Hz"):
            client.narrate(TEXT, to=tmp_path / "x.wav")
        assert os.listdir(tmp_path) == []


# -- subtitles spoken ---------------------------------------------------------------------------

SRT = """1
00:00:01,000 --> 00:00:02,000
今天天气好。

2
00:00:05,000 --> 00:00:06,000
我们出去走走。
"""


def test_each_cue_is_heard_at_its_time(client: CosyClient) -> None:
    narration = client.dub(SRT)
    assert [segment.start for segment in narration.segments] == [1.0, 5.0]
    assert narration.audio.pcm()[48_000 : 48_000 + 200] == client.synth("今天天气好。").pcm()[:200]
    assert not any(segment.overrun for segment in narration.segments)


def test_what_does_not_fit_is_spoken_faster_and_else_told(
    client: CosyClient, service: FakeService
) -> None:
    usual = client.synth(FIRST).duration
    cues = [(1.0, 2.0, FIRST), (1.0 + 0.8 * usual, 9.0, SECOND)]
    quick = client.dub(cues, max_speed=2)
    assert quick.segments[0].overrun > 0  # this service speaks at one speed only
    assert quick.segments[1].start == quick.segments[0].end
    assert service.calls[-1] == [FIRST]
    assert len(service.calls) == 3  # one for the length above, one for both, one more


def test_a_max_speed_below_the_clients_is_refused(client: CosyClient) -> None:
    with pytest.raises(ConfigError, match=r"max_speed: must be 1 .* to 4"):
        client.dub(SRT, max_speed=0.5)


def test_cues_with_nothing_to_say_are_not_sent(client: CosyClient, service: FakeService) -> None:
    narration = client.dub([(0, 1, "♪ ♪"), (2, 3, FIRST), (4, 5, "...")])
    assert service.calls == [[FIRST]] and [s.start for s in narration.segments] == [2.0]


def test_a_speed_above_the_usual_bound_is_the_bound_itself(client: CosyClient) -> None:
    assert client.with_options(speed=1.5).dub(SRT).segments[0].start == 1.0


@pytest.mark.parametrize(
    ("subtitles", "message"),
    [
        (Path("film.srt"), "got PosixPath; read the file first"),
        ("film.srt", "got a file's name; read it first"),
        (None, "got NoneType"),
        (b"1", "got bytes"),
        ([(1, 2)], r"cue 0 must be \(start, end, text\)"),
        ([(0, 1, "a"), ("1", "2", "b")], "cue 1"),
        ([(0, float("inf"), "a")], "cue 0"),
        ([(float("nan"), 1, "a")], "cue 0"),
        ([(2, 1, "a")], "cue 0"),
        ([(-1, 1, "a")], "cue 0"),
    ],
)
def test_what_are_no_cues_is_refused(
    client: CosyClient, service: FakeService, subtitles: object, message: str
) -> None:
    with pytest.raises(InvalidTextError, match=message):
        client.dub(subtitles)  # type: ignore[arg-type]
    assert service.calls == []


def test_hours_of_silence_take_no_memory(client: CosyClient, tmp_path: Path) -> None:
    tracemalloc.start()
    narration = client.dub([(7200, 7201, FIRST)], to=tmp_path / "x.pcm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert narration.segments[0].start == 7200 and peak < 30_000_000


def test_a_place_that_no_file_can_have_is_told_before_a_cue_is_sent(
    client: CosyClient, service: FakeService, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        client.dub(SRT, to=tmp_path / "gone" / "x.wav")
    assert service.calls == []


def test_what_a_callback_raises_is_not_taken_for_the_files_error(
    client: CosyClient, tmp_path: Path
) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError(5, "of the callback")

    with pytest.raises(OSError, match="of the callback") as caught:
        client.narrate(TEXT, to=tmp_path / "x.wav", progress=fail)
    assert caught.value.filename is None and os.listdir(tmp_path) == []


def test_cues_may_come_from_any_iterable_that_has_an_order(
    client: CosyClient, service: FakeService
) -> None:
    cues = [(0.0, 1.0, FIRST), (5.0, 6.0, SECOND)]
    assert len(client.dub(cue for cue in cues).segments) == 2
    for wrong in ({cues[0]}, {FIRST: cues[0]}):
        with pytest.raises(InvalidTextError, match=r"list of \(start, end, text\), got (set|dict)"):
            client.dub(wrong)  # type: ignore[arg-type]
    assert len(service.calls) == 1


@pytest.mark.parametrize("bad", ["\ud800", "字" * 5001])
def test_a_cue_that_cannot_be_sent_is_refused_before_the_others_are(
    client: CosyClient, service: FakeService, bad: str
) -> None:
    cues = [(0.0, 1.0, FIRST), (5.0, 6.0, bad + "字"), (9.0, 10.0, SECOND)]
    with pytest.raises(InvalidTextError, match="text 1"):
        client.dub(cues)
    assert service.calls == []
    segments = client.dub(cues, on_error="return").segments
    assert [segment.ok for segment in segments] == [True, False, True]
    assert [segment.start for segment in segments] == [0.0, 5.0, 9.0]


def test_what_ends_the_second_speaking_of_cues_carries_the_first(client: CosyClient) -> None:
    cues = [(0.0, 0.1, FIRST), (0.1, 0.2, SECOND)]
    many = CosyClient.synth_many

    def interrupt(view: CosyClient, texts: list[str], **settings: object) -> object:
        if view.config.speed > 1:
            raise KeyboardInterrupt
        return many(view, texts, **settings)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedBatch) as caught:
        patch.setattr(CosyClient, "synth_many", interrupt)
        client.dub(cues)
    assert [(each.index, each.text, each.ok) for each in caught.value.outcomes] == [
        (0, FIRST, True),
        (1, SECOND, True),
    ]


def test_cues_that_were_spoken_are_not_lost_with_their_file(
    client: CosyClient, tmp_path: Path
) -> None:
    cues = [(0.0, 5.0, FIRST), (5.0, 9.0, THIRD), (9.0, 12.0, SECOND)]
    http_client = httpx.Client(transport=Refusing())
    with CosyClient(URL, http_client=http_client) as refusing, pytest.raises(BatchError) as caught:
        refusing.dub(cues, to=tmp_path / "x.wav")
    assert [outcome.audio for outcome in caught.value.outcomes] == [
        client.synth(FIRST),
        None,
        client.synth(SECOND),
    ]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [None, "x.wav"])
def test_cues_that_were_spoken_are_carried_by_what_ends_their_joining(
    tmp_path: Path, name: str | None
) -> None:
    class Changing(FakeService):
        @staticmethod
        def wav(text: str) -> bytes:
            pcm = FakeService.wav(text)[44:]
            return wav_header(24_000 if text == FIRST else 16_000, 1, len(pcm)) + pcm

    cues = [(0.0, 5.0, FIRST), (5.0, 9.0, SECOND), (9.0, 12.0, THIRD)]
    with (
        CosyClient(URL, http_client=httpx.Client(transport=Changing())) as client,
        pytest.raises(ConfigError, match="segment 1 came with 16000 Hz") as caught,
    ):
        client.dub(cues, to=name and tmp_path / name)
    outcomes = caught.value.outcomes  # type: ignore[attr-defined]
    assert [outcome.result().data for outcome in outcomes] == [
        Changing.wav(text) for text in (FIRST, SECOND, THIRD)
    ]


def test_where_a_wire_knows_no_speed_what_does_not_fit_is_told_and_spoken_once() -> None:
    triton = Server(latency=0)
    with triton, CosyClient(triton.base_url, wire="triton", model="cosyvoice2") as client:
        cues = [(0.0, 0.1, FIRST), (0.1, 0.2, SECOND)]
        assert client.dub(cues).segments[0].overrun > 0.5
        assert triton.stats()["texts"] == 2
        with pytest.raises(ConfigError, match="speed: the wire 'triton' cannot set it"):
            client.dub(cues, max_speed=1.5)
        assert triton.stats()["texts"] == 2


def test_a_max_speed_that_the_wire_cannot_is_refused_before_anything_is_sent() -> None:
    with Server(latency=0) as server:
        client = CosyClient(server.base_url, wire="pai_eas", voice="中文女", api_key="k")
        with client, pytest.raises(ConfigError, match="speed"):
            client.dub([(0.0, 0.1, FIRST), (0.1, 0.2, SECOND)], max_speed=4)
        assert server.stats()["texts"] == 0


def test_a_call_that_failed_names_itself(tmp_path: Path) -> None:
    with CosyClient(URL, http_client=httpx.Client(transport=Refusing())) as client:
        with pytest.raises(BatchError, match=r"^dub: segment 1 of 2 failed"):
            client.dub([(0.0, 1.0, FIRST), (5.0, 6.0, THIRD)])
        with pytest.raises(BatchError, match=r"^narrate: segment 2 of 3 failed"):
            client.narrate(TEXT)


@pytest.mark.parametrize("speak", ["narrate", "dub"])
def test_a_file_of_nothing_but_silence_is_not_written(tmp_path: Path, speak: str) -> None:
    with CosyClient(URL, http_client=httpx.Client(transport=Refusing())) as client:
        given = THIRD if speak == "narrate" else [(0.0, 1.0, THIRD)]
        with pytest.raises(BatchError, match="failed"):
            getattr(client, speak)(given, to=tmp_path / "x.wav", on_error="return")
        assert getattr(client, speak)(given, on_error="return").segments[0].error is not None
    assert os.listdir(tmp_path) == []


def test_no_subtitles_are_refused(client: CosyClient) -> None:
    with pytest.raises(InvalidTextError, match="no cue"):
        client.dub("")


def test_what_is_joined_has_room_for_several_batches_unless_the_user_sets_less(
    client: CosyClient, service: FakeService
) -> None:
    assert client._joined.limits.max_bytes_waiting == 64 << 20
    http_client = httpx.Client(transport=service)
    limits = LimitConfig(max_bytes_waiting=1 << 20)
    with CosyClient(URL, http_client=http_client, limits=limits) as made:
        assert made._joined.limits.max_bytes_waiting == 1 << 20
