"""What a client does about odd sound, from the reply to what is saved: on a fake clock."""

from __future__ import annotations

import array
import base64
import hashlib
import importlib
import io
import json
import math
import struct
import threading
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cosy_sync import BadAudioError, CosyClient, Endpoint, RetryConfig
from cosy_sync.testing import FakeClock

RATE = 24_000
ONCE = RetryConfig(max_bad_audio=0)
URLS = {"openai": "http://tts.test/v1/audio/speech", "batch": "http://tts.test/batch"}
PLACEHOLDERS = [0, 0x7FFF_FFFF, 0xFFFF_FFFF, 10**9]

Speak = Callable[[str], bytes]


class Server(httpx.BaseTransport):
    """Answers each text with what `speak` makes of it, in the ways of two wires."""

    def __init__(self, speak: Speak) -> None:
        self._speak = speak
        self._lock = threading.Lock()
        self.calls: list[list[str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.read())
        texts = body.get("texts") or [body["input"]]
        with self._lock:
            self.calls.append(texts)
        if "texts" not in body:
            sound = self._speak(body["input"])
            return httpx.Response(200, content=sound, headers={"Content-Type": "audio/wav"})
        sounds = [base64.b64encode(self._speak(text)).decode() for text in texts]
        return httpx.Response(200, json=sounds)


def client_of(server: Server, wire: str, **settings: object) -> CosyClient:
    settings = {"serial": True, "clock": FakeClock(), **settings}
    http_client = httpx.Client(transport=server)
    return CosyClient(Endpoint(URLS[wire]), wire=wire, http_client=http_client, **settings)  # type: ignore[arg-type]


def tone(seconds: float, hertz: float = 440.0) -> list[float]:
    step = 2 * math.pi * hertz / RATE
    return [0.5 * math.sin(step * n) for n in range(round(seconds * RATE))]


def pcm16(values: list[float]) -> bytes:
    return array.array("h", [round(each * 32_768) for each in values]).tobytes()


def wav(samples: bytes, code: int = 1, width: int = 2, **sizes: int) -> bytes:
    """Return a WAV file; `riff` and `data` put other sizes into it, `guid` makes it extensible."""
    more = struct.pack("<HHIH", 22, 8 * width, 4, code) + bytes.fromhex(
        "000000001000800000aa00389b71"
    )
    given = 0xFFFE if sizes.get("guid") else code
    layout = struct.pack("<HHIIHH", given, 1, RATE, RATE * width, width, 8 * width)
    layout += more if sizes.get("guid") else b""
    body = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    body += b"data" + struct.pack("<I", sizes.get("data", len(samples))) + samples
    return b"RIFF" + struct.pack("<I", sizes.get("riff", len(body))) + body


def own_sound(key: str, seconds: float = 1.0) -> bytes:
    """Return what a deterministic engine makes of what is to be read."""
    number = hashlib.blake2b(key.encode(), digest_size=2).digest()
    return wav(number + pcm16(tone(seconds, 200 + 3 * number[0]))[2:])


def frames(data: bytes) -> bytes:
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as file:
        samples: bytes = file.readframes(file.getnframes())
        return samples


@pytest.fixture(params=["openai", "batch"])
def wire(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [
        *({"data": data, "riff": riff} for data in PLACEHOLDERS for riff in PLACEHOLDERS),
        {"riff": 36},
    ],
)
def test_what_is_saved_has_true_sizes_whatever_the_service_wrote(
    wire: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    samples = pcm16(tone(1.006))
    server = Server(lambda _: wav(samples, **sizes))
    with client_of(server, wire, retry=ONCE) as client:
        audio = client.synth("你好，世界")
    assert frames(audio.wav()) == frames(audio.data) == samples
    assert frames(audio.save(tmp_path / "a.wav").read_bytes()) == samples
    assert len(samples) == 2 * 24_144


def test_a_file_that_was_to_be_longer_is_cut(wire: str) -> None:
    server = Server(lambda _: wav(bytes(96_000), data=1_000_000))
    with client_of(server, wire, retry=ONCE) as client, pytest.raises(BadAudioError) as caught:
        client.synth("你好，世界")
    assert caught.value.reason == "cut"


SAMPLES = {
    "float32": (3, 4, lambda v: struct.pack(f"<{len(v)}f", *v)),
    "24 bit": (
        1,
        3,
        lambda v: b"".join(round(e * 2**23).to_bytes(3, "little", signed=True) for e in v),
    ),
    "32 bit": (1, 4, lambda v: struct.pack(f"<{len(v)}i", *(round(e * 2**31) for e in v))),
}


@pytest.mark.parametrize("guid", [0, 1])
@pytest.mark.parametrize("name", SAMPLES)
def test_other_samples_are_read_at_the_first_request(wire: str, name: str, guid: int) -> None:
    code, width, packed = SAMPLES[name]
    file = wav(packed(tone(1.0)), code, width, guid=guid)
    server = Server(lambda _: file)
    with client_of(server, wire) as client:
        audio = client.synth("你好，世界")
        assert len(server.calls) == 1
        assert audio.duration == 1.0
        assert max(array.array("h", frames(audio.wav()))) == pytest.approx(16_384, abs=2)
        if wire == "openai":
            assert b"".join(client.stream("你好，世界")) == audio.pcm()
            assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("file", "name"), [(wav(bytes(8_000), 7, 1), "mu-law"), (b"OggS" + bytes(8_000), "Ogg")]
)
def test_a_format_that_is_not_read_is_refused_by_name_at_the_first_request(
    wire: str, file: bytes, name: str
) -> None:
    server = Server(lambda _: file)
    with client_of(server, wire) as client:
        with pytest.raises(BadAudioError, match=name):
            client.synth("你好，世界")
        assert len(server.calls) == 1
        if wire == "openai":
            with pytest.raises(BadAudioError, match=name):
                client.stream("你好，世界")
            assert len(server.calls) == 2


# -- the same recording for different texts -----------------------------------------------------


STUCK = own_sound("stuck", 2.0)


def test_an_engine_that_is_stuck_is_noticed_from_the_second_text_on(wire: str) -> None:
    server = Server(lambda _: STUCK)
    texts = [f"第{number}位乘客请到{number % 7}号窗口" for number in range(20)]
    with client_of(server, wire, batch_size=1, retry=ONCE) as client:
        outcomes = client.synth_many(texts, on_error="return")
    assert outcomes[0].ok
    assert {getattr(outcome.error, "reason", None) for outcome in outcomes[1:]} == {"identical"}


# How a deterministic engine reads these.
READ = {
    **{"章三": "张三", "她来了": "他来了", "twelve": "12", "three": "3"},
    **{"李莉": "李丽", "刘阳": "刘洋"},
}


def read_aloud(text: str) -> bytes:
    return own_sound(READ.get(text, text))


def test_homophones_are_asked_for_alone_and_then_right() -> None:
    server = Server(read_aloud)
    texts = ["张三", "章三", "你好", "12", "twelve", "李丽", "李莉"]
    with client_of(server, "batch") as client:
        audios = client.synth_many(texts)
        assert [audio.data for audio in audios] == [read_aloud(text) for text in texts]
        alone = Counter(text for call in server.calls[1:] for text in call)
        assert all(len(call) == 1 for call in server.calls[1:])
        assert alone == Counter(set(texts) - {"你好"})
        # Now they are known.
        asked = len(server.calls)
        client.synth_many(texts)
        assert len(server.calls) == asked + 1


def test_homophones_that_are_urgent_are_not_stopped_by_the_retry_budget() -> None:
    texts = [f"{family}{name}" for family in "张章樟漳" for name in "丽莉利力立历厉励例"]
    server = Server(lambda _: STUCK)
    with client_of(server, "batch", priority="interactive") as client:
        audios = client.synth_many(texts)
    assert [audio.data for audio in audios] == [STUCK] * len(texts)
    assert len(server.calls) == 1 + len(texts)


def test_homophones_on_a_wire_of_one_text_are_right_at_once() -> None:
    server = Server(read_aloud)
    texts = [*READ, *READ.values()]
    with client_of(server, "openai") as client:
        audios = client.synth_many(texts)
    assert [audio.data for audio in audios] == [read_aloud(text) for text in texts]
    assert len(server.calls) == len(set(texts))


def test_a_stream_is_compared_with_what_was_spoken_before() -> None:
    server = Server(lambda text: read_aloud("张三"))
    with client_of(server, "openai") as client:
        audio = client.synth("张三")
        assert b"".join(client.stream("章三")) == audio.pcm()
        with pytest.raises(BadAudioError) as caught:
            list(client.stream("李四"))
    assert caught.value.reason == "identical"


def test_names_that_cannot_be_read_alike_are_refused_together() -> None:
    server = Server(lambda _: STUCK)
    with client_of(server, "batch") as client:
        outcomes = client.synth_many(["张三", "李四"], on_error="return")
    assert [getattr(outcome.error, "reason", "") for outcome in outcomes] == ["identical"] * 2
    assert server.calls == [["张三", "李四"]] * 3


def test_a_mix_up_of_one_reply_is_made_good_by_the_next() -> None:
    mixed = [True]

    def speak(text: str) -> bytes:
        if mixed and text == "李四":
            mixed.clear()
            return read_aloud("张三")
        return read_aloud(text)

    with client_of(Server(speak), "batch") as client:
        audios = client.synth_many(["张三", "李四"])
    assert [audio.data for audio in audios] == [read_aloud("张三"), read_aloud("李四")]


def test_a_text_that_is_spoken_again_may_have_its_recording_again(wire: str) -> None:
    with client_of(Server(read_aloud), wire) as client:
        for text in ("你好", "你好", "你好！", " 你好 "):
            assert client.synth(text).data == read_aloud(text) or text != "你好"


# -- what is heard ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds", "good"),
    [
        ("好的", 12, False),
        ("Hi!", 12, False),
        ("Yes", 0.02, False),
        ("！", 12, False),
        ("好的", 0.4, True),
        ("好的", 1, True),
        ("好的", 5, True),
    ],
)
def test_few_characters_have_bounds_too(text: str, seconds: float, good: bool) -> None:
    server = Server(lambda _: wav(pcm16(tone(seconds))))
    with client_of(server, "openai", retry=ONCE) as client:
        (outcome,) = client.synth_many([text], on_error="return")
    assert outcome.ok == good
    assert good or isinstance(outcome.error, BadAudioError)


