"""The wire triton over HTTP, as bytes: requests out, replies and refusals in."""

from __future__ import annotations

import json
import struct
from array import array
from typing import Any

import pytest

from cosy_sync import Voice
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ConfigError,
    CosyError,
    InvalidTextError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import UNFRAMED, Reply, Request
from cosy_sync.models import Recording, wav_header
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.triton_http import TritonHttpWire

URL = "http://tts.test:8000"
PCM = struct.pack("<4h", 1, -2, 32767, -32768)
FLOATS = struct.pack("<4f", *(each / 32768 for each in (1, -2, 32767, -32768)))
SIZE = "inference-header-content-length"


def recording(rate: int = 16_000, seconds: float = 0.0) -> Recording:
    return Recording(wav_header(rate, 1, len(PCM)) + PCM, rate, seconds, "d1")


VOICE = Voice(reference=recording(), transcript="希望你好")


def wire(url: str = URL, **settings: Any) -> TritonHttpWire:
    config = ClientConfig(**{"model": "cosyvoice2", **settings})
    made = create_wire("triton", url, SpeechOptions.from_config(config))
    assert isinstance(made, TritonHttpWire)
    return made


def asked(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return a request's JSON and the raw bytes behind it."""
    size = int({name.lower(): value for name, value in request.headers}[SIZE])
    return json.loads(request.body[:size]), request.body[size:]


def reply(data: bytes = FLOATS, *others: bytes, **changes: Any) -> Reply:
    """A reply with the waveform behind other outputs."""
    count = len(data) // 4
    outputs = [
        {"name": "other", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 1}}
        for _ in others
    ]
    waveform = {"name": "waveform", "datatype": "FP32", "shape": [1, count]}
    waveform["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"id": "run-1", "outputs": [*outputs, {**waveform, **changes}]}).encode()
    return Reply(200, {SIZE: str(len(head))}, head + b"".join(others) + data)


def refusal(status: int, said: str, texts: tuple[str, ...] = ("你好",)) -> CosyError:
    body = json.dumps({"error": said}).encode()
    with pytest.raises(CosyError) as caught:
        wire().decode(Reply(status, {"content-type": "text/plain"}, body), texts)
    return caught.value


# -- what is asked ------------------------------------------------------------------------------


def test_a_text_alone_is_one_tensor_in_raw_bytes() -> None:
    request = wire(api_key="k1").encode(["你好"], "run-1")
    value, raw = asked(request)
    assert request.url == URL + "/v2/models/cosyvoice2/infer"
    assert value["id"] == "run-1"
    assert [(each["name"], each["datatype"], each["shape"]) for each in value["inputs"]] == [
        ("target_text", "BYTES", [1, 1])
    ]
    assert value["outputs"] == [{"name": "waveform", "parameters": {"binary_data": True}}]
    assert raw == struct.pack("<I", 6) + "你好".encode()
    assert ("Authorization", "Bearer k1") in request.headers


def test_a_recording_goes_before_the_text_as_floats_with_its_length_and_words() -> None:
    value, raw = asked(wire(voice=VOICE).encode(["你好"], "run-1"))
    told = [(each["name"], each["datatype"], each["shape"]) for each in value["inputs"]]
    assert told == [
        ("reference_wav", "FP32", [1, 4]),
        ("reference_wav_len", "INT32", [1, 1]),
        ("reference_text", "BYTES", [1, 1]),
        ("target_text", "BYTES", [1, 1]),
    ]
    sizes = [each["parameters"]["binary_data_size"] for each in value["inputs"]]
    assert sizes == [16, 4, 16, 10] and len(raw) == sum(sizes)
    assert raw[:20] == FLOATS + struct.pack("<i", 4)


@pytest.mark.parametrize(
    ("url", "model", "path"),
    [
        (URL, "cosyvoice2", "/v2/models/cosyvoice2/infer"),
        (URL + "/", "cosyvoice2", "/v2/models/cosyvoice2/infer"),
        (URL + "/v2", "cosyvoice2", "/v2/models/cosyvoice2/infer"),
        (URL + "/gate/v2/", "cosyvoice2", "/gate/v2/models/cosyvoice2/infer"),
        (URL + "/gate?key=1", "cosyvoice2", "/gate/v2/models/cosyvoice2/infer?key=1"),
        (URL + "/v2/models/a%20b", None, "/v2/models/a%20b/infer"),
        (URL + "/v2/models/x/versions/3/infer", "x", "/v2/models/x/versions/3/infer"),
        (URL, "我的/模型"[:2], "/v2/models/%E6%88%91%E7%9A%84/infer"),
    ],
)
def test_the_url_and_the_model_make_the_address(url: str, model: str | None, path: str) -> None:
    assert wire(url, model=model).encode(["a"], "run-1").url == URL + path


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": None}, "model: the wire 'triton' asks for a model by its name"),
        ({"model": "a/b"}, "model: 'a/b' is no name"),
        ({"url": URL + "/v2/models/x"}, "model: the URL asks for 'x'"),
        ({"url": "ws://tts.test"}, "url: the wire 'triton' needs http://"),
        ({"voice": "中文女"}, "voice: the wire 'triton' cannot take a speaker's name"),
        ({"voice": Voice(reference=recording())}, "only with its transcript"),
        (
            {"voice": Voice(reference=recording(), transcript="a", instruction="b")},
            "cannot take an instruction",
        ),
        ({"voice": Voice(reference=recording(24_000), transcript="a")}, "at 24000 Hz"),
        ({"voice": Voice(reference=recording(seconds=31), transcript="a")}, "of 31.0 s"),
        ({"model": "cosyvoice3"}, "voice: cosyvoice3 has no speaker of its own"),
        ({"extra": {"seed": 1}}, "extra: the wire 'triton' has no further fields"),
        ({"speed": 1.2}, "speed: the wire 'triton' cannot set it"),
        ({"sample_rate": 22_050}, "sample_rate: cosyvoice2 speaks at 24000 Hz"),
        ({"sample_rate": 16_000, "model": "mine"}, "speaks at 24000 Hz"),
    ],
)
def test_what_its_models_cannot_take_is_refused_before_sending(settings, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        wire(**settings)


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        wire().encode(["半\ud83d"], "run-1")


def test_a_stream_is_refused_with_the_address_that_streams() -> None:
    assert not wire().capabilities.streaming
    with pytest.raises(ConfigError, match="grpc://host:8001"):
        wire().listen("你好", lambda request: reply(), "run-1")


# -- what is answered ---------------------------------------------------------------------------


@pytest.mark.parametrize("others", [(), (b"x", b"y")])
def test_the_waveform_is_found_among_other_outputs(others: tuple[bytes, ...]) -> None:
    (payload,) = wire().decode(reply(FLOATS, *others), ["你好"])
    assert (payload.data, payload.media_type) == (PCM, "audio/pcm;rate=24000")


def test_no_sample_is_nothing_to_speak() -> None:
    (error,) = wire().decode(reply(b""), ["。。"])
    assert isinstance(error, TextError)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(FLOATS + b"xy"), "odd"),
        (reply(shape=[1, 5]), "cut"),
        (reply(parameters={"binary_data_size": 99}), "cut"),
        (reply(parameters={"binary_data_size": -4}), "cut"),
        (reply(datatype="FP16"), "not_audio"),
        (reply(name="speech"), "not_audio"),
        (reply(shape=None), "not_audio"),
        (reply(parameters={}), "not_audio"),
        (reply(struct.pack("<f", float("nan"))), "not_audio"),
        (Reply(200, {}, b'{"outputs":[{"name":"waveform","data":[0.1]}]}'), "not_audio"),
        (Reply(200, {}, b"<html>"), "not_audio"),
        (Reply(200, {}, b"[]"), "not_audio"),
        (Reply(200, {SIZE: "9" * 9}, b"{}"), "not_audio"),
        (Reply(200, {**reply().headers, UNFRAMED: "1"}, reply().body), "unframed"),
    ],
)
def test_a_reply_that_is_no_whole_waveform_is_bad_audio(answer: Reply, reason: str) -> None:
    with pytest.raises(BadAudioError) as caught:
        wire().decode(answer, ["你好"])
    assert caught.value.reason == reason


