"""Out of descriptors, ports or memory: this machine's trouble, and no fault of the service's."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted import HOLD, READ, Scripted, reply

from cosy_sync import ConnectError, CosyClient, ResourceError, RetryConfig
from cosy_sync.net.connect import connect
from cosy_sync.net.route import Route
from cosy_sync.testing import Server, tone_wav

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0.05, rate=0, max_connections=0, grpc_port=0, grpc_max_conc=64) as server:
        yield server


SCARCE = """
import json, logging, resource, sys
from cosy_sync import BatchConfig, BreakerConfig, CosyClient, Endpoint, OverloadConfig
from cosy_sync.testing import tone_wav

lines = []
class Keep(logging.Handler):
    def emit(self, record): lines.append(record.getMessage())
logging.getLogger("cosy_sync").addHandler(Keep())

url, wire, settings, way = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
endpoint = Endpoint(url, max_connections=200, rate=5000)
overload = OverloadConfig(start=200)
client = CosyClient(endpoint, wire=wire, batch_size=1, deadline=20, overload=overload, **settings)
client.synth("先说一句话")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
texts = [f"这是第{n}句要说的话" for n in range(400)]
if way == "many":
    outcomes = client.synth_many(texts, on_error="return")
    good = sum(o.ok and o.audio.data == tone_wav(o.text) for o in outcomes)
    errors = {repr(o.error) for o in outcomes if o.error}
elif way == "submit":
    good, errors = 0, set()
    for text, future in [(text, client.submit(text)) for text in texts]:
        try: good += future.result(30).data == tone_wav(text)
        except Exception as error: errors.add(repr(error))
stats = client.stats()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
after = client.synth("之后的话").data == tone_wav("之后的话")
named = [line for line in lines if "ulimit -n: 64" in line]
print(json.dumps([good, len(named) > 0, list(stats.breakers.values()), after]))
print(list(errors)[:2], len(named), file=sys.stderr)
client.close()
"""


@pytest.mark.parametrize(("wire", "way"), [("openai", "many"), ("dashscope_ws", "submit")])
def test_with_too_few_descriptors_all_is_spoken_and_the_breaker_stays_closed(
    server: Server, wire: str, way: str
) -> None:
    base, settings = server.base_url, {}
    url = f"{base}/v1/audio/speech" if wire == "openai" else server.url
    if wire == "dashscope_ws":
        url = base.replace("http", "ws") + "/api-ws/v1/inference"
        settings = {
            "voice": "longanyang",
            "model": "cosyvoice-v3-flash",
            "api_key": "sk-1234567890",
        }
    command = [sys.executable, "-W", "ignore", "-c", SCARCE, url, wire, json.dumps(settings), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == [400, True, ["closed"], True], done.stderr


def test_files_are_written_although_connections_would_take_every_descriptor(
    server: Server, tmp_path: Path
) -> None:
    lines, folder = tmp_path / "lines.txt", tmp_path / "out"
    lines.write_text("\n".join(f"这是第{n}句要说的话" for n in range(300)), "utf-8")
    options = f"--url {server.url} --max-connections 200 --rate 5000 --batch-size 1"
    command = f"ulimit -n 64; exec {sys.executable} -m cosy_sync synth {options} -f {lines}"
    done = subprocess.run(
        ["sh", "-c", f"{command} -o {folder}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, len([*folder.iterdir()])) == (0, 300), done.stderr


class Scarce:
    """Lets the next connections fail for want of something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
        self.times = times
        real = socket.socket.connect

        def connect(sock: socket.socket, address: Any) -> None:
            if self.times > 0:
                self.times -= 1
                raise OSError(number, "simulated")
            real(sock, address)

        monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.parametrize("brought", [False, True], ids=["own", "httpx"])
@pytest.mark.parametrize(
    ("number", "way"),
    [(errno.EMFILE, "synth"), (errno.ENOBUFS, "synth_many"), (errno.ENFILE, "stream")],
)
def test_a_text_waits_for_them_and_uses_up_no_attempt(
    number: int, way: str, brought: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tone_wav("早上好")
    with Scripted([READ, reply(sound[44:] if way == "stream" else sound), HOLD]) as server:
        url = f"http://127.0.0.1:{server.port}" if way == "stream" else server.url
        wire = "runtime_http" if way == "stream" else "openai"
        http_client = httpx.Client() if brought else None
        with CosyClient(
            url,
            wire=wire,
            voice="中文女",
            retry=RetryConfig(max_retries=0),
            http_client=http_client,
        ) as client:
            scarce = Scarce(monkeypatch, number, 2)
            if way == "stream":
                assert b"".join(client.stream("早上好")) == sound[44:]
            elif way == "synth":
                assert client.synth("早上好").data == sound
            else:
                assert client.synth_many(["早上好"])[0].data == sound
            stats = client.stats()
        if http_client is not None:
            http_client.close()
    assert scarce.times == 0
    assert (set(stats.breakers.values()), stats.texts_failed, stats.retries) == ({"closed"}, 0, 0)


def test_at_the_deadline_the_error_names_the_limit_and_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Scarce(monkeypatch, errno.EMFILE, 1000)
    with CosyClient("http://127.0.0.1:9/batch", deadline=0.5) as client:
        with pytest.raises(ResourceError, match=r"ulimit -n: \d+.*max_connections") as caught:
            client.synth("早上好")
        assert client.stats().breakers == {"http://127.0.0.1:9/batch": "closed"}
    assert (caught.value.resource, caught.value.sent) == ("descriptors", False)


def test_ports_are_told_from_addresses_that_nothing_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = Route("tts.test", 80, False, None, "127.0.0.1")
    real = socket.socket.connect

    kinds = [socket.SOCK_STREAM]

    def fail(self: socket.socket, address: Any) -> None:
        if self.type in kinds:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", fail)
    with pytest.raises(ResourceError, match="ip_local_port_range"):
        connect(route, None, float("inf"))
    kinds.append(socket.SOCK_DGRAM)
    with pytest.raises(ConnectError, match="Cannot assign"):
        connect(route, None, float("inf"))


def test_a_name_that_cannot_be_looked_up_for_want_of_descriptors_is_no_wrong_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    route = Route("tts.test", 80, False, None)
    with pytest.raises(ConnectError, match="has no address"):
        connect(route, None, float("inf"))

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("cosy_sync.net.scarcity.os.open", refuse)
    with pytest.raises(ResourceError, match="ulimit -n"):
        connect(route, None, float("inf"))


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "no memory")])
def test_a_reply_that_finds_no_memory_is_asked_for_again_as_a_retry(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cosy_sync.net import buffer

    real, failures = buffer._new_mapping, [error]

    def new_mapping(length: int) -> Any:
        if failures:
            raise failures.pop()
        return real(length)

    monkeypatch.setattr(buffer, "_MAPPED", 1)
    monkeypatch.setattr(buffer, "_new_mapping", new_mapping)
    sound = tone_wav("早上好，说一句很长的话" * 3)
    head = reply(sound)[: -len(sound)]
    script = [READ, head, 0.05, sound, HOLD]
    with (
        Scripted(script) as server,
        CosyClient(server.url, wire="openai", retry=RetryConfig(base=0.01)) as client,
    ):
        assert client.synth("早上好，说一句很长的话" * 3).data == sound
        stats = client.stats()
    assert (stats.requests, stats.retries, stats.errors) == (2, 1, {"ResourceError": 1})
    assert set(stats.breakers.values()) == {"closed"}
