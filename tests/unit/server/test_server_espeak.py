"""Real speech: voices, rates and threads of the espeak engine."""

import asyncio
import glob
import os
import sys
import tempfile

import pytest

from cosy_sync.server import MissingExtraError
from cosy_sync.server.config import ServerConfig
from cosy_sync.server.engines import open_engine
from cosy_sync.server.sound import Clip, Failure

SENTENCE = "今天天气很好我们一起去公园散步然后回家吃"


def seconds(content: Clip | Failure, sample_rate: int = 24_000) -> float:
    assert isinstance(content, Clip)
    assert content.size % 2 == 0
    return content.size / 2 / sample_rate


def speak(
    texts: list[str], voice: str = "中文女", sample_rate: int = 24_000, speed: float = 1.0
) -> list[Clip | Failure]:
    pytest.importorskip("espeakng_loader", reason="the extra [server] is not installed")
    engine = open_engine(ServerConfig(engine="espeak", speakers=2))
    try:
        return asyncio.run(engine.synthesize(texts, voice, sample_rate, speed))
    finally:
        engine.close()


@pytest.mark.espeak
@pytest.mark.parametrize("voice", ["中文女", "中文男", "粤语女"])
def test_twenty_characters_take_about_four_seconds(voice: str) -> None:
    [content] = speak([SENTENCE], voice)
    assert 3.0 < seconds(content) < 6.5
    assert isinstance(content, Clip)
    assert max(memoryview(content.data).cast("h")) > 2_000


@pytest.mark.espeak
@pytest.mark.parametrize("voice", ["英文女", "英文男"])
def test_english_is_spoken_too(voice: str) -> None:
    [content] = speak(["The quick brown fox jumps over the lazy dog."], voice)
    assert 1.5 < seconds(content) < 5


@pytest.mark.espeak
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 24_000, 48_000])
def test_any_sample_rate_keeps_the_duration(sample_rate: int) -> None:
    [reference], [content] = (
        speak([SENTENCE], sample_rate=22_050),
        speak([SENTENCE], sample_rate=sample_rate),
    )
    assert seconds(content, sample_rate) == pytest.approx(seconds(reference, 22_050), rel=0.01)


@pytest.mark.espeak
@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speed_divides_the_duration(speed: float) -> None:
    [normal], [content] = speak([SENTENCE]), speak([SENTENCE], speed=speed)
    assert seconds(content) * speed == pytest.approx(seconds(normal), rel=0.25)


@pytest.mark.espeak
def test_many_texts_on_several_threads_stay_in_order() -> None:
    lengths = [1 + i * 7 % 20 for i in range(64)]
    contents = speak([SENTENCE[:length] for length in lengths])
    expected = {length: speak([SENTENCE[:length]])[0] for length in (1, 8, 20)}
    for length, content in zip(lengths, contents, strict=True):
        if length in expected:
            assert seconds(content) == pytest.approx(seconds(expected[length]), rel=0.05)


@pytest.mark.espeak
def test_a_text_with_nothing_to_say_fails_alone() -> None:
    good, bad = speak(["你好", "。！"])
    assert isinstance(good, Clip)
    assert isinstance(bad, Failure)


@pytest.mark.espeak
def test_no_copy_of_the_library_is_left_behind() -> None:
    speak(["你好"])
    assert not glob.glob(os.path.join(tempfile.gettempdir(), "cosy-espeak-*"))


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match="pip install 'espeakng-loader"):
        open_engine(ServerConfig(engine="espeak"))
