"""The wire pai_eas: what it asks for, and what answers mean."""

import base64
import json
from typing import Any

import pytest

from cosy_sync import BadAudioError, ClientConfig, ConfigError, CosyError, Voice
from cosy_sync.detect import wire_of_url
from cosy_sync.messages import Reply, Request
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.pai_eas import PaiEasWire, reference_url

HOST = "https://x.cn-hangzhou.pai-eas.aliyuncs.com"
WAV = wav_header(24_000, 1, 4) + bytes(4)


def wire(url: str = HOST, **settings: Any) -> PaiEasWire:
    config = ClientConfig(**{"voice": "id1", "api_key": "secret", **settings})
    made = create_wire("pai_eas", url, SpeechOptions.from_config(config))
    assert isinstance(made, PaiEasWire)
    return made


def asked(made: PaiEasWire, text: str = "你好") -> tuple[Request, dict[str, Any]]:
    request = made.encode([text], "r1")
    return request, json.loads(request.body)


def answer(value: object, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(value).encode())


def said(reason: object, data: bytes = WAV, **more: object) -> Reply:
    output = {"finish_reason": reason, "audio": {"data": base64.b64encode(data).decode()}}
    return answer({"output": output, "request_id": "x", **more})


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("", "/api/v1/audio/speech"),
        ("/api/predict/name/", "/api/predict/name/api/v1/audio/speech"),
        ("/v1", "/v1/audio/speech"),
        ("/api/v1", "/api/v1/audio/speech"),
        ("/v1/audio/speech", "/v1/audio/speech"),
    ],
)
def test_the_address_is_completed(url: str, right: str) -> None:
    assert asked(wire(HOST + url))[0].url == HOST + right
    registry = right.replace("speech", "reference_audio?limit=100")
    assert reference_url(HOST + url) == HOST + registry


def test_the_host_tells_the_wire() -> None:
    assert wire_of_url(f"{HOST}/api/v1/audio/speech") == "pai_eas"


def test_a_request_says_all_that_has_a_default_elsewhere() -> None:
    _, body = asked(wire(speed=1.5, sample_rate=16_000, extra={"volume": 0.5}))
    assert body == {
        "model": "CosyVoice2-0.5B",
        "stream": False,
        "input": {
            **{"volume": 0.5, "mode": "fast_replication", "sample_rate": 16_000, "speed": 1.5},
            **{"reference_audio_id": "id1", "text": "你好", "output_format": "wav"},
        },
    }
    streamed = wire().listen("你好", lambda _: pytest.fail("nothing is sent before"), "r1").request
    assert isinstance(streamed, Request)
    assert json.loads(streamed.body)["stream"] is True
    assert json.loads(streamed.body)["input"]["output_format"] == "pcm"


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({}, "Bearer secret"),
        ({"extra": {"bare_token": True}}, "secret"),
        ({"headers": {"Authorization": "mine"}}, "mine"),
        ({"headers": {"Authorization": "mine"}, "extra": {"bare_token": True}}, "mine"),
    ],
)
def test_the_token_is_sent_as_the_gateway_wants_it(settings: Any, right: str) -> None:
    request, body = asked(wire(**settings))
    assert dict(request.headers)["Authorization"] == right
    assert "bare_token" not in body["input"]


def test_an_instruction_has_its_mode() -> None:
    fields = asked(wire(voice=Voice("id1", instruction="用四川话说")))[1]["input"]
    assert (fields["mode"], fields["instruct"]) == ("natural_language_replication", "用四川话说")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"voice": None}, "id of a recording"),
        ({"speed": 3.0}, "speaks at 0.5 to 2"),
        ({"extra": {"mode": "other"}}, "mode must be one of"),
        (
            {"voice": Voice("a", instruction="b"), "extra": {"mode": "fast_replication"}},
            "mode must be",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wire(**settings)


@pytest.mark.parametrize("reason", [None, "stop", ""])
def test_sound_is_read(reason: object) -> None:
    (payload,) = wire().decode(said(reason), ["你好"])
    assert not isinstance(payload, CosyError) and payload.data == WAV


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (said("invalid text: 你好"), CosyError),
        (said(None, error="CUDA out of memory"), CosyError),
        (said("length"), BadAudioError),
        (said(None, b""), BadAudioError),
        (answer({"output": {}}), BadAudioError),
        (answer([]), BadAudioError),
        (Reply(200, {}, b"<html>"), BadAudioError),
        (answer({"code": "InvalidParameter", "message": "no"}, 400), CosyError),
        (answer({"error": "no"}, 503), CosyError),
    ],
)
def test_a_failure_is_an_error_whatever_its_status(reply: Reply, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        wire().decode(reply, ["你好"])
    assert "你好" not in str(caught.value)


@pytest.mark.parametrize(
    "event", [{"output": None, "error": "broken"}, {"output": {"finish_reason": "it failed"}}]
)
def test_a_failure_in_a_stream_is_an_error(event: dict[str, Any]) -> None:
    reader = wire().listen("你好", lambda _: pytest.fail("nothing is sent before"), "r1")
    assert reader.accept(200, {"content-type": "text/event-stream"})
    with pytest.raises(CosyError):
        reader.feed(f"data: {json.dumps(event)}\n\n".encode())
