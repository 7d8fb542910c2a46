"""The wire runtime_http against the embedded server over real sockets, and that server's bytes."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from cosy_sync import CosyClient, Endpoint, RetryConfig, TimeoutConfig, Voice
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BatchError,
    ConfigError,
    CutError,
    ReplyTimeout,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Request
from cosy_sync.models import Recording, wav_header
from cosy_sync.server.voices import PRESETS
from cosy_sync.testing import Server, tone_wav
from cosy_sync.wires import SpeechOptions, create_wire

PATIENCE = 30.0
OLD = "/api/inference"
# Three segments by the server's rule: 61 + 61 + 40 characters, commas do not split.
LONG = "".join("春眠不觉晓，" * 10 + end for end in "。！") + "夜来风雨声，" * 6 + "花落知。"
SEGMENTS = ("春眠不觉晓，" * 10 + "。", "春眠不觉晓，" * 10 + "！", "夜来风雨声，" * 6 + "花落知。")
SOON = RetryConfig(base=0.01, outlast=0)
# After which a text is asked for again, or that mean nothing for a single text.
FAULTS = (
    *("bad-wav", "cut", "cut-chunked", "drip", "extra-after", "json-object", "length-long"),
    *("not-json", "odd-audio", "reset", "reset-mid", "short-audio", "silent-audio"),
    *("stall", "stall-mid", "status-500", "status-502", "status-503", "status-504"),
    *("swapped-type", "text-error", "throttle-bare", "too-few", "double-index"),
)


def recording(rate: int = 16_000, seconds: float = 3.0) -> Recording:
    size = int(rate * seconds) * 2
    return Recording(wav_header(rate, 1, size) + bytes(size), rate, seconds, "d1")


CLONED = Voice(reference=recording(), transcript="希望你好")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0, max_connections=0, rate=0, seed=1) as running:
        yield running


@contextlib.contextmanager
def client(server: Server, path: str = "", **settings: Any) -> Iterator[CosyClient]:
    settings = {"voice": "中文女", "retry": SOON, **settings}
    with CosyClient(server.base_url + path, wire="runtime_http", **settings) as made:
        yield made


def speech(*segments: str, **sound: Any) -> bytes:
    return b"".join(tone_wav(segment, **sound)[44:] for segment in segments)


# -- the client's half ------------------------------------------------------------------------


class TestSpeaking:
    def test_a_text_in_one_segment(self, server: Server) -> None:
        with client(server) as tts:
            audio = tts.synth("你好世界")
        assert audio.data == tone_wav("你好世界")
        assert (audio.format, audio.sample_rate) == ("wav", 24_000)

    def test_bare_samples(self, server: Server) -> None:
        with client(server, format="pcm") as tts:
            assert tts.synth("你好世界").data == speech("你好世界")

    def test_a_text_in_several_segments(self, server: Server) -> None:
        with client(server) as tts:
            assert tts.synth(LONG).pcm() == speech(*SEGMENTS)

    def test_many_texts_come_in_their_order_over_few_connections(self, server: Server) -> None:
        texts = [f"第{number}句话" for number in range(40)]
        with client(server) as tts:
            audios = tts.synth_many(texts)
        assert [audio.data for audio in audios] == [tone_wav(text) for text in texts]
        stats = server.stats()
        assert stats["texts"] == stats["batches"] == 40
        assert stats["connections_peak"] <= 4

    @pytest.mark.parametrize(
        "voice",
        [
            CLONED,
            Voice(reference=recording()),
            Voice(reference=recording(), instruction="用四川话说"),
        ],
    )
    def test_a_recording_is_imitated(self, server: Server, voice: Voice) -> None:
        with client(server, voice=voice) as tts:
            sound = tts.synth("你好世界").data
        assert sound in [tone_wav("你好世界", voice=name) for name in PRESETS]

    @pytest.mark.parametrize("voice", [CLONED, Voice(reference=recording())])
    def test_the_third_generation_speaks_the_text_and_not_its_prompt(
        self, server: Server, voice: Voice
    ) -> None:
        with client(server, voice=voice, model="CosyVoice3") as tts:
            sound = tts.synth("你好世界").data
        assert sound in [tone_wav("你好世界", voice=name) for name in PRESETS]

    def test_a_speaker_follows_an_instruction(self, server: Server) -> None:
        with client(server, voice=Voice("英文男", instruction="happy")) as tts:
            assert tts.synth("hello").data == tone_wav("hello", voice="英文男")

    def test_a_route_in_the_url(self, server: Server) -> None:
        with client(server, "/inference_sft") as tts:
            assert tts.synth("你好世界").data == tone_wav("你好世界")

    def test_the_server_of_2024(self, server: Server) -> None:
        texts = ["你好世界", "再见世界", "谢谢大家"]
        with client(server, OLD) as tts:
            audios = tts.synth_many(texts)
        assert [audio.data for audio in audios] == [tone_wav(t, sample_rate=22_050) for t in texts]
        with client(server, OLD, voice=CLONED) as tts:
            assert tts.synth("你好世界").sample_rate == 22_050

    def test_what_the_wire_says_of_itself_is_kept_to(self, server: Server) -> None:
        with client(server) as tts:
            assert tts.config.pool.idle_expiry == 4.0
            assert tts.config.batch.max_texts == 1
        with pytest.raises(ConfigError, match="speed: "):
            CosyClient(server.base_url, wire="runtime_http", voice="中文女", speed=2)

    def test_a_key_for_a_gateway(self) -> None:
        with Server(latency=0, api_key="SECRET") as server:
            with client(server, api_key="SECRET") as tts:
                assert tts.synth("你好世界").data == tone_wav("你好世界")
            with client(server, api_key="OTHER") as tts, pytest.raises(AuthError) as caught:
                tts.synth("你好世界")
        assert "wrong or missing API key" in str(caught.value)
        assert "OTHER" not in str(caught.value)


class TestFailures:
    @pytest.mark.parametrize("text", ["！？。…", "…… ——", "[fail]"])
    def test_nothing_to_speak_is_asked_once(self, server: Server, text: str) -> None:
        text = text.replace(" ", "")
        with client(server) as tts, pytest.raises(TextError, match="punctuation"):
            tts.synth(text)
        assert server.stats()["batches"] == 1

    def test_a_text_fails_alone(self, server: Server) -> None:
        with client(server) as tts, pytest.raises(BatchError) as caught:
            tts.synth_many(["你好世界", "[fail]", "再见世界"])
        assert [outcome.ok for outcome in caught.value.outcomes] == [True, False, True]

    def test_an_unknown_speaker_is_a_cut_that_says_so(self, server: Server) -> None:
        with client(server, voice="没有此人") as tts, pytest.raises(CutError) as caught:
            tts.synth("你好世界")
        assert "unknown speaker" in str(caught.value)
        assert caught.value.partial == b""
        with client(server, OLD, voice="没有此人") as tts, pytest.raises(UnavailableError):
            tts.synth("你好世界")

    def test_a_stream_that_breaks_off_says_what_a_whole_reply_says(self, server: Server) -> None:
        with client(server, voice="没有此人") as tts, pytest.raises(CutError, match="unknown sp"):
            tts.stream("你好世界")
        server.inject("cut", times=9)
        with client(server) as tts, pytest.raises(CutError, match="unknown speaker") as caught:
            list(tts.stream(LONG))
        assert caught.value.partial
        assert str(caught.value).count("unknown speaker") == 1

    def test_a_failure_before_it_speaks_is_tried_again_and_told(self, server: Server) -> None:
        with client(server) as tts, pytest.raises(UnavailableError) as caught:
            tts.synth("[refuse] 你好")
        assert "its model may not have /inference_sft" in str(caught.value)
        assert server.stats()["batches"] == 0
        assert server.stats()["requests"] == 4

    def test_another_server_is_told_by_its_paths(self, server: Server) -> None:
        with client(server, "/nowhere") as tts, pytest.raises(Exception, match="there is no /inf"):
            tts.synth("你好世界")

    @pytest.mark.parametrize(
        ("path", "fault"),
        # Byte by byte, a reply that is not chunked would last for minutes.
        [(path, fault) for path in ("", OLD) for fault in FAULTS if (path, fault) != (OLD, "drip")],
    )
    def test_a_fault_never_becomes_speech(self, server: Server, path: str, fault: str) -> None:
        texts = ["你好世界，今天天气真好", "再见世界"]
        times = TimeoutConfig(first_byte=1.0, idle=1.0)
        server.inject(fault)
        with client(server, path, timeouts=times) as tts:
            audios = tts.synth_many(texts)
        rate = 22_050 if path else 24_000
        assert [audio.data for audio in audios] == [tone_wav(t, sample_rate=rate) for t in texts]
        assert server.stats()["faults"] == {fault: 1}

    def test_empty_audio_is_not_taken_for_speech(self, server: Server) -> None:
        server.inject("empty-audio")
        with client(server) as tts, pytest.raises(TextError):
            tts.synth("你好世界")

    def test_a_cut_in_the_middle_carries_what_came(self, server: Server) -> None:
        server.inject("cut", times=9)
        with client(server) as tts, pytest.raises(CutError) as caught:
            tts.synth(LONG)
        assert caught.value.partial == speech(SEGMENTS[0])

    def test_a_gateways_limit_slows_the_client_down(self) -> None:
        with Server(latency=0, rate=5) as server, client(server) as tts:
            texts = [f"第{number}句话" for number in range(8)]
            assert len(tts.synth_many(texts)) == 8
            assert server.stats()["overrun"]
            with client(server, retry=RetryConfig(max_retries=0)) as hasty:
                outcomes = list(hasty.synth_iter(texts))
            assert any(isinstance(outcome.error, ThrottledError) for outcome in outcomes)

    def test_overload_looks_like_silence_behind_a_head(self) -> None:
        times = TimeoutConfig(first_byte=0.2, first_byte_per_char=0)
        with Server(latency=3600) as server:
            settings = {"timeouts": times, "retry": RetryConfig(max_retries=0)}
            with client(server, **settings) as tts, pytest.raises(ReplyTimeout) as caught:
                tts.synth("你好世界")
        assert caught.value.phase == "first byte"

    def test_a_limit_of_the_endpoint_is_the_users(self, server: Server) -> None:
        endpoint = Endpoint(server.base_url, max_connections=2)
        with CosyClient([endpoint], wire="runtime_http", voice="中文女") as tts:
            tts.synth_many([f"第{number}句话" for number in range(20)])
        assert server.stats()["connections_peak"] <= 2


@pytest.mark.parametrize("voice", [Voice("中文女"), CLONED])
def test_a_stream_brings_each_segment_as_it_comes(server: Server, voice: Voice) -> None:
    options = SpeechOptions.from_config(ClientConfig(voice=voice))
    wire = create_wire("runtime_http", server.base_url, options)
    reader = wire.listen(LONG, lambda _: pytest.fail("nothing is asked before"), "r1")
    request = reader.request
    assert isinstance(request, Request)
    asked = {"headers": list(request.headers), "content": request.body, "timeout": PATIENCE}
    with httpx.stream("POST", request.url, **asked) as response:
        assert reader.accept(response.status_code, dict(response.headers))
        pieces = [reader.feed(piece) for piece in response.iter_raw(7)]
    sound = b"".join([*pieces, reader.end()])
    assert sound in [speech(*SEGMENTS, voice=name) for name in PRESETS]


# -- the server's half ------------------------------------------------------------------------


@contextlib.contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        yield sock


def form(body: bytes, path: str = "/inference_sft", method: str = "POST", kind: str = "") -> bytes:
    kind = kind or "application/x-www-form-urlencoded"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def said(server: Server, request: bytes, end: bytes = b"0\r\n\r\n") -> tuple[list[str], bytes]:
    """Return the lines of a reply's head, and its body as it stands on the wire."""
    data = b""
    with connect(server) as sock:
        sock.sendall(request)
        while not data.endswith(end) or not end:
            more = sock.recv(65_536)
            if not more:
                break
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


