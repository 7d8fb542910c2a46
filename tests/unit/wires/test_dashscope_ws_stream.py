"""The sound of one task as it comes, split at every byte."""

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import BadAudioError
from cosy_sync.messages import Reply
from cosy_sync.models import Voice
from cosy_sync.wires.base import SpeechOptions
from cosy_sync.wires.dashscope_ws import DashscopeStream, DashscopeWsWire

PCM = bytes(range(1, 13))


def reader() -> DashscopeStream:
    config = ClientConfig(model="m", voice=Voice("longanyang"), sample_rate=16_000)
    wire = DashscopeWsWire("ws://h/x", SpeechOptions.from_config(config))

    def send(_request: object) -> Reply:
        raise AssertionError("nothing has to be asked before")

    return wire.listen("你好", send, "1")


@pytest.mark.parametrize("place", range(len(PCM) + 1))
def test_a_split_changes_nothing_and_samples_stay_whole(place: int) -> None:
    stream = reader()
    assert stream.accept(200, {})
    heard = [stream.feed(PCM[:place]), stream.feed(PCM[place:]), stream.end()]
    assert b"".join(heard) == PCM
    assert all(len(each) % 2 == 0 for each in heard)


def test_byte_by_byte() -> None:
    stream = reader()
    heard = [stream.feed(PCM[i : i + 1]) for i in range(len(PCM))]
    assert all(len(each) % 2 == 0 for each in heard)
    assert b"".join([*heard, stream.end()]) == PCM


def test_it_knows_its_rate_and_its_task() -> None:
    stream = reader()
    assert stream.sample_rate == 16_000
    assert stream.request.url == "ws://h/x"


@pytest.mark.parametrize("pieces", [[b"RIFF1234"], [b"R", b"I", b"F", b"F"], [b"RIF", b"F12"]])
def test_a_wav_file_is_not_taken_for_samples(pieces: list[bytes]) -> None:
    stream = reader()
    with pytest.raises(BadAudioError) as caught:
        for piece in pieces:
            assert stream.feed(piece) == b""
    assert caught.value.reason == "header"


def test_riff_later_on_is_sound() -> None:
    stream = reader()
    assert stream.feed(PCM[:4]) + stream.feed(b"RIFF") == PCM[:4] + b"RIFF"


@pytest.mark.parametrize("pcm", [PCM[:2], PCM[:4]])
def test_a_short_sound_comes_whole(pcm: bytes) -> None:
    stream = reader()
    assert stream.feed(pcm) + stream.end() == pcm


@pytest.mark.parametrize("pcm", [PCM[:1], PCM[:3], PCM[:5]])
def test_half_a_sample_at_the_end_is_an_error(pcm: bytes) -> None:
    stream = reader()
    stream.feed(pcm)
    with pytest.raises(BadAudioError) as caught:
        stream.end()
    assert caught.value.reason == "odd"


def test_no_sound_is_an_error() -> None:
    with pytest.raises(BadAudioError) as caught:
        reader().end()
    assert caught.value.reason == "empty"


def test_a_whole_reply_is_an_error() -> None:
    assert "403" in str(reader().refuse(Reply(403, {}, b"")))
