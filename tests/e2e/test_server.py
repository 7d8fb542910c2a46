"""The embedded server over real sockets: the wire, its limits, its faults, its end."""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import CosyClient, CosyError
from cosy_sync.server import FAULTS, Outage, Server, Shortage, tone_wav
from cosy_sync.wires import known_wires

ROOT = Path(__file__).parents[2]
# A guard against hanging, never a measure.
PATIENCE = 30.0
TEXTS = ["你好", "再见", "谢谢"]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0, max_connections=0, rate=0, seed=1) as running:
        yield running


@contextlib.contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        yield sock


def post(body: Any, headers: dict[str, str] | None = None, path: str = "/batch") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()


class Answer:
    """One reply, read byte by byte from the wire."""

    def __init__(self, sock: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte:
                raise EOFError(head)
            head += byte
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = bytearray()
        length = int(self.headers.get("content-length", "0"))
        while len(body) < length:
            # Never more than this reply has: a pipelined one may follow.
            data = sock.recv(min(65_536, length - len(body)))
            if not data:
                break
            body += data
        self.body = bytes(body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def audios(self) -> list[bytes | None]:
        """Give the audio of each part of a multipart reply, None for errors."""
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        *parts, end = self.body.split(b"--" + boundary)[1:]
        assert end == b"--\r\n"
        heads_and_bodies = [part.removesuffix(b"\r\n").split(b"\r\n\r\n", 1) for part in parts]
        return [body if b"Status: success" in head else None for head, body in heads_and_bodies]


def ask(server: Server, request: bytes) -> Answer:
    with connect(server) as sock:
        sock.sendall(request)
        return Answer(sock)


def drain(sock: socket.socket) -> bytes:
    """Read to the end; a reset ends it too."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(65_536):
            data += more
    return data


class TestTheWire:
    def test_the_default_reply_is_multipart_with_the_computable_audio(self, server: Server) -> None:
        answer = ask(server, post({"texts": TEXTS}))
        assert answer.status == 200
        assert answer.audios == [tone_wav(text) for text in TEXTS]

    def test_json_is_sent_to_those_that_prefer_it(self, server: Server) -> None:
        body = {
            "texts": TEXTS,
            "format": "pcm",
            "sample_rate": 16_000,
            "speed": 2,
            "voice": "英文男",
        }
        answer = ask(server, post(body, {"Accept": "application/json"}))
        results = answer.json["results"]
        wavs = [tone_wav(t, sample_rate=16_000, speed=2, voice="英文男") for t in TEXTS]
        assert [base64.b64decode(r["audio_data"]) for r in results] == [wav[44:] for wav in wavs]
        assert {r["media_type"] for r in results} == {"audio/L16; rate=16000; channels=1"}

    def test_a_header_asks_for_the_bare_array(self, server: Server) -> None:
        answer = ask(server, post({"texts": ["a", "b[fail]"]}, {"X-Cosy-Reply": "array"}))
        assert answer.json == [base64.b64encode(tone_wav("a")).decode(), None]

    def test_the_option_sets_the_form_for_all(self) -> None:
        with Server(latency=0, reply_form="array") as server:
            assert len(ask(server, post({"texts": TEXTS})).json) == 3

    def test_a_marked_text_fails_alone(self, server: Server) -> None:
        audios = ask(server, post({"texts": ["a", "b [fail]", "c"]})).audios
        assert audios == [tone_wav("a"), None, tone_wav("c")]

    def test_a_refused_call_does_not_say_which_text(self, server: Server) -> None:
        answer = ask(server, post({"texts": ["a", "b [refuse]", "c"]}))
        assert answer.status == 400
        assert "1" not in answer.json["error"]["message"]
        assert "refuse" not in answer.json["error"]["message"]

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (post(b"{"), 400),
            (post({"texts": ["a"]}, {"X-Cosy-Reply": "xml"}), 400),
            (post({"texts": ["a"]}, {"X-Cosy-Fault": "rest"}), 400),
            (post({"texts": ["a"]}, {"Accept": "audio/wav"}), 406),
            (post({"texts": ["a"]}, {"Content-Encoding": "br"}), 415),
            (post(b"", path="/nowhere"), 404),
            (get("/batch"), 405),
            (post(b"", path="/stats"), 405),
            (b"GET /batch HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: h\r\nLong: " + b"x" * 60_000 + b"\r\n\r\n", 431),
            (b"what is this\r\n\r\n", 400),
        ],
    )
    def test_every_refusal_has_the_error_body(
        self, server: Server, request_bytes: bytes, status: int
    ) -> None:
        answer = ask(server, request_bytes)
        assert answer.status == status
        assert set(answer.json["error"]) == {"code", "message"}

    def test_health_is_told(self, server: Server) -> None:
        assert ask(server, get("/health?probe=1")).json == {"status": "ok"}

    def test_the_key_is_demanded(self) -> None:
        with Server(latency=0, api_key="sk-right") as server:
            body = {"texts": ["a"]}
            assert ask(server, post(body)).status == 401
            assert ask(server, post(body, {"Authorization": "Bearer sk-wrong"})).status == 401
            assert ask(server, post(body, {"Authorization": "Bearer sk-right"})).status == 200
            assert ask(server, get("/health")).status == 200

    def test_the_request_id_comes_back(self, server: Server) -> None:
        answer = ask(server, post({"texts": ["a"]}, {"X-Request-Id": "r-17"}))
        assert answer.headers["x-request-id"] == "r-17"

    def test_json_is_compressed_for_those_that_accept_it(self, server: Server) -> None:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        answer = ask(server, post({"texts": TEXTS}, headers))
        assert answer.headers["content-encoding"] == "gzip"
        assert json.loads(gzip.decompress(answer.body))["succeeded"] == 3

    @pytest.mark.parametrize(("mode", "packed"), [("auto", False), ("always", True)])
    def test_multipart_is_compressed_only_on_demand(self, mode: str, packed: bool) -> None:
        with Server(latency=0, gzip=mode) as server:
            answer = ask(server, post({"texts": TEXTS}, {"Accept-Encoding": "gzip"}))
            assert ("content-encoding" in answer.headers) is packed
            body = gzip.decompress(answer.body) if packed else answer.body
            assert tone_wav(TEXTS[0]) in body

    def test_a_compressed_request_is_read(self, server: Server) -> None:
        body = gzip.compress(json.dumps({"texts": ["a"]}).encode())
        assert ask(server, post(body, {"Content-Encoding": "gzip"})).audios == [tone_wav("a")]

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_body_beyond_the_cap_is_refused(self, packed: bool) -> None:
        with Server(latency=0, max_body_bytes=1000) as server:
            body = b" " * 1_001
            headers = {"Content-Encoding": "gzip"} if packed else {}
            answer = ask(server, post(gzip.compress(body) if packed else body, headers))
            assert answer.status == 413

    def test_a_client_that_is_still_sending_gets_its_refusal(self) -> None:
        with Server(latency=0, max_body_bytes=1000) as server, connect(server) as sock:
            sock.sendall(b"POST /batch HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
            for _ in range(20):
                sock.sendall(b"x" * 10_000)
            assert Answer(sock).status == 413
            assert sock.recv(1) == b""

    def test_expect_is_answered_before_the_body(self, server: Server) -> None:
        body = json.dumps({"texts": ["a"]}).encode()
        head = post(body, {"Expect": "100-continue"}).removesuffix(body)
        with connect(server) as sock:
            sock.sendall(head)
            assert Answer(sock).status == 100
            sock.sendall(body)
            assert Answer(sock).status == 200

    def test_pipelined_requests_are_answered_in_order(self, server: Server) -> None:
        texts = [f"text {i}" for i in range(40)]
        with connect(server) as sock:
            sock.sendall(b"".join(post({"texts": [text]}) for text in texts))
            assert [Answer(sock).audios for _ in texts] == [[tone_wav(text)] for text in texts]

    def test_a_request_in_single_bytes_is_read(self, server: Server) -> None:
        with connect(server) as sock:
            for byte in post({"texts": ["你"]}):
                sock.send(bytes([byte]))
            assert Answer(sock).audios == [tone_wav("你")]

    def test_a_slow_reader_gets_everything(self) -> None:
        with Server(latency=0, audio_bytes=1_000_000) as server, connect(server) as sock:
            sock.sendall(post({"texts": [str(i) for i in range(30)]}))
            time.sleep(0.3)
            audios = Answer(sock).audios
            assert audios == [tone_wav(str(i), audio_bytes=1_000_000) for i in range(30)]


class TestTheLimits:
    def test_one_connection_too_many_is_refused_and_closed(self) -> None:
        with Server(latency=0, max_connections=50) as server, contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(server)) for _ in range(51)]
            for sock in socks:
                sock.sendall(get("/health"))
            answers = [Answer(sock) for sock in socks]
            [refused] = [sock for sock, a in zip(socks, answers, strict=True) if a.status != 200]
            answer = answers[socks.index(refused)]
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert answer.json["error"]["code"] == "too_many_connections"
            assert refused.recv(1) == b""
            assert server.stats()["refused"] == 1
            assert server.stats()["connections_peak"] == 51

    def test_a_closed_connection_makes_room(self) -> None:
        with Server(latency=0, max_connections=1) as server:
            for _ in range(5):
                with connect(server) as sock:
                    sock.sendall(get("/health"))
                    assert Answer(sock).status == 200
                while server.stats()["connections_now"]:
                    time.sleep(0.001)

    def test_watching_takes_no_place_and_is_not_counted(self) -> None:
        with Server(latency=0, max_connections=1) as server, connect(server) as client:
            client.sendall(get("/health"))
            Answer(client)
            stats = ask(server, get("/stats")).json
            assert (stats["connections_now"], stats["connections_peak"]) == (1, 1)
            assert stats["requests"] == 1
            assert stats == server.stats()

    def test_the_101st_request_in_a_second_is_throttled(self) -> None:
        with Server(latency=0, max_connections=0, rate=100, audio_bytes=64) as server:
            with connect(server) as sock:
                # Pipelined, so that all of them arrive within the same second.
                sock.sendall(post({"texts": ["a"]}) * 101)
                answers = [Answer(sock) for _ in range(101)]
            assert [answer.status for answer in answers] == [200] * 100 + [429]
            assert answers[100].headers["retry-after"] == "1"
            assert answers[100].json["error"]["code"] == "throttled"
            stats = server.stats()
            assert stats["peak_requests_per_second"] == 101
            assert stats["throttled"] == 1
            assert stats["status"] == {"200": 100, "429": 1}

    def test_a_second_later_it_is_admitted_again(self) -> None:
        with Server(latency=0, rate=1) as server:
            assert ask(server, post({"texts": ["a"]})).status == 200
            time.sleep(1.01)
            assert ask(server, post({"texts": ["a"]})).status == 200

    @pytest.mark.parametrize("fault", [None, "status-500", "reset"])
    def test_a_call_takes_at_least_the_latency(self, fault: str | None) -> None:
        headers = {"X-Cosy-Fault": fault} if fault else {}
        with Server(latency=0.2) as server:
            start = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                ask(server, post({"texts": ["a"]}, headers))
            assert time.monotonic() - start >= 0.2

    def test_an_idle_connection_is_closed(self) -> None:
        with Server(latency=0, idle_timeout=0.05) as server, connect(server) as sock:
            sock.sendall(get("/health"))
            assert Answer(sock).headers["connection"] == "keep-alive"
            assert sock.recv(1) == b""

    def test_without_idle_time_each_reply_closes(self) -> None:
        with Server(latency=0, idle_timeout=0) as server, connect(server) as sock:
            sock.sendall(get("/health"))
            assert Answer(sock).headers["connection"] == "close"
            assert sock.recv(1) == b""

    def test_the_numbers_add_up(self, server: Server) -> None:
        with connect(server) as sock:
            for fault in ("", "status-502", "text-error"):
                sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": fault} if fault else {}))
                Answer(sock)
        stats = server.stats()
        assert (stats["requests"], stats["batches"], stats["texts"]) == (3, 3, 9)
        assert stats["status"] == {"200": 2, "502": 1}
        assert stats["faults"] == {"status-502": 1, "text-error": 1}
        assert stats["audio_bytes"] == 5 * len(tone_wav(TEXTS[0]))


def faulty(server: Server, fault: str, **headers: str) -> Answer:
    return ask(server, post({"texts": TEXTS}, {"X-Cosy-Fault": fault, **headers}))


class TestTheLimitsWhenOverrun:
    @pytest.mark.parametrize("status", ["502", "503"])
    def test_calls_and_connections_beyond_are_answered_as_asked(self, status: str) -> None:
        with Server(latency=0, rate=1, max_connections=1, overrun=status) as server:
            with connect(server) as sock:
                for expected in (200, int(status)):
                    sock.sendall(post({"texts": ["a"]}))
                    answer = Answer(sock)
                    assert answer.status == expected
                assert "retry-after" not in answer.headers
                assert ask(server, get("/health")).status == int(status)
            assert server.stats()["overrun"] == server.stats()["refused"] == 1

    def test_a_shortage_grants_a_share_of_the_calls(self) -> None:
        shortage = Shortage(start=0, seconds=1000, share=0.5)
        with Server(latency=0, rate=4, shortages=[shortage]) as server:
            asked = [ask(server, post({"texts": ["a"]})).status for _ in range(4)]
        assert asked == [200, 200, 429, 429]

    def test_a_new_connection_may_wait_before_it_is_read(self) -> None:
        with Server(latency=0, accept_delay=0.3) as server, connect(server) as sock:
            for least in (0.3, 0.0):
                start = time.monotonic()
                sock.sendall(post({"texts": ["a"]}))
                assert Answer(sock).status == 200
                assert time.monotonic() - start >= least


def until_served(server: Server) -> None:
    """Ask until the server answers, in vain for a while."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, EOFError):
            if ask(server, get("/health")).status == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestTheOutages:
    @pytest.mark.parametrize("path", ["/batch", "/health"])
    def test_every_call_meets_the_fault_of_an_outage(self, path: str) -> None:
        outage = Outage(start=0, seconds=1000, fault="status-503")
        request = get(path) if path == "/health" else post({"texts": ["a"]})
        with Server(latency=0, outages=[outage]) as server:
            assert ask(server, request).status == 503
            assert ask(server, get("/stats")).status == 200
            assert server.stats()["faults"] == {"status-503": 1}

    def test_an_outage_may_reset_or_stall_or_spoil(self) -> None:
        spans = {"reset": 0.0, "stall": 1000.0, "silent-audio": 2000.0}
        outages = [Outage(start=at, seconds=1000, fault=name) for name, at in spans.items()]
        with Server(latency=0, outages=outages) as server:
            with connect(server) as sock:
                sock.sendall(get("/health"))
                assert drain(sock) == b""
            assert server._service is not None
            server._service._started -= 1000
            with connect(server) as sock:
                sock.settimeout(0.3)
                sock.sendall(post({"texts": TEXTS}))
                with pytest.raises(TimeoutError):
                    sock.recv(1)
            server._service._started -= 1000
            audios = ask(server, post({"texts": TEXTS})).audios
            assert sum(audio not in map(tone_wav, TEXTS) for audio in audios) == 1

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    def test_nobody_listens_while_it_refuses_and_then_on_the_same_port(self, host: str) -> None:
        outages = [Outage(start=0.3, seconds=0.3), Outage(start=0.8, seconds=0.3)]
        with Server(latency=0, host=host, outages=outages) as server:
            address = server.base_url.removeprefix("http://").rpartition(":")
            place = (address[0].strip("[]"), int(address[2]))
            for _ in outages:
                with socket.create_connection(place, timeout=PATIENCE) as sock:
                    sock.sendall(get("/health"))
                    assert Answer(sock).status == 200
                    # Who is connected when it begins is thrown out.
                    with pytest.raises(ConnectionResetError):
                        sock.recv(1)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(place, timeout=PATIENCE)
                deadline = time.monotonic() + PATIENCE
                while True:
                    with contextlib.suppress(ConnectionRefusedError):
                        socket.create_connection(place, timeout=PATIENCE).close()
                        break
                    assert time.monotonic() < deadline
                    time.sleep(0.01)

    def test_a_server_may_begin_with_an_outage_and_be_closed_within_one(self) -> None:
        with Server(latency=0, outages=[Outage(start=0, seconds=0.2)]) as server:
            until_served(server)
        with Server(latency=0, outages=[Outage(start=0, seconds=1000)]) as server:
            port = int(server.base_url.rpartition(":")[2])
            deadline = time.monotonic() + PATIENCE
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                while time.monotonic() < deadline:
                    ask(server, get("/health"))
        with Server(port=port):  # the port was given back
            pass


class TestTheFaults:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_status_is_sent(self, server: Server, status: int) -> None:
        answer = faulty(server, f"status-{status}")
        assert answer.status == status
        assert answer.json["error"]["code"] == "injected"

    def test_throttling_may_name_a_date(self, server: Server) -> None:
        headers = faulty(server, "throttle-date").headers
        named, sent = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
        assert 1 <= (named - sent).total_seconds() <= 2

    def test_throttling_may_name_milliseconds(self, server: Server) -> None:
        headers = faulty(server, "throttle-ms").headers
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "250")

    @pytest.mark.parametrize(("fault", "after"), [("throttle", "1"), ("throttle-bare", None)])
    def test_throttling_says_when_to_return_or_not(
        self, server: Server, fault: str, after: str | None
    ) -> None:
        answer = faulty(server, fault)
        assert answer.status == 429
        assert answer.headers.get("retry-after") == after

    def test_reset_sends_no_byte(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "reset"}))
            with pytest.raises(ConnectionResetError):
                sock.recv(1)

    def test_reset_mid_sends_half_and_then_resets(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "reset-mid"}))
            data = b""
            with pytest.raises(ConnectionResetError):
                while True:
                    more = sock.recv(65_536)
                    assert more
                    data += more
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")

    def test_cut_promises_more_than_it_sends(self, server: Server) -> None:
        answer = faulty(server, "cut")
        assert len(answer.body) == int(answer.headers["content-length"]) // 2

    def test_cut_chunked_has_no_last_chunk(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "cut-chunked"}))
            answer = Answer(sock)
            data = drain(sock)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        size, _, rest = data.partition(b"\r\n")
        assert int(size, 16) < len(rest)
        assert not data.endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize(("fault", "error"), [("length-long", 20), ("length-short", -20)])
    def test_a_wrong_length_is_said_of_a_whole_body(
        self, server: Server, fault: str, error: int
    ) -> None:
        right = ask(server, post({"texts": TEXTS})).body
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": fault}))
            data = b""
            while not data.endswith(b"--\r\n"):
                data += sock.recv(65_536)
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        head, _, body = data.partition(b"\r\n\r\n")
        assert body == right
        assert b"Content-Length: %d\r\n" % (len(right) + error) in head + b"\r\n"

    def test_a_length_may_be_said_twice(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "length-twice"}))
            data = b""
            while not data.endswith(b"--\r\n"):
                data += sock.recv(65_536)
        head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
        lengths = {line for line in head if line.startswith(b"Content-Length: ")}
        assert len(lengths) == 2

    def test_late_is_a_right_reply_a_second_later(self, server: Server) -> None:
        start = time.monotonic()
        answer = faulty(server, "late")
        assert answer.audios == [tone_wav(text) for text in TEXTS]
        assert time.monotonic() - start >= 1.0

    @pytest.mark.parametrize("fault", ["stall", "stall-mid"])
    def test_a_stall_ends_with_the_client(self, server: Server, fault: str) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": fault}))
            sock.settimeout(0.3)
            data = b""
            with pytest.raises(TimeoutError):
                while True:
                    more = sock.recv(65_536)
                    assert more
                    data += more
            assert bool(data) is (fault == "stall-mid")
        deadline = time.monotonic() + PATIENCE
        while server.stats()["connections_now"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def test_drip_sends_single_bytes(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "drip"}))
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65_536)
            assert head.startswith(b"HTTP/1.1 200")
            assert 1 <= len(sock.recv(65_536)) < 20

    def test_not_json_is_a_page(self, server: Server) -> None:
        answer = faulty(server, "not-json")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert answer.body.startswith(b"<!doctype html>")

    def test_json_object_is_an_error_in_a_200(self, server: Server) -> None:
        answer = faulty(server, "json-object")
        assert answer.status == 200
        assert "error" in answer.json

    def test_gzip_bomb_is_small_on_the_wire(self, server: Server) -> None:
        answer = faulty(server, "gzip-bomb")
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.body) < 1_500_000
        start = zlib.decompressobj(31).decompress(answer.body, 10_000_000)
        assert len(start) == 10_000_000
        assert start.startswith(b'{"results":[')

    def test_extra_after_follows_a_whole_reply(self, server: Server) -> None:
        with connect(server) as sock:
            sock.sendall(post({"texts": TEXTS}, {"X-Cosy-Fault": "extra-after"}))
            data = b""
            while not data.endswith(b"asked for\r\n"):
                data += sock.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        assert tone_wav(TEXTS[2]) in body[:length]
        assert body[length:].startswith(b"\x00rubbish")

    @pytest.mark.parametrize(("fault", "count"), [("too-few", 2), ("too-many", 4)])
    def test_the_number_of_parts_is_wrong(self, server: Server, fault: str, count: int) -> None:
        assert len(faulty(server, fault).audios) == count

    def test_double_index_says_one_index_twice(self, server: Server) -> None:
        body = faulty(server, "double-index").body
        indexes = [line for line in body.split(b"\r\n") if line.startswith(b"X-Index")]
        assert (len(indexes), len(set(indexes))) == (3, 2)

    @pytest.mark.parametrize("form", ["multipart", "results", "array"])
    def test_missing_index_leaves_one_out(self, server: Server, form: str) -> None:
        body = faulty(server, "missing-index", **{"X-Cosy-Reply": form}).body
        assert body.count(b"X-Index" if form == "multipart" else b'"index"') == 2

    def test_bad_base64_is_sent_as_json(self, server: Server) -> None:
        results = faulty(server, "bad-base64").json["results"]
        assert sum("*" in result["audio_data"] for result in results) == 1

    @pytest.mark.parametrize(
        "fault", ["empty-audio", "silent-audio", "odd-audio", "bad-wav", "short-audio"]
    )
    def test_one_audio_is_wrong_and_the_others_are_right(self, server: Server, fault: str) -> None:
        right = [tone_wav(text) for text in TEXTS]
        audios = faulty(server, fault).audios
        [wrong] = [audio for audio in audios if audio not in right]
        assert wrong is not None
        size = len(right[0])
        assert len(wrong) == {"empty-audio": 0, "odd-audio": size - 1, "short-audio": 1004}.get(
            fault, size
        )
        if fault == "silent-audio":
            assert not any(wrong[44:])
        if fault == "bad-wav":
            assert struct.unpack("<I", wrong[40:44])[0] == 2 * (size - 44)

    def test_same_audio_is_in_all_places(self, server: Server) -> None:
        audios = faulty(server, "same-audio").audios
        assert len(set(audios)) == 1
        assert audios[0] in [tone_wav(text) for text in TEXTS]

    @pytest.mark.parametrize("form", ["multipart", "results", "array"])
    def test_swapped_audio_stands_in_the_place_of_the_other(
        self, server: Server, form: str
    ) -> None:
        answer = faulty(server, "swapped-audio", **{"X-Cosy-Reply": form})
        right = [tone_wav(text) for text in TEXTS]
        if form == "multipart":
            audios: list[bytes | None] = answer.audios
        else:
            items = answer.json if form == "array" else answer.json["results"]
            texts = [item if form == "array" else item["audio_data"] for item in items]
            audios = [base64.b64decode(text) for text in texts]
        assert sorted(audios) == sorted(right)  # type: ignore[type-var]
        assert sum(one != other for one, other in zip(audios, right, strict=True)) == 2

    @pytest.mark.parametrize("texts", [TEXTS, ["啊啊"]])
    def test_foreign_audio_is_as_long_as_the_right_one(
        self, server: Server, texts: list[str]
    ) -> None:
        answer = ask(server, post({"texts": texts}, {"X-Cosy-Fault": "foreign-audio"}))
        right = [tone_wav(text) for text in texts]
        [wrong] = [audio for audio in answer.audios if audio not in right]
        assert wrong is not None
        assert len(wrong) == len(right[0])
        assert wrong[44:] != bytes(len(wrong) - 44)

    def test_the_hash_of_each_text_goes_with_its_audio(self, server: Server) -> None:
        hashes = [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]
        body = ask(server, post({"texts": TEXTS})).body
        said = [line for line in body.split(b"\r\n") if line.startswith(b"X-Text-SHA256: ")]
        assert said == [f"X-Text-SHA256: {each}".encode() for each in hashes]
        answer = ask(server, post({"texts": TEXTS}, {"X-Cosy-Reply": "results"}))
        assert [item["text_sha256"] for item in answer.json["results"]] == hashes

    def test_a_swap_is_seen_in_the_hashes(self, server: Server) -> None:
        answer = faulty(server, "swapped-audio", **{"X-Cosy-Reply": "results"})
        said = [item["text_sha256"] for item in answer.json["results"]]
        right = [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]
        assert sorted(said) == sorted(right) and said != right

    @pytest.mark.parametrize("form", ["multipart", "results"])
    def test_without_echo_there_is_no_hash(self, form: str) -> None:
        with Server(latency=0, echo=False, reply_form=form) as server:
            body = ask(server, post({"texts": TEXTS})).body
        assert b"sha256" not in body.lower()

    def test_swapped_type_is_an_error_that_is_called_audio(self, server: Server) -> None:
        audios = faulty(server, "swapped-type").audios
        assert sum(audio is not None and audio.startswith(b'{"error"') for audio in audios) == 1

    def test_text_error_meets_one_text(self, server: Server) -> None:
        assert faulty(server, "text-error").audios.count(None) == 1

    def test_error_mid_is_nothing_to_a_batch(self, server: Server) -> None:
        # Only the wires that send sound as it comes can report an error behind some of it.
        assert faulty(server, "error-mid").audios == [tone_wav(text) for text in TEXTS]

    def test_every_fault_has_a_test_here(self) -> None:
        source = Path(__file__).read_text("utf-8")
        shown = source.replace(
            'f"status-{status}"', " ".join(f'"status-{s}"' for s in (500, 502, 503, 504))
        )
        assert [fault for fault in FAULTS if f'"{fault}"' not in shown] == []

    def test_configured_odds_are_drawn(self) -> None:
        with Server(latency=0, rate=0, faults={"status-500": 1.0}) as server:
            assert ask(server, post({"texts": ["a"]})).status == 500
            assert ask(server, get("/health")).status == 200
            assert server.stats()["faults"] == {"status-500": 1}

    def test_injected_faults_come_next_and_in_order(self) -> None:
        with Server(latency=0, rate=0, faults={"status-500": 1.0}) as server:
            server.inject("status-502", times=2)
            server.inject("status-503")
            asked = [ask(server, post({"texts": ["a"]})).status for _ in range(4)]
            assert asked == [502, 502, 503, 500]
            with pytest.raises(ValueError, match="did you mean 'reset'"):
                server.inject("rest")


