"""Alibaba's own SDK against the embedded server: where they disagree, the server is wrong."""

from __future__ import annotations

import gc
import json
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from cosy_sync.testing import Server, tone_wav

pytest.importorskip("websockets", reason="needs websockets (extra websocket)")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("dashscope", reason="needs dashscope (extra test)")
    import dashscope
    import websocket
    from dashscope.audio.tts_v2 import AudioFormat, ResultCallback, SpeechSynthesizer
    from dashscope.common.error import RequestFailure

KEY = "sk-of-the-test"
PCM, WAV = AudioFormat.PCM_24000HZ_MONO_16BIT, AudioFormat.WAV_24000HZ_MONO_16BIT


# The SDK leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the SDK's threads look every 50 ms, not every 10 s, whether their socket was closed;
    and collect here what it leaves behind."""
    real = websocket.WebSocketApp.create_dispatcher

    def create(self: Any, _seconds: Any, *rest: Any) -> Any:
        return real(self, 0.05, *rest)

    monkeypatch.setattr(websocket.WebSocketApp, "create_dispatcher", create)
    yield
    for thread in threading.enumerate():
        if "run_forever" in thread.name or "waiting_for_complete" in thread.name:
            thread.join(10)
    gc.collect()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(dashscope, "api_key", KEY)
    with Server(latency=0, rate=0, max_connections=0, api_key=KEY) as running:
        yield running


def synthesizer(server: Server, format: AudioFormat = PCM, **settings: Any) -> SpeechSynthesizer:
    url = server.base_url.replace("http", "ws", 1) + "/api-ws/v1/inference"
    given = {"model": "cosyvoice-v3-flash", "voice": "longanyang", **settings}
    return SpeechSynthesizer(url=url, format=format, **given)


def pcm(text: str) -> bytes:
    return tone_wav(text)[44:]


class Heard(ResultCallback):
    """Remembers what it is told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.audio = b""
        self.error = ""
        self.over = threading.Event()

    def on_open(self) -> None:
        self.events.append("open")

    def on_complete(self) -> None:
        self.events.append("complete")

    def on_error(self, message: str) -> None:
        self.events.append("error")
        self.error = message

    def on_close(self) -> None:
        self.events.append("close")
        self.over.set()

    def on_event(self, message: str) -> None:
        self.messages.append(json.loads(message))

    def on_data(self, data: bytes) -> None:
        self.audio += data


def test_call_returns_the_audio(server: Server) -> None:
    made = synthesizer(server)
    assert made.call("今天天气怎么样?", timeout_millis=30_000) == pcm("今天天气怎么样?")
    last = made.get_response()
    assert last["header"]["event"] == "task-finished"
    # Chinese characters count twice.
    assert last["payload"]["usage"]["characters"] == 15
    assert last["header"]["task_id"] == made.get_last_request_id()


def test_the_first_example_of_its_documentation_runs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK leaves the format open: the real service sends MP3 then, this one a WAV file.
    url = server.base_url.replace("http", "ws", 1) + "/api-ws/v1/inference"
    monkeypatch.setattr(dashscope, "base_websocket_api_url", url)
    made = SpeechSynthesizer(model="cosyvoice-v3-flash", voice="longanyang")
    audio = made.call("今天天气怎么样？", timeout_millis=30_000)
    assert audio[:4] == b"RIFF"
    assert audio[44:] == tone_wav("今天天气怎么样？", sample_rate=22_050)[44:]


def test_a_wav_file_has_a_header_in_its_first_frame_only(server: Server) -> None:
    audio = synthesizer(server, WAV).call("今天天气怎么样?今天。", timeout_millis=30_000)
    assert audio[44:] == pcm("今天天气怎么样?今天。")
    assert (audio[:4], audio[36:40]) == (b"RIFF", b"data")
    assert struct.unpack("<I", audio[40:44])[0] > len(audio)


def test_settings_are_understood(server: Server) -> None:
    made = synthesizer(
        server,
        AudioFormat.PCM_16000HZ_MONO_16BIT,
        speech_rate=1.5,
        volume=70,
        pitch_rate=0.9,
        seed=7,
        instruction="用四川话说",
        language_hints=["zh"],
        hot_fix={"pronunciation": [{"草地": "cao3 di4"}]},
    )
    audio = made.call("你好", timeout_millis=30_000)
    assert audio == tone_wav("你好", sample_rate=16_000, speed=1.5)[44:]


def test_streaming_speaks_sentence_by_sentence(server: Server) -> None:
    heard = Heard()
    made = synthesizer(server, callback=heard)
    for piece in ("今天", "天气", "怎么样?", "很", "好"):
        made.streaming_call(piece)
    made.streaming_complete(30_000)
    assert heard.audio == pcm("今天天气怎么样?") + pcm("很好")