def test_sound_of_exactly_30_seconds_was_cut_by_the_model_and_is_not_asked_for_again() -> None:
    second = array("f", [0.25] * 24_000).tobytes()
    with pytest.raises(BadAudioError, match="shorter pieces") as caught:
        wire().decode(reply(second * 30), ["很长"])
    assert caught.value.reason == "cut" and not caught.value.retryable
    (payload,) = wire().decode(reply(second * 30 + FLOATS), ["很长"])
    assert len(payload.data) == 2 * (30 * 24_000 + 4)


def test_a_reply_to_another_request_is_refused() -> None:
    (payload,) = wire().exchange(["你好"], lambda request: reply(), "run-1")
    assert payload.data == PCM
    with pytest.raises(BadAudioError) as caught:
        wire().exchange(["你好"], lambda request: reply(), "run-2")
    assert caught.value.reason == "misplaced"


# -- refusals, as Triton 2.51 words them --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "kind", "told"),
    [
        (
            404,
            "Request for unknown model: 'cosyvoice2' is not found",
            BadRequestError,
            "give a name that the server has",
        ),
        (
            400,
            "Request for unknown model: 'cosyvoice2' has no available versions",
            UnavailableError,
            "not loaded",
        ),
        (
            404,
            "Request for unknown model: 'cosyvoice2' version 9 is not found",
            BadRequestError,
            "give a version",
        ),
        (
            400,
            "Request for unknown model: 'cosyvoice2' version 1 is not at ready state",
            UnavailableError,
            "not loaded",
        ),
        (
            501,
            "HTTP end point doesn't support models with decoupled transaction policy",
            BadRequestError,
            "gRPC address",
        ),
        (503, "[request id: run-1] Exceeds maximum queue size", ThrottledError, "max_connections"),
        (503, "Request timeout expired", ThrottledError, "max_connections"),
        (
            400,
            "unexpected inference input 'target_text' for model 'cosyvoice2'",
            BadRequestError,
            "other tensors",
        ),
        (
            400,
            "[request id: run-1] expected 4 inputs but got 1 inputs for model 'x'. Got input(s) "
            "['target_text'], but missing required input(s) ['reference_wav']. Please provide",
            BadRequestError,
            "no speaker of its own: give voice=Voice(",
        ),
        (
            400,
            "inference input 'target_text' data-type is 'BYTES', but model 'x' expects 'INT32'",
            BadRequestError,
            "other tensors",
        ),
        (
            400,
            "[request id: run-1] expected number of inputs between 2 and 5 but got 1 inputs for "
            "model 'x'. Got input(s) ['target_text'], but missing required input(s) ['speed'].",
            BadRequestError,
            "other tensors",
        ),
        (500, "'NoneType' object has no attribute 'as_numpy'", BadRequestError, "Voice("),
        (
            500,
            "Failed to process the request(s) for model 'x_0_0', message: AttributeError: "
            "'NoneType' object has no attribute 'as_numpy'\n\nAt:\n  model.py(9): execute\n",
            BadRequestError,
            "Voice(",
        ),
        (400, "something else", BadRequestError, "something else"),
        (401, "no", AuthError, "api_key"),
        (503, "draining", UnavailableError, "draining"),
    ],
)
def test_each_refusal_says_what_to_do(status: int, said: str, kind: type, told: str) -> None:
    error = refusal(status, said)
    assert type(error) is kind and told in str(error)