QUIET = pcm16([0.0] * 5 * RATE)
SHORT = pcm16(tone(0.4))


@pytest.mark.parametrize(
    "samples",
    [
        SHORT + QUIET,
        QUIET + SHORT,
        b"\5\0\xfb\xff" * (5 * RATE // 2),
        QUIET[: 5 * RATE] + b"\0\x70" + QUIET[5 * RATE :],
        b"\x40\x1f" * 5 * RATE,
    ],
    ids=["silence behind", "silence before", "dither", "a click", "a constant"],
)
def test_the_part_that_is_heard_counts(wire: str, samples: bytes) -> None:
    server = Server(lambda _: wav(samples))
    with client_of(server, wire, retry=ONCE) as client, pytest.raises(BadAudioError):
        client.synth("今天天气真好啊，我们一起去公园里散步吧好吗")


def test_a_pause_between_two_sentences_is_good(wire: str) -> None:
    samples = pcm16(tone(2.0)) + QUIET[: 2 * RATE] + pcm16(tone(2.0))
    server = Server(lambda _: wav(samples))
    with client_of(server, wire, retry=ONCE) as client:
        assert client.synth("今天天气真好啊，我们一起去公园里散步吧好吗").duration == 5.0


@pytest.mark.parametrize("part", ["audio.verify.look_at", "engine.attempt.read_audio"])
def test_a_bug_in_the_look_at_one_recording_ends_that_text_and_none_of_its_batch(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name = f"cosy_sync.{part}".rsplit(".", 1)
    true, end = getattr(importlib.import_module(place), name), read_aloud("这一句。")[-99:]

    def broken(sound: Any, **settings: Any) -> object:
        if bytes(sound.data[-99:]) == end:
            raise ValueError("expected a positive input")
        return true(sound, **settings)

    monkeypatch.setattr(f"{place}.{name}", broken)
    texts = ["这一句。", "另外的一句话。", "还有一句别的话。"]
    server = Server(read_aloud)
    with client_of(server, "batch") as client:
        outcomes = client.synth_many(texts, on_error="return")
        assert dict(client.stats().breakers) == {URLS["batch"]: "closed"}
    assert [type(outcome.error).__name__ for outcome in outcomes] == [
        *("UnexpectedError", "NoneType", "NoneType")
    ]
    assert server.calls == [texts]
