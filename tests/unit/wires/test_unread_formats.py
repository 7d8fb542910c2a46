"""A format that cannot be read is asked for once, on every wire: it stays what it is."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cosy_sync import BadAudioError, CosyClient, RetryConfig
from cosy_sync.models import wav_header

MP3 = b"\xff\xfb\x90\x64" + bytes(400)
OGG = b"OggS\0\x02" + bytes(400)
FLAC = b"fLaC\0\0\0\x22" + bytes(400)
STEREO = wav_header(24_000, 2, 4_000) + bytes(4_000)


class Service(ThreadingHTTPServer):
    """Answers every request with the same reply, and counts them."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.kind, self.coding, self.body, self.asked = "", "", b"", 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        self.send_response(200)
        if self.server.kind:
            self.send_header("content-type", self.server.kind)
        if self.server.coding:
            self.send_header("content-encoding", self.server.coding)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


WIRES = {"batch": "/batch", "openai": "/v1", "runtime_http": "", "pai_eas": "/api/predict/tts"}
STREAMED = ("openai", "runtime_http")


def client(service: Service, wire: str) -> CosyClient:
    return CosyClient(
        service.url + WIRES[wire],
        wire=wire,
        voice="v",
        model="m",
        retry=RetryConfig(base=0.001, max_wait=0.002),
    )


@pytest.mark.parametrize("kind", ["audio/mpeg", "audio/wav"])
@pytest.mark.parametrize("body", [MP3, OGG, FLAC], ids=["mp3", "ogg", "flac"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_foreign_format_is_asked_for_once(
    service: Service, wire: str, body: bytes, kind: str
) -> None:
    service.kind, service.body = kind, body
    if wire == "pai_eas":
        sound = {"data": base64.b64encode(body).decode()}
        service.body = json.dumps({"output": {"finish_reason": "stop", "audio": sound}}).encode()
    with client(service, wire) as tts, pytest.raises(BadAudioError) as caught:
        tts.synth("今天天气很好。")
    assert (service.asked, caught.value.retryable) == (1, False), caught.value


@pytest.mark.parametrize("wire", WIRES)
def test_a_coding_that_was_not_asked_for_is_asked_for_once(service: Service, wire: str) -> None:
    service.kind, service.coding, service.body = "audio/wav", "br", bytes(100)
    with client(service, wire) as tts, pytest.raises(BadAudioError) as caught:
        tts.synth("今天天气很好。")
    assert (service.asked, caught.value.reason) == (1, "encoding")


@pytest.mark.parametrize("body", [MP3, STEREO], ids=["mp3", "stereo"])
@pytest.mark.parametrize("wire", STREAMED)
def test_a_stream_in_a_foreign_format_is_asked_for_once(
    service: Service, wire: str, body: bytes
) -> None:
    service.kind, service.body = "audio/wav", body
    with client(service, wire) as tts, pytest.raises(BadAudioError) as caught:
        b"".join(tts.stream("今天天气很好。"))
    assert (service.asked, caught.value.retryable) == (1, False), caught.value


@pytest.mark.parametrize("wire", STREAMED)
def test_a_packed_stream_is_asked_for_once(service: Service, wire: str) -> None:
    service.kind, service.coding, service.body = "audio/wav", "br", bytes(100)
    with client(service, wire) as tts, pytest.raises(BadAudioError) as caught:
        b"".join(tts.stream("今天天气很好。"))
    assert (service.asked, caught.value.reason) == (1, "encoding")
