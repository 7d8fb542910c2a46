"""The embedded server's WebSocket protocol, frame by frame, against a foreign client."""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import cosy_sync.server.wires.dashscope_ws as server_side
from cosy_sync.testing import Server, tone_wav

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

pytest.importorskip("websockets", reason="needs websockets (extra websocket)")

PATIENCE = 30.0
ID = "0f8b0c1e5d2a4c5fa0b1c2d3e4f50617"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, seed=1) as running:
        yield running


@contextlib.contextmanager
def connect(
    server: Server, path: str = "/api-ws/v1/inference", **headers: str
) -> Iterator[ClientConnection]:
    from websockets.sync.client import connect as open_socket

    url = server.base_url.replace("http", "ws", 1) + path
    with open_socket(url, additional_headers=headers, proxy=None, close_timeout=1) as socket:
        yield socket


def say(action: str, payload: Any, task_id: str = ID) -> str:
    header = {"action": action, "task_id": task_id, "streaming": "duplex"}
    return json.dumps({"header": header, "payload": payload})


def run(task_id: str = ID, parameters: Any = None, **changes: Any) -> str:
    given = {"text_type": "PlainText", "voice": "longanyang", "format": "pcm"}
    given |= {"sample_rate": 24_000} | (parameters or {})
    payload = {
        **{"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer"},
        **{"model": "cosyvoice-v3-flash", "parameters": given, "input": {}},
    }
    return say("run-task", {**payload, **changes}, task_id)


def text(said: str) -> str:
    return say("continue-task", {"input": {"text": said}})


FINISH = say("finish-task", {"input": {}})
CANCEL = say("finish-task", {"input": {"directive": "cancel"}})


def heard(socket: ClientConnection) -> str | bytes:
    return socket.recv(timeout=PATIENCE)


def event(socket: ClientConnection) -> dict[str, Any]:
    message = heard(socket)
    assert isinstance(message, str)
    value: dict[str, Any] = json.loads(message)
    return value


def failure(socket: ClientConnection) -> tuple[str, str]:
    """Read on to task-failed; the server must close behind it."""
    from websockets.exceptions import ConnectionClosed

    while True:
        message = heard(socket)
        if isinstance(message, bytes):
            continue
        header = json.loads(message)["header"]
        if header["event"] == "task-failed":
            break
        assert header["event"] != "task-finished"
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=PATIENCE)
    return header["error_code"], header["error_message"]


class TestEvents:
    @pytest.mark.parametrize("path", ["/api-ws/v1/inference", "/api-ws/v1/inference/"])
    def test_they_come_in_order_and_as_documented(self, server: Server, path: str) -> None:
        with connect(server, path) as socket:
            socket.send(run())
            assert event(socket) == {
                "header": {"task_id": ID, "event": "task-started", "attributes": {}},
                "payload": {},
            }
            socket.send(text("今天好。"))
            head = {"task_id": ID, "event": "result-generated", "attributes": {}}
            sentence = {"index": 0, "words": []}
            assert event(socket) == {
                "header": head,
                "payload": {
                    "output": {
                        "type": "sentence-begin",
                        "original_text": "今天好。",
                        "sentence": sentence,
                    }
                },
            }
            assert event(socket) == {
                "header": head,
                "payload": {"output": {"type": "sentence-synthesis", "sentence": sentence}},
            }
            assert heard(socket) == tone_wav("今天好。")[44:]
            assert event(socket) == {
                "header": head,
                "payload": {
                    "output": {
                        "type": "sentence-end",
                        "original_text": "今天好。",
                        "sentence": sentence,
                    },
                    "usage": {"characters": 7},
                },
            }
            socket.send(FINISH)
            assert event(socket) == {
                "header": {"task_id": ID, "event": "task-finished", "attributes": {}},
                "payload": {"output": {}, "usage": {"characters": 7}},
            }

    def test_usage_adds_up_and_sentences_are_counted(self, server: Server) -> None:
        with connect(server) as socket:
            for frame in (run(), text("一。"), text("ab."), FINISH):
                socket.send(frame)
            ends = []
            while True:
                message = heard(socket)
                if isinstance(message, str):
                    payload = json.loads(message)["payload"]
                    if "usage" in payload:
                        index = payload["output"].get("sentence", {}).get("index")
                        ends.append((index, payload["usage"]["characters"]))
                    if json.loads(message)["header"]["event"] == "task-finished":
                        break
        assert ends == [(0, 3), (1, 6), (None, 6)]

    def test_another_task_may_follow_on_the_same_socket(self, server: Server) -> None:
        with connect(server) as socket:
            for _ in range(3):
                task_id = uuid.uuid4().hex
                socket.send(run(task_id))
                socket.send(say("continue-task", {"input": {"text": "好"}}, task_id))
                socket.send(say("finish-task", {"input": {}}, task_id))
                audio = b""
                while True:
                    message = heard(socket)
                    if isinstance(message, bytes):
                        audio += message
                    elif json.loads(message)["header"]["event"] == "task-finished":
                        break
                assert audio == tone_wav("好")[44:]

    def test_cancel_is_answered_at_once(self) -> None:
        with Server(latency=3600, rate=0) as server, connect(server) as socket:
            for frame in (run(), text("好。"), CANCEL, CANCEL):
                socket.send(frame)
            assert event(socket)["header"]["event"] == "task-started"
            assert event(socket)["header"]["event"] == "task-finished"
            # The second one came late, and does no harm.
            socket.send(run("1" * 32))
            assert event(socket)["header"]["event"] == "task-started"


