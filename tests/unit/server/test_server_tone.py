"""The tone engine is a pure function whose values differ."""

import io
import wave

import pytest

from cosy_sync.server import ToneEngine, tone_wav


def pcm(text: str, **options: float | str) -> bytes:
    with wave.open(io.BytesIO(tone_wav(text, **options))) as reader:  # type: ignore[arg-type]
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)
        frames: bytes = reader.readframes(reader.getnframes())
    return frames


def test_the_same_request_gives_the_same_bytes() -> None:
    assert tone_wav("你好") == tone_wav("你好")
    assert ToneEngine().clip("你好", "中文女", 24_000, 1).data == pcm("你好")


def test_any_other_request_gives_other_bytes() -> None:
    size = {"audio_bytes": 128}
    made = {pcm(str(i), **size) for i in range(20_000)}
    assert len(made) == 20_000
    assert len({pcm("a", **size), pcm("a", voice="中文男", **size), pcm("a", speed=2, **size)}) == 3


def test_duration_grows_with_the_text_and_falls_with_the_speed() -> None:
    assert len(pcm("一二三四")) == 4 * 4_800
    assert len(pcm("一二三四", speed=2)) == 2 * 4_800
    assert len(pcm("一二三四", sample_rate=8000)) == 4 * 1_600
    assert len(pcm("一" * 400)) == 400 * 4_800


@pytest.mark.parametrize("size", [64, 16_384, 190_000])
def test_a_fixed_size_is_kept(size: int) -> None:
    assert len(pcm("a", audio_bytes=size)) == len(pcm("abc", audio_bytes=size)) == size


def test_it_is_never_silent() -> None:
    for text in ("a", "b", "你好"):
        sound = memoryview(pcm(text)).cast("h")
        assert max(sound) > 8_000
        assert abs(sum(sound) / len(sound)) < 500
