"""What no service should send: it becomes an error that says so, on every wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import BadAudioError, CosyError, TextError
from cosy_sync.messages import Reply
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires import dashscope_task as ws_task
from cosy_sync.wires.dashscope_errors import dashscope_error
from cosy_sync.wires.fastjson import _std_load
from cosy_sync.wires.protobuf import write_field, write_numbers

SIZE = "inference-header-content-length"
FLOATS = bytes(8)
SOUND = b"\x01\x02" * 400


def wire(name: str, url: str, **settings: Any) -> Any:
    return create_wire(name, url, SpeechOptions.from_config(ClientConfig(**settings)))


# -- Triton -------------------------------------------------------------------------------------


def triton_reply(outputs: str, size: str | None = None) -> Reply:
    head = b'{"outputs":[%b]}' % outputs.encode()
    return Reply(200, {SIZE: size or str(len(head))}, head + FLOATS)


def waveform(size: str, shape: str = "[1,2]") -> str:
    told = f'"datatype":"FP32","shape":{shape},"parameters":{{"binary_data_size":{size}}}'
    return f'{{"name":"waveform",{told}}}'


HUGE_SHAPE = json.dumps([10**18] * 300)
BEFORE = '{"name":"other","parameters":{"binary_data_size":-8}},'


@pytest.mark.parametrize(
    "reply",
    [
        triton_reply(waveform("8", HUGE_SHAPE)),
        triton_reply(waveform("1e999")),
        triton_reply(waveform("Infinity")),
        triton_reply(waveform("8"), "9" * 5_000),
        triton_reply(BEFORE + waveform("8")),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_numbers_that_no_tensor_has_are_told_as_a_bad_reply(
    monkeypatch: pytest.MonkeyPatch, reply: Reply, plain: bool
) -> None:
    if plain:
        monkeypatch.setattr("cosy_sync.wires.triton_http.load_json", _std_load)
    with pytest.raises(BadAudioError):
        wire("triton", "http://tts.test:8000", model="cosyvoice2").decode(reply, ["你好"])


def test_a_stream_of_tensors_with_a_huge_shape_is_told_as_a_bad_reply() -> None:
    output = write_field(1, b"waveform") + write_field(2, b"FP32")
    output += write_numbers(3, [10**18] * 300)
    message = write_field(2, write_field(5, output) + write_field(6, FLOATS))
    reader = wire("triton", "grpc://tts.test:8001", model="cosyvoice2").listen(
        "你好", lambda request: Reply(200, {}, b""), "run-1"
    )
    reader.accept(200, {})
    with pytest.raises(BadAudioError):
        reader.feed(message)


# -- rates in a head ----------------------------------------------------------------------------

STREAMS = [
    ("openai", "http://tts.test/v1", {}),
    ("runtime_http", "http://tts.test:50000", {"voice": "中文女"}),
]


def stream(name: str, url: str, settings: Any, kind: str, **headers: str) -> Any:
    reader = wire(name, url, **settings).listen("你好", lambda _: Reply(200, {}, b""), "run-1")
    assert reader.accept(200, {"content-type": kind, **headers})
    return reader


@pytest.mark.parametrize(("name", "url", "settings"), STREAMS)
def test_the_rate_in_a_streams_head_still_holds_with_its_sound(
    name: str, url: str, settings: Any
) -> None:
    reader = stream(name, url, settings, "audio/pcm; rate=22050")
    assert reader.feed(SOUND) == SOUND
    assert reader.sample_rate == 22_050
    reader.end()
    assert reader.sample_rate == 22_050


@pytest.mark.parametrize(("name", "url", "settings"), STREAMS)
@pytest.mark.parametrize("rate", ["2400000", "999999"])
def test_a_stream_of_a_rate_that_no_sound_has_is_refused_as_a_whole_reply_is(
    name: str, url: str, settings: Any, rate: str
) -> None:
    reader = stream(name, url, settings, f"audio/pcm; rate={rate}")
    with pytest.raises(BadAudioError, match="rate must be 1 to 192000"):
        reader.feed(SOUND)


def test_a_rate_in_a_header_of_its_own_is_not_cut_to_a_likely_one() -> None:
    reader = stream(*STREAMS[0], "audio/pcm", **{"x-sample-rate": "2400000"})
    with pytest.raises(BadAudioError, match="rate must be 1 to 192000"):
        reader.feed(SOUND)


# -- DashScope ----------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["1" + "0" * 400, "NaN", "Infinity", "1e999", '"1"'])
def test_times_of_words_that_no_speech_has_are_left_out(
    monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    monkeypatch.setattr(ws_task, "load_json", _std_load)
    made = wire("dashscope_ws", "wss://tts.test", model="cosyvoice-v2", voice="longxiaochun_v2")
    task = made.task("你好")
    task.open()
    task.receive(json.dumps({"header": {"event": "task-started"}}))
    word = '{"text":"a","begin_time":%s,"end_time":2}'
    words = '{"index":0,"words":[%s,{"text":"b","begin_time":2,"end_time":5}]}' % (word % time)
    sentence = '{"header":{"event":"result-generated"},"payload":{"output":{"sentence":%s}}}'
    task.receive(sentence % words)
    assert "b" in [each.text for each in task.words]
    assert all(0 <= each.start < 1 for each in task.words)


def test_an_odd_request_id_in_a_body_is_shown_like_one_in_a_header() -> None:
    error: CosyError = dashscope_error(400, "InvalidParameter", "no", "id\ud800\n" + "z" * 999, [])
    shown = getattr(error, "request_id", "")
    assert shown.startswith("id z") and len(shown) == 128
    shown.encode()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_code_beside_an_empty_output_is_that_error(streamed: bool) -> None:
    made = wire("dashscope_http", "https://tts.test", model="cosyvoice-v2", voice="longwan_v2")
    body = b'{"output":{},"code":"DataInspectionFailed","message":"no"}'
    with pytest.raises(TextError, match="content filter"):
        if streamed:
            reader = made.listen("你好", lambda _: Reply(200, {}, b""), "run-1")
            reader.accept(200, {"content-type": "text/event-stream"})
            reader.feed(b"data:" + body + b"\n\n")
            reader.end()
        made.exchange(["你好"], lambda _: Reply(200, {}, body), "run-1")