class TestRefusals:
    @pytest.mark.parametrize(
        ("frames", "code", "message"),
        [
            ([run(model=None)], "InvalidParameter", "'payload.model'"),
            ([run(input=None)], "InvalidParameter", "'payload.input'"),
            ([run(parameters={"voice": "nobody"})], "InvalidParameter", "418"),
            ([run(parameters={"voice": None})], "InvalidParameter", "voice is invalid"),
            ([run(parameters={"format": "mp3"})], "InvalidParameter", "pcm and wav"),
            ([run(parameters={"sample_rate": 11_025})], "InvalidParameter", "sample_rate"),
            ([run(parameters={"rate": 2.1})], "InvalidParameter", "rate"),
            ([run(parameters={"rate": 0.4})], "InvalidParameter", "rate"),
            ([run(parameters={"volume": 101})], "InvalidParameter", "volume"),
            ([run(parameters={"pitch": "high"})], "InvalidParameter", "pitch"),
            ([run(""), FINISH], "InvalidParameter", "task_id"),
            ([run(), run()], "InvalidParameter", "is running"),
            ([run(), FINISH], "InvalidParameter", "task can not be null"),
            ([run(), text("好"), FINISH, text("好")], "InvalidParameter", "finished already"),
            ([text("好")], "InvalidParameter", "no such task"),
            ([run("1" * 32), text("好")], "InvalidParameter", "no such task"),
            ([say("dance", {})], "InvalidParameter", "unknown action"),
            ([run(), text("好" * 10_001)], "InvalidParameter", "too long"),
            (
                [run(), *[text("a" * 20_000)] * 10, text("a")],
                "InvalidParameter",
                "too long",
            ),
            (
                [run(parameters={"enable_ssml": True}), text("一"), text("二")],
                "InvalidParameter",
                "Text request limit violated, expected 1.",
            ),
            ([run(), text("[refuse]"), FINISH], "DataInspectionFailed", ""),
        ],
    )
    def test_task_failed_and_the_end(self, frames: list[str], code: str, message: str) -> None:
        slow = Server(latency=0.2, rate=0, seconds_per_char=0.01)
        with slow as server, connect(server) as socket:
            for frame in frames:
                socket.send(frame)
            said = failure(socket)
        assert said[0] == code
        assert message in said[1]

    @pytest.mark.parametrize(
        "frame",
        [
            "{",
            "[]",
            "{}",
            '{"header":{"action":7}}',
            '{"header":{"action":"run-task","task_id":7}}',
            '{"header":{"action":"continue-task","task_id":"1"},"payload":{"input":{"text":7}}}',
            '{"header":{"action":"continue-task","task_id":"1"},"payload":[1]}',
        ],
    )
    def test_malformed_messages_close_with_1007(self, server: Server, frame: str) -> None:
        from websockets.exceptions import ConnectionClosed

        with connect(server) as socket:
            socket.send(frame)
            with pytest.raises(ConnectionClosed) as caught:
                socket.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1007

    def test_half_a_character_is_the_callers_fault(self, server: Server) -> None:
        with connect(server) as socket:
            socket.send(run())
            assert event(socket)["header"]["event"] == "task-started"
            socket.send(say("continue-task", {"input": {"text": "hi\ud800"}}))
            assert event(socket)["header"]["error_code"] == "InvalidParameter"

    def test_a_refusal_reaches_a_client_that_goes_on_sending(self, server: Server) -> None:
        from websockets.exceptions import ConnectionClosed

        with connect(server) as socket:
            socket.send(run(parameters={"voice": "nobody"}))
            with contextlib.suppress(ConnectionClosed):
                for _ in range(100):
                    socket.send(text("好"))
            assert failure(socket)[0] == "InvalidParameter"


