"""Narrating paragraph by paragraph: one task keeps its intonation, words tell its sentences."""

from collections.abc import Iterator

import pytest

from cosy_sync import BatchConfig, CosyClient, NarrationConfig
from cosy_sync.testing import Server

pytest.importorskip("websockets", reason="needs websockets (extra websocket)")

FIRST, SECOND, THIRD = (
    "今天的天气真是好得不得了。",
    "我们一起出去走一走吧朋友！",
    "你觉得去哪里比较合适呢？",
)
TEXT = f"{FIRST}{SECOND}\n\n{THIRD}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, seed=1) as running:
        yield running


def connect(server: Server, **extra: object) -> CosyClient:
    return CosyClient(
        server.base_url.replace("http", "ws", 1) + "/api-ws/v1/inference",
        wire="dashscope_ws",
        model="cosyvoice-v3-flash",
        voice="longanyang",
        narration=NarrationConfig(whole_paragraphs=True, paragraph_pause=0.7),
        extra=extra,
    )


def test_a_paragraph_is_one_task_and_its_sentences_have_the_times_of_their_words(
    server: Server,
) -> None:
    with connect(server, word_timestamp_enabled=True) as client:
        narration = client.narrate(TEXT)
        one, two = (client.synth(text) for text in (FIRST + SECOND, THIRD))
        segments = list(client.narrate_iter(TEXT))
        requests = client.stats().requests
    assert requests == 2 + 2 + 2
    pause = bytes(2 * round(0.7 * one.sample_rate))
    assert narration.audio.pcm() == one.pcm() + pause + two.pcm()
    assert [segment.text for segment in narration.segments] == [FIRST, SECOND, THIRD]
    assert [segment.index for segment in narration.segments] == [0, 1, 2]
    first, second, third = narration.segments
    words = one.words
    assert (first.start, first.end) == (words[0].start, first.words[-1].end)
    assert (second.start, second.end) == (second.words[0].start, words[-1].end)
    assert first.words + second.words == words
    assert third.start == pytest.approx(one.duration + 0.7)
    assert narration.srt().count("-->") == 3
    assert b"".join(each.audio.pcm() for each in segments if each.audio) == narration.audio.pcm()


def test_without_the_times_of_words_a_paragraph_is_one_segment(server: Server) -> None:
    with connect(server) as client:
        narration = client.narrate(TEXT)
    assert [segment.text for segment in narration.segments] == [FIRST + SECOND, THIRD]


def test_a_paragraph_above_the_limit_is_cut_at_its_sentences(server: Server) -> None:
    with connect(server) as client:
        view = client.with_options(batch=BatchConfig(max_text_chars=30))
        narration = view.narrate(f"{FIRST}{SECOND}{THIRD}")
    assert [segment.text for segment in narration.segments] == [FIRST + SECOND, THIRD]
