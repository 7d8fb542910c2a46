"""`wire="auto"` over real sockets: our own connections, one host, a bounded wait."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from cosy_sync import ConfigError, CosyClient
from cosy_sync.detect import wire_of_url
from cosy_sync.server import Server, tone_wav
from tests.e2e.scripted import HOLD, READ, Peer, Scripted, eventually, reply

DESCRIBED = json.dumps({"paths": {"/batch": {}}}).encode()


@pytest.mark.parametrize("path", ["/batch", "/api/v1/services/audio/tts/SpeechSynthesizer"])
def test_the_embedded_server_is_known_by_its_paths(path: str) -> None:
    with Server(latency=0, rate=0) as server:
        model = "cosyvoice-v3-flash"
        with CosyClient(server.base_url + path, wire="auto", voice="中文女", model=model) as client:
            assert client.synth("你好").data == tone_wav("你好")
        assert server.stats()["requests"] == 1 + (path != "/batch")


def test_the_key_goes_to_the_given_host_alone() -> None:
    with Scripted([READ, reply(DESCRIBED)]) as other:
        away = f"Location: http://127.0.0.1:{other.port}/openapi.json"
        moved = reply(b"", away, status="302 Found")
        with Scripted([READ, moved, READ, moved]) as api:
            url = f"http://127.0.0.1:{api.port}/speak"
            with pytest.raises(ConfigError, match=r"/speak/v1/models: HTTP 302"):
                CosyClient(url, wire="auto", api_key="sk-1")
        assert other.requests == []
    ((first, second),) = api.requests
    assert first.startswith(b"GET /speak/openapi.json HTTP/1.1\r\n")
    assert second.startswith(b"GET /speak/v1/models HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer sk-1\r\n" in first
    for request in (first, second):
        assert request.count(b"\r\nUser-Agent: cosy-sync/") == 1


def test_a_silent_service_is_not_waited_for_long() -> None:
    with Scripted([READ, HOLD]) as api:
        started = time.monotonic()
        with pytest.raises(ConfigError, match=r"did not answer.*no time was left"):
            CosyClient(f"http://127.0.0.1:{api.port}/speak", wire="auto")
        # Three seconds; the rest is room for a busy machine. The usual time-out is 30.
        assert time.monotonic() - started < 20


def test_what_was_asked_leaves_no_connection_behind() -> None:
    ends: list[bytes] = []

    def hear(peer: Peer) -> None:
        ends.append(peer.sock.recv(1))

    with (
        Scripted([READ, reply(DESCRIBED), hear]) as api,
        CosyClient(f"http://127.0.0.1:{api.port}/speak", wire="auto") as client,
    ):
        assert client.config.wire == "batch"
        assert eventually(lambda: ends == [b""])


def test_the_documents_example_and_table_hold() -> None:
    page = (Path(__file__).parents[2] / "docs/wire-auto.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed: list[str] = []
    exec(block, {"print": printed.append})
    assert printed == ["batch"]
    rows = re.findall(r"^\| (`.*) \| `(\w+)` \|$", page, re.MULTILINE)
    assert len(rows) == 10
    for urls, wire in rows:
        for url in re.findall("`(.*?)`", urls):
            # What stands for anything, before and behind.
            filled = re.sub("^…", "http://tts.example.com/tts", url).replace("….maas", "ws-1.maas")
            filled = filled.replace("….pai", "1.pai")
            filled = filled.replace("siliconflow.…", "siliconflow.cn").replace("….ali", "-intl.ali")
            assert wire_of_url(filled.replace("…", "/x")) == wire, url