class TestTheEnd:
    def test_closing_does_not_wait_for_stalls(self) -> None:
        server = Server(latency=0).start()
        with connect(server) as stalled, connect(server) as idle:
            stalled.sendall(post({"texts": ["a"]}, {"X-Cosy-Fault": "stall"}))
            idle.sendall(get("/health"))
            Answer(idle)
            start = time.monotonic()
            server.close()
            assert time.monotonic() - start < 10
            assert drain(stalled) == drain(idle) == b""
        assert server.stats()["connections_now"] == 0

    def test_a_reply_under_way_is_finished(self) -> None:
        server = Server(latency=0.3).start()
        with connect(server) as sock:
            sock.sendall(post({"texts": ["a"]}))
            while not server.stats()["batches"]:
                time.sleep(0.001)
            closer = threading.Thread(target=server.close)
            closer.start()
            answer = Answer(sock)
            closer.join()
        assert answer.audios == [tone_wav("a")]
        assert answer.headers["connection"] == "close"

    def test_a_client_that_never_reads_does_not_hold_it_up(self) -> None:
        server = Server(latency=0, audio_bytes=1_000_000).start()
        with connect(server) as sock:
            sock.sendall(post({"texts": [str(i) for i in range(60)]}))
            while not server.stats()["audio_bytes"]:
                time.sleep(0.001)
            server.close()

    def test_a_taken_port_is_an_error_in_the_callers_thread(self) -> None:
        with Server() as server:
            port = int(server.base_url.rpartition(":")[2])
            with pytest.raises(OSError):
                Server(port=port).start()

    def test_it_can_be_started_again(self) -> None:
        server = Server(latency=0)
        for _ in range(3):
            with server:
                assert ask(server, get("/health")).status == 200
            server.close()