class TestTime:
    def test_texts_too_far_apart_end_the_task(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_side, "GAP_SECONDS", 0.1)
        with connect(server) as socket:
            socket.send(run())
            code, message = failure(socket)
        assert (code, message) == ("CLIENT_ERROR", "request timeout after 0.1 seconds.")

    def test_after_the_finish_there_is_no_gap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_side, "GAP_SECONDS", 0.1)
        with Server(latency=0.5, rate=0) as server, connect(server) as socket:
            for frame in (run(), text("好"), FINISH):
                socket.send(frame)
            while (message := heard(socket)) and "task-finished" not in str(message):
                assert "task-failed" not in str(message)

    def test_an_idle_socket_is_closed(self) -> None:
        from websockets.exceptions import ConnectionClosed

        impatient = Server(latency=0, rate=0, idle_timeout=0.1)
        with (
            impatient as server,
            connect(server) as socket,
            pytest.raises(ConnectionClosed) as caught,
        ):
            socket.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1000

    def test_the_server_ends_beside_idle_and_stalled_sockets(self) -> None:
        server = Server(latency=0, rate=0)
        server.start()
        with connect(server) as idle, connect(server) as stalled:
            server.inject("stall")
            for frame in (run(), text("好"), FINISH):
                stalled.send(frame)
            assert event(stalled)["header"]["event"] == "task-started"
            idle.send(run())
            assert event(idle)["header"]["event"] == "task-started"
            idle.send(CANCEL)
            assert event(idle)["header"]["event"] == "task-finished"
            server.close()


class TestHandshake:
    def test_a_wrong_key_is_a_401_in_the_services_words(self) -> None:
        from websockets.exceptions import InvalidStatus

        with Server(latency=0, api_key="sk-1") as server:
            with pytest.raises(InvalidStatus) as caught, connect(server, Authorization="Bearer x"):
                pass
            response = caught.value.response
        assert response.status_code == 401
        said = json.loads(response.body or b"")
        assert said["code"] == "InvalidApiKey"
        assert set(said) == {"code", "message", "request_id"}

    def test_a_plain_request_is_told_what_to_do(self, server: Server) -> None:
        answer = httpx.get(server.base_url + "/api-ws/v1/inference")
        assert answer.status_code == 426
        assert httpx.get(server.base_url + "/health").status_code == 200

    def test_other_paths_do_not_upgrade(self, server: Server) -> None:
        from websockets.exceptions import InvalidStatus

        for path, status in (("/health", 501), ("/nowhere", 404)):
            with pytest.raises(InvalidStatus) as caught, connect(server, path):
                pass
            assert caught.value.response.status_code == status

    def test_a_handshake_that_is_none_is_refused(self, server: Server) -> None:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        answer = httpx.get(server.base_url + "/api-ws/v1/inference", headers=headers)
        assert answer.status_code == 400

    def test_without_its_package_it_says_what_to_install(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "websockets.server", None)
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        answer = httpx.get(server.base_url + "/api-ws/v1/inference", headers=headers)
        assert answer.status_code == 501
        assert "pip install 'espeakng-loader>=0.2.4'" in answer.text