def test_a_flush_speaks_what_has_come(server: Server) -> None:
    heard = Heard()
    made = synthesizer(server, callback=heard)
    made.streaming_call("今天")
    made.streaming_flush()
    made.streaming_call("天气")
    made.streaming_complete(30_000)
    assert heard.audio == pcm("今天") + pcm("天气")


def test_callbacks_come_in_the_documented_order(server: Server) -> None:
    heard = Heard()
    made = synthesizer(server, callback=heard, additional_params={"word_timestamp_enabled": True})
    made.call("今天天气怎么样?", timeout_millis=30_000)
    assert heard.over.wait(30)
    assert heard.events == ["open", "complete", "close"]
    assert heard.audio == pcm("今天天气怎么样?")
    outputs = [message["payload"]["output"] for message in heard.messages]
    kinds = [output["type"] for output in outputs]
    assert kinds == ["sentence-begin", *["sentence-synthesis"] * (len(kinds) - 2), "sentence-end"]
    assert outputs[0]["original_text"] == outputs[-1]["original_text"] == "今天天气怎么样?"
    words = outputs[-1]["sentence"]["words"]
    assert "".join(word["text"] for word in words) == "今天天气怎么样?"
    assert words[1] == {
        "text": "天",
        "begin_index": 1,
        "end_index": 2,
        "begin_time": 100,
        "end_time": 200,
    }
    assert heard.messages[-1]["payload"]["usage"] == {"characters": 15}


@pytest.mark.parametrize(
    ("settings", "text", "name", "message"),
    [
        ({"voice": "nobody"}, "你好", "InvalidParameter", "418"),
        ({"speech_rate": 3.0}, "你好", "InvalidParameter", "rate"),
        ({}, "[refuse]", "DataInspectionFailed", "inappropriate"),
        ({}, "", "InvalidParameter", "task can not be null"),
    ],
)
def test_errors_reach_the_caller(
    server: Server, settings: dict[str, Any], text: str, name: str, message: str
) -> None:
    made = synthesizer(server, **settings)
    with pytest.raises(RequestFailure) as caught:
        made.call(text, timeout_millis=30_000)
    assert caught.value.name == name
    assert message in caught.value.message
    assert caught.value.request_id == made.get_last_request_id()


def test_a_failure_after_audio_reaches_the_caller(server: Server) -> None:
    server.inject("error-mid")
    with pytest.raises(RequestFailure) as caught:
        synthesizer(server).call("今天天气怎么样?", timeout_millis=30_000)
    assert caught.value.name == "InternalError.Algo"


def test_ssml_takes_one_text(server: Server) -> None:
    heard = Heard()
    made = synthesizer(server, callback=heard, additional_params={"enable_ssml": True})
    made.streaming_call("<speak>一</speak>")
    made.streaming_call("<speak>二</speak>")
    assert heard.over.wait(30)
    made.close()
    assert "Text request limit violated, expected 1." in heard.error


def test_throttling_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "api_key", KEY)
    with Server(latency=0, rate=1, max_connections=0) as server:
        synthesizer(server).call("一", timeout_millis=30_000)
        with pytest.raises(RequestFailure) as caught:
            synthesizer(server).call("二", timeout_millis=30_000)
    assert caught.value.name == "Throttling.RateQuota"


def test_cancel_is_answered_at_once_and_the_socket_takes_the_next_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dashscope, "api_key", KEY)
    with Server(latency=60, rate=0) as server:
        heard = Heard()
        made = synthesizer(server, callback=heard)
        # The way in which its pool keeps the socket open.
        made._close_ws_after_use = False
        made.streaming_call("今天天气怎么样?")
        made.streaming_cancel(30_000)
        assert heard.events == ["open", "complete", "close"]
        assert (heard.audio, made.ws.sock.connected) == (b"", True)
        made.close()
        stats = server.stats()
        assert stats["status"] == {"101": 1, "200": 1}


def test_a_wrong_key_opens_no_socket(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dashscope, "api_key", "wrong")
    made = synthesizer(server)
    with pytest.raises(TimeoutError):
        made.call("你好", timeout_millis=30_000)
    assert server.stats()["status"] == {"401": 1}


def test_its_pool_uses_one_socket_again_and_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashscope.audio.tts_v2 import SpeechSynthesizerObjectPool

    url = server.base_url.replace("http", "ws", 1) + "/api-ws/v1/inference"
    pool = SpeechSynthesizerObjectPool(max_size=1, url=url)
    try:
        for text in ("一。", "二。", "三。"):
            made = pool.borrow_synthesizer("cosyvoice-v3-flash", "longanyang", format=PCM)
            assert made.call(text, timeout_millis=30_000) == pcm(text)
            pool.return_synthesizer(made)
        assert server.stats()["connections_peak"] == 1
    finally:
        kept = [each.synthesizer for each in pool._pool]
        pool.shutdown()
        for each in kept:
            each.close()
    deadline = time.monotonic() + 10
    while server.stats()["connections_now"] and time.monotonic() < deadline:
        time.sleep(0.01)