def serve(*options: str, **popen: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cosy_sync", "serve", "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen(command, **{**pipes, **popen})


class TestTheCommand:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_with_a_summary(self, number: signal.Signals) -> None:
        with serve("--json-ready", "--latency", "0") as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["pid"] == process.pid
            host, port = ready["url"].removeprefix("http://").removesuffix("/batch").split(":")
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
                sock.sendall(post({"texts": TEXTS}))
                assert Answer(sock).audios == [tone_wav(text) for text in TEXTS]
            process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert errors == "served 1 requests with 3 texts; peak 1 connections, 1 requests/s\n"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--fault", "rest:0.1"], "did you mean 'reset'"),
            (["--fault", "reset"], "NAME:PROBABILITY"),
            (["--audio-bytes", "3"], "--audio-bytes is 3"),
            (["--outage", "20"], "START:SECONDS:FAULT"),
            (["--outage", "20:20:rest"], "did you mean 'reset'"),
            (["--outage", "20:0"], "length above 0"),
            (["--shortage", "10:5"], "START:SECONDS:SHARE"),
            (["--shortage", "10:5:2"], "share is 2.0"),
        ],
    )
    def test_a_wrong_option_ends_it_with_2(self, options: list[str], words: str) -> None:
        with serve(*options) as process:
            _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert words in errors

    def test_a_taken_port_ends_it_with_2(self) -> None:
        with Server() as server:
            port = server.base_url.rpartition(":")[2]
            with serve("--port", port) as process:
                _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in errors
        assert "Choose another --port" in errors

    def test_an_address_of_another_machine_ends_it_with_2(self) -> None:
        with serve("--host", "192.0.2.1") as process:
            _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert "cannot listen on 192.0.2.1:" in errors
        assert "Check --host" in errors and "--port" not in errors

    def test_a_taken_grpc_port_names_its_option(self) -> None:
        pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")
        with Server() as server:
            port = server.base_url.rpartition(":")[2]
            with serve("--port", "0", "--grpc-port", port) as process:
                _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert f"gRPC cannot listen on port {port}: choose another --grpc-port" in errors

    def test_its_help_tells_the_address_of_every_wire(self) -> None:
        with serve("--help") as process:
            told, _ = process.communicate(timeout=PATIENCE)
        assert [name for name in known_wires() if f"\n  {name}  " not in told] == []

    def test_where_nothing_is_every_wire_is_told_of_in_a_message_of_a_client(self) -> None:
        with (
            Server() as server,
            CosyClient(f"{server.base_url}/nowhere") as client,
            pytest.raises(CosyError) as told,
        ):
            client.synth("你好")
        assert "/api/v1/services/..." in str(told.value)

    @pytest.mark.skipif(not hasattr(os, "getppid"), reason="needs parent process ids")
    def test_it_goes_when_its_parent_is_killed(self) -> None:
        code = (
            "import subprocess, sys, time; subprocess.Popen([sys.executable, '-m', 'cosy_sync',"
            " 'serve', '--port', '0', '--json-ready', '--exit-with-parent', '--quiet']);"
            " time.sleep(60)"
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
            assert parent.stdout is not None
            child = json.loads(parent.stdout.readline())["pid"]
            parent.kill()
            # The pipe ends when the child, its last holder, is gone.
            assert parent.stdout.read() == ""
        with pytest.raises(ProcessLookupError):
            for _ in range(int(PATIENCE / 0.05)):
                os.kill(child, 0)
                time.sleep(0.05)
