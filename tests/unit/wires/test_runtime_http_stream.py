"""One text's sound as it comes, in whatever pieces."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import BadAudioError, BadRequestError, CosyError, TextError, UnavailableError
from cosy_sync.messages import Reply, Request
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.base import StreamReader
from cosy_sync.wires.runtime_http import RuntimeHttpWire

TEXT = "今天天气真好"
HEAD = {"server": "uvicorn", "transfer-encoding": "chunked"}
PCM = struct.pack("<6h", 0, 1, -2, 300, -32_768, 32_767)


def reader(**settings: Any) -> StreamReader:
    settings = {"voice": "中文女", **settings}
    made = RuntimeHttpWire("http://gpu1:50000", SpeechOptions.from_config(ClientConfig(**settings)))
    return made.listen(TEXT, lambda _: pytest.fail("nothing is asked before"), "r1")


def begun(**headers: str) -> StreamReader:
    made = reader()
    assert made.accept(200, {**HEAD, **headers})
    return made


def heard(*pieces: bytes) -> list[bytes]:
    made = begun()
    return [*map(made.feed, pieces), made.end()]


def test_it_asks_as_a_whole_call_does() -> None:
    request = reader().request
    assert isinstance(request, Request)
    assert request.url == "http://gpu1:50000/inference_sft"
    assert request.body.startswith(b"tts_text=%E4%BB%8A")
    assert ("X-Request-Id", "r1") in request.headers


def test_the_rate_is_the_configured_one() -> None:
    made = reader(sample_rate=22_050)
    assert made.accept(200, HEAD)
    assert made.sample_rate == 22_050


def test_a_rate_in_the_head_counts_more() -> None:
    made = begun(**{"content-type": 'audio/pcm; channels=1; rate="16000"'})
    assert made.sample_rate == 16_000


@pytest.mark.parametrize("size", [len(PCM), 0, 0x7FFF_FFFF, 0xFFFF_FFFF])
@pytest.mark.parametrize(("code", "bits"), [(1, 16), (1, 24), (1, 32), (3, 32)])
def test_a_wav_file_that_is_called_one_is_read_as_in_a_whole_reply(
    size: int, code: int, bits: int
) -> None:
    values = struct.unpack("<6h", PCM)
    sound = {
        (1, 16): PCM,
        (1, 24): b"".join(struct.pack("<i", value << 8)[:3] for value in values),
        (1, 32): struct.pack("<6i", *(value << 16 for value in values)),
        (3, 32): struct.pack("<6f", *(value / 32_768 for value in values)),
    }[code, bits]
    size = len(sound) if size == len(PCM) else size
    width = bits // 8
    fmt = struct.pack("<HHIIHH", code, 1, 16_000, 16_000 * width, width, bits)
    file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", size) + sound
    made = begun(**{"content-type": "audio/wav"})
    given = b"".join([*(made.feed(file[n : n + 5]) for n in range(0, len(file), 5)), made.end()])
    assert given == PCM
    assert made.sample_rate == 16_000


def test_a_wav_file_of_two_channels_is_refused() -> None:
    fmt = struct.pack("<HHIIHH", 1, 2, 16_000, 64_000, 4, 16)
    made = begun(**{"content-type": "audio/wav"})
    with pytest.raises(BadAudioError, match="expected one channel, got 2"):
        made.feed(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + fmt + b"data\x0c\0\0\0" + PCM)


@pytest.mark.parametrize("cuts", list(itertools.combinations(range(len(PCM) + 1), 2)))
def test_any_two_splits_give_whole_samples_at_once(cuts: tuple[int, int]) -> None:
    first, second = cuts
    pieces = heard(PCM[:first], PCM[first:second], PCM[second:])
    assert b"".join(pieces) == PCM
    assert all(len(piece) % 2 == 0 for piece in pieces)
    # Nothing waits that could be heard, once it is clear that it is sound.
    for fed, upto in ((1, first), (2, second), (3, len(PCM))):
        assert len(b"".join(pieces[:fed])) == (upto // 2 * 2 if upto >= 4 else 0)


def test_byte_by_byte() -> None:
    pieces = heard(*(PCM[i : i + 1] for i in range(len(PCM))))
    assert b"".join(pieces) == PCM


def test_a_whole_chunk_goes_through_at_once() -> None:
    assert heard(PCM, PCM) == [PCM, PCM, b""]


def test_a_single_sample_comes_at_the_end() -> None:
    assert heard(b"\x01", b"\x02") == [b"", b"", b"\x01\x02"]


@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_half_a_sample_at_the_end_is_refused(size: int) -> None:
    made = begun()
    made.feed(PCM[:size])
    with pytest.raises(BadAudioError) as caught:
        made.end()
    assert caught.value.reason == "odd"


def test_an_empty_stream_had_nothing_to_speak() -> None:
    made = begun(**{"x-request-id": "r1"})
    with pytest.raises(TextError, match="nothing to speak") as caught:
        made.end()
    assert caught.value.request_id == "r1"


@pytest.mark.parametrize(
    ("start", "words"),
    [(wav_header(24_000, 1, 0xFFFF_FF00), "a WAV file"), (b'{"error":"x"}', "JSON")],
)
def test_what_is_no_bare_sound_is_not_played(start: bytes, words: str) -> None:
    for cut in range(4):
        made = begun()
        assert made.feed(start[:cut]) == b""
        with pytest.raises(BadAudioError, match=f"got {words}"):
            made.feed(start[cut:])


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (500, {}),
        (422, {"content-type": "application/json"}),
        (200, {"content-type": "application/json"}),
        (200, {"content-type": "text/html"}),
        (200, {"content-type": "audio/mpeg"}),
        (204, {}),
    ],
)
def test_other_heads_are_no_streams(status: int, headers: dict[str, str]) -> None:
    assert not reader().accept(status, headers)


@pytest.mark.parametrize("kind", ["audio/pcm", "Audio/L16; rate=24000", "application/octet-stream"])
def test_types_of_bare_samples_are_streams(kind: str) -> None:
    assert reader().accept(200, {"content-type": kind})


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (500, "text/plain; charset=utf-8", b"Internal Server Error", UnavailableError),
        (422, "application/json", b'{"detail":[{"loc":["body"],"msg":"no"}]}', BadRequestError),
        (200, "application/json", b'{"error":"CUDA","code":500}', UnavailableError),
        (200, "text/html", b"<html>", BadAudioError),
        (200, "audio/wav", b"RIFF", BadAudioError),
    ],
)
def test_a_reply_without_a_stream_becomes_its_error(
    status: int, kind: str, body: bytes, error: type[CosyError]
) -> None:
    refusal = reader().refuse(Reply(status, {"content-type": kind}, body))
    assert type(refusal) is error