def test_a_full_queue_counts_as_too_many_at_a_time() -> None:
    error = refusal(503, "Exceeds maximum queue size")
    assert isinstance(error, ThrottledError) and error.crowded


@pytest.mark.parametrize(
    ("exception", "told"),
    [
        ("TritonModelException: Request for unknown model: 'token2wav' is not found", None),
        ("RuntimeError: CUDA error\nFor debugging consider a flag.", "RuntimeError: CUDA error"),
        ("RuntimeError: Exceeds maximum queue size", None),
    ],
)
def test_what_the_models_own_code_says_is_a_failure_of_the_model(exception: str, told) -> None:
    said = f"Failed to process the request(s) for model 'x_0_0', message: {exception}"
    for report in (said, f"{said}\n\nAt:\n  /opt/model.py(9): execute\n"):
        error = refusal(500, report)
        assert type(error) is UnavailableError
        assert error.message == f"the model failed: {told or exception}; look into the server's log"


def test_a_dead_process_of_the_model_is_a_failure_of_the_model() -> None:
    error = refusal(500, "Stub process 'cosyvoice2_0_0' is not healthy.")
    assert error.message == (
        "the model failed: Stub process 'cosyvoice2_0_0' is not healthy; look into the server's log"
    )


def test_a_models_traceback_is_told_by_its_exception_without_the_text() -> None:
    said = (
        "Failed to process the request(s) for model 'x_0_0', message: TritonModelException: "
        'Traceback (most recent call last):\n  File "/opt/model.py", line 7, in execute\n'
        "RuntimeError: unknown model: '今天天气不错' is not found\n\n\n\n"
        "At:\n  model.py(9): execute\n"
    )
    error = refusal(500, said, ("今天天气不错",))
    assert isinstance(error, UnavailableError)
    assert "the model failed: RuntimeError: unknown model" in str(error)
    assert "天气" not in str(error) and "/opt" not in str(error)


def test_its_repr_shows_no_key_of_the_url() -> None:
    assert "sesame" not in repr(wire(URL + "/gate?key=sesame"))