NAME = "spk_id=%E4%B8%AD%E6%96%87%E5%A5%B3"
ASK = f"tts_text=hello&{NAME}".encode()


class TestTheServersBytes:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_the_head_names_no_type_and_no_length(self, server: Server, method: str) -> None:
        head, body = said(server, form(ASK, method=method))
        assert head[0] == "HTTP/1.1 200 OK"
        names = {line.partition(":")[0].lower() for line in head[1:]}
        assert names == {"date", "server", "transfer-encoding", "connection"}
        assert "Server: uvicorn" in head and "Transfer-Encoding: chunked" in head
        assert body == chunk(speech("hello")) + b"0\r\n\r\n"

    def test_the_head_comes_before_anything_is_spoken(self) -> None:
        with Server(latency=3600) as server, connect(server) as sock:
            sock.sendall(form(ASK))
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(65_536)
            assert data.startswith(b"HTTP/1.1 200 OK") and data.endswith(b"\r\n\r\n")

    def test_each_segment_is_a_chunk(self, server: Server) -> None:
        _, body = said(server, form(f"tts_text={quote(LONG)}&{NAME}".encode()))
        assert body == b"".join(chunk(speech(each)) for each in SEGMENTS) + b"0\r\n\r\n"

    def test_a_text_with_tags_is_one_chunk(self, server: Server) -> None:
        text = "<|zh|>" + LONG
        _, body = said(server, form(f"tts_text={quote(text)}&{NAME}".encode()))
        assert body == chunk(speech(text)) + b"0\r\n\r\n"

    def test_nothing_to_speak_is_an_empty_success(self, server: Server) -> None:
        head, body = said(server, form(f"tts_text=...&{NAME}".encode()))
        assert (head[0], body) == ("HTTP/1.1 200 OK", b"0\r\n\r\n")

    def test_an_unknown_speaker_is_a_success_that_is_cut(self, server: Server) -> None:
        head, body = said(server, form(b"tts_text=hello&spk_id=nobody"))
        assert (head[0], body) == ("HTTP/1.1 200 OK", b"")

    @pytest.mark.parametrize(
        "request_bytes",
        [
            form(b'{"tts_text":"hello","spk_id":"x"}', kind="application/json"),
            form(b"", path="/inference_sft?tts_text=hello&spk_id=x"),
            form(b"tts_text=&spk_id="),
        ],
    )
    def test_missing_fields_are_named_as_fastapi_does(
        self, server: Server, request_bytes: bytes
    ) -> None:
        head, body = said(server, request_bytes, b"]}")
        assert head[0].startswith("HTTP/1.1 422 ")
        assert "Content-Type: application/json" in head
        missing = {"type": "missing", "msg": "Field required", "input": None}
        fields = ("tts_text", "spk_id")
        assert json.loads(body) == {
            "detail": [{**missing, "loc": ["body", name]} for name in fields]
        }

    @pytest.mark.parametrize(
        ("wav", "status"),
        [
            (recording(16_000).wav, 200),
            (recording(15_999).wav, 500),
            (b"MP3", 500),
        ],
    )
    def test_a_recording_is_checked(self, server: Server, wav: bytes, status: int) -> None:
        body = (
            b'--B\r\nContent-Disposition: form-data; name="tts_text"\r\n\r\nhello\r\n--B\r\n'
            b'Content-Disposition: form-data; name="prompt_wav"; filename="a.wav"\r\n\r\n'
            b"%b\r\n--B--\r\n"
        ) % wav
        request = form(body, "/inference_cross_lingual", kind="multipart/form-data; boundary=B")
        head, body = said(server, request, b"0\r\n\r\n" if status == 200 else b"Error")
        assert head[0].startswith(f"HTTP/1.1 {status} ")
        if status == 500:
            assert "Content-Type: text/plain; charset=utf-8" in head
            assert body == b"Internal Server Error"

    def test_a_recording_that_is_too_long_is_noticed_late(self, server: Server) -> None:
        wav = recording(16_000, 30.1).wav
        files = {"prompt_wav": ("a.wav", wav, "audio/wav")}
        url = f"{server.base_url}/inference_cross_lingual"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            httpx.post(url, data={"tts_text": "hello"}, files=files)
        old = httpx.post(
            f"{server.base_url}{OLD}/cross-lingual",
            data={"tts": "hello"},
            files={"audio": ("a.wav", wav, "audio/wav")},
        )
        assert (old.status_code, old.text) == (500, "Internal Server Error")

    def test_a_broken_form_is_a_400(self, server: Server) -> None:
        for body, kind in ((b"garbage", "; boundary=B"), (b"garbage", ""), (b"--B\r\n\r\nx", "")):
            request = form(body, kind="multipart/form-data" + kind)
            head, text = said(server, request, b"}")
            assert head[0] == "HTTP/1.1 400 Bad Request"
            assert set(json.loads(text)) == {"detail"}
        nameless = b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n"
        head, text = said(server, form(nameless, kind="multipart/form-data; boundary=B"), b"}")
        assert b"must be provided" in text

    def test_other_methods_are_refused_as_fastapi_does(self, server: Server) -> None:
        head, body = said(server, form(ASK, method="PUT"), b"}")
        assert head[0] == "HTTP/1.1 405 Method Not Allowed"
        assert set(json.loads(body)) == {"detail"}

    def test_the_server_of_2024_sends_a_whole_file_of_floats(self, server: Server) -> None:
        reply = httpx.post(f"{server.base_url}{OLD}/sft", data={"tts": "hello", "role": "中文女"})
        assert reply.headers["content-type"] == "audio/wav"
        code, channels, rate = struct.unpack_from("<HHI", reply.content, 20)
        assert (code, channels, rate) == (3, 1, 22_050)
        pcm = speech("hello", sample_rate=22_050)
        assert reply.content[58:] == b"".join(
            struct.pack("<f", each / 32_768) for (each,) in struct.iter_unpack("<h", pcm)
        )
        assert int.from_bytes(reply.content[4:8], "little") == len(reply.content) - 8

    def test_the_server_of_2024_fails_where_nothing_is_spoken(self, server: Server) -> None:
        asked = {"tts": "[fail]", "role": "中文女"}
        assert httpx.post(f"{server.base_url}{OLD}/sft", data=asked).status_code == 500

    def test_a_file_is_no_text(self, server: Server) -> None:
        files = {"tts_text": ("a.txt", b"hello", "text/plain"), "spk_id": (None, "中文女")}
        reply = httpx.post(f"{server.base_url}/inference_sft", files=files)
        assert reply.status_code == 422
        (detail,) = reply.json()["detail"]
        assert (detail["type"], detail["loc"]) == ("string_type", ["body", "tts_text"])

    def test_the_server_of_2024_names_its_speakers(self, server: Server) -> None:
        assert httpx.get(f"{server.base_url}/api/roles").json() == {"roles": list(PRESETS)}

    def test_connections_are_kept(self, server: Server) -> None:
        with httpx.Client() as http:
            for _ in range(3):
                http.post(f"{server.base_url}/inference_sft", content=ASK, headers=FORM)
        assert server.stats()["connections_peak"] == 1


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
