"""The wire triton over gRPC, as bytes: against the code that protoc makes of KServe's messages."""

from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest
from generated import kserve

from cosy_sync import Voice
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    BadAudioError,
    BadRequestError,
    ConfigError,
    CosyError,
    CutError,
    InvalidTextError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply
from cosy_sync.models import Recording, wav_header
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.triton_grpc import TritonGrpcWire

URL = "grpc://tts.test:8001"
SAMPLES = (1, -2, 32767, -32768)
PCM = struct.pack("<4h", *SAMPLES)
FLOATS = struct.pack("<4f", *(each / 32768 for each in SAMPLES))
RECORDING = Recording(wav_header(16_000, 1, len(PCM)) + PCM, 16_000, 0.1, "d1")


def wire(url: str = URL, **settings: Any) -> TritonGrpcWire:
    config = ClientConfig(**{"model": "cosyvoice2", **settings})
    made = create_wire("triton", url, SpeechOptions.from_config(config))
    assert isinstance(made, TritonGrpcWire)
    return made


def response(*chunks: bytes, final: bool | None = None, said: str = "", **more: Any) -> bytes:
    """One message: with an output for each chunk, or with what the server says of a failure."""
    messages, _ = kserve()
    inner = messages.ModelInferResponse(id="run-1")
    for chunk in chunks:
        fields = {"name": "waveform", "datatype": "FP32", "shape": [1, len(chunk) // 4], **more}
        inner.outputs.add(**fields)
        inner.raw_output_contents.append(chunk)
    if final is not None:
        inner.parameters["triton_final_response"].bool_param = final
    made = messages.ModelStreamInferResponse(error_message=said, infer_response=inner)
    return bytes(made.SerializeToString())


def reply(*messages: bytes, status: int = 0, said: str = "") -> Reply:
    body = b"".join(b"\0" + struct.pack(">I", len(each)) + each for each in messages)
    return Reply(200, {"grpc-status": str(status), "grpc-message": said}, bytearray(body))


def failure(*messages: bytes, status: int = 0, said: str = "", text: str = "你好") -> CosyError:
    with pytest.raises(CosyError) as caught:
        wire().decode(reply(*messages, status=status, said=said), [text])
    return caught.value


# -- what is asked ------------------------------------------------------------------------------


def test_a_call_is_what_protoc_reads() -> None:
    messages, _ = kserve()
    voice = Voice(reference=RECORDING, transcript="希望你好")
    call = wire(URL + "/v2/models/cosyvoice2/versions/3", voice=voice).encode("你好", "run-1")
    assert (call.url, call.path) == (URL, "/inference.GRPCInferenceService/ModelStreamInfer")
    assert ("x-request-id", "run-1") in call.metadata
    read = messages.ModelInferRequest.FromString(call.message)
    assert (read.model_name, read.model_version, read.id) == ("cosyvoice2", "3", "run-1")
    assert read.parameters["triton_enable_empty_final_response"].bool_param
    assert [(each.name, each.datatype, list(each.shape)) for each in read.inputs] == [
        ("reference_wav", "FP32", [1, 4]),
        ("reference_wav_len", "INT32", [1, 1]),
        ("reference_text", "BYTES", [1, 1]),
        ("target_text", "BYTES", [1, 1]),
    ]
    assert [each.name for each in read.outputs] == ["waveform"]
    wav, length, words, text = read.raw_input_contents
    assert (wav, length) == (FLOATS, struct.pack("<i", 4))
    assert words == struct.pack("<I", 12) + "希望你好".encode()
    assert text == struct.pack("<I", 6) + "你好".encode()


def test_a_long_recording_has_its_length_in_the_shape() -> None:
    messages, _ = kserve()
    pcm = bytes(2 * 160_000)
    long = Recording(wav_header(16_000, 1, len(pcm)) + pcm, 16_000, 10.0, "d2")
    call = wire(voice=Voice(reference=long, transcript="a")).encode("你好", "run-1")
    read = messages.ModelInferRequest.FromString(call.message)
    assert list(read.inputs[0].shape) == [1, 160_000]
    assert len(read.raw_input_contents[0]) == 640_000


def test_the_key_and_headers_are_metadata() -> None:
    made = wire(api_key="k1", headers={"X-Team": "a", "X-Request-Id": "mine"})
    assert made.encode("你好", "run-1").metadata == (
        ("x-team", "a"),
        ("authorization", "Bearer k1"),
        ("x-request-id", "run-1"),
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "grpc://tts.test"}, "has a host and a port"),
        ({"url": URL + "/gate"}, "has a host and a port"),
        ({"url": URL + "?a=1"}, "has a host and a port"),
        ({"model": None}, "model: the wire 'triton' asks"),
        ({"extra": {"seed": 1}}, "extra: the wire 'triton' has no further fields"),
        ({"headers": {"grpc-timeout": "1"}}, "cannot be sent as gRPC metadata"),
        ({"voice": "中文女"}, "cannot take a speaker's name"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_sending(settings, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        wire(**settings)


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        wire().encode("半\ud83d", "run-1")


# -- what is answered ---------------------------------------------------------------------------


def test_chunks_are_joined_and_the_last_response_may_be_empty() -> None:
    told = reply(
        response(FLOATS, final=False), response(FLOATS[:8], final=False), response(final=True)
    )
    (payload,) = wire().exchange(["你好"], lambda call: told, "run-1")
    assert payload.data == PCM + PCM[:4] and payload.media_type == "audio/pcm;rate=24000"


@pytest.mark.parametrize("final", [True, None])
def test_one_response_is_all_of_a_model_that_does_not_stream(final: bool | None) -> None:
    # Servers before 2023 do not tell which is the last.
    assert wire().decode(reply(response(FLOATS, final=final)), ["你好"]).data == PCM


def test_a_stream_gives_each_chunk_as_it_comes_and_nothing_at_its_end() -> None:
    reader = wire().listen("你好", lambda call: reply(), "run-1")
    assert reader.accept(200, {}) and reader.sample_rate == 24_000
    assert reader.feed(response(FLOATS, final=False)) == PCM
    assert reader.feed(response(FLOATS[4:], final=False)) == PCM[2:]
    assert reader.feed(response(final=True)) == b""
    assert reader.end() == b""


def test_a_call_that_ends_before_its_last_response_was_cut() -> None:
    error = failure(response(FLOATS, final=False))
    assert isinstance(error, CutError) and error.partial == PCM
    assert isinstance(failure(), CutError)


def test_an_end_without_sound_is_nothing_to_speak() -> None:
    assert isinstance(failure(response(final=True), text="。。"), TextError)


def test_a_failure_behind_sound_cuts_the_reply_and_keeps_what_came() -> None:
    error = failure(response(FLOATS, final=False), response(said="out of memory"))
    assert isinstance(error, CutError) and error.partial == PCM
    assert isinstance(error.__cause__, UnavailableError)
    error = failure(response(FLOATS, final=False), status=14, said="going away")
    assert isinstance(error, CutError) and error.partial == PCM


def test_sound_of_exactly_30_seconds_was_cut_by_the_model() -> None:
    second = array("f", [0.25] * 24_000).tobytes()
    error = failure(*[response(second, final=False)] * 30, response(final=True))
    assert isinstance(error, BadAudioError) and error.reason == "cut" and not error.retryable


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("Request for unknown model: 'x' is not found", BadRequestError, "give a name"),
        ("[request id: run-1] Exceeds maximum queue size", ThrottledError, "max_connections"),
        ("Request timeout expired", ThrottledError, "max_connections"),
        ("CUDA out of memory", UnavailableError, "the model failed: CUDA out of memory"),
    ],
)
def test_a_failure_in_a_message_and_one_in_the_status_mean_the_same(said, kind, told) -> None:
    error = failure(response(said=said))
    assert type(error) is kind and told in str(error)
    if kind is not UnavailableError:
        assert type(failure(status=14, said=said)) is kind


def test_a_call_refused_by_what_stands_before_the_server_is_read_by_its_status() -> None:
    reader = wire().listen("你好", lambda call: reply(), "run-1")
    headers = {"grpc-status": "16", "grpc-message": "no key"}
    assert not reader.accept(200, headers)
    assert "api_key" in str(reader.refuse(Reply(200, headers, b"")))


def test_no_failure_quotes_the_text() -> None:
    error = failure(response(said="RuntimeError: cannot say 今天天气不错"), text="今天天气不错")
    assert "天气" not in str(error)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"datatype": "FP64"}, "not_audio"),
        ({"name": "speech"}, "not_audio"),
        ({"shape": [1, 9]}, "cut"),
        ({"shape": []}, "cut"),
    ],
)
def test_other_outputs_are_bad_audio(fields: dict[str, Any], reason: str) -> None:
    error = failure(response(FLOATS, **fields))
    assert isinstance(error, BadAudioError) and error.reason == reason


def test_other_messages_are_bad_audio() -> None:
    for message in (b"\xff\xff\xff", b"\x12\x03\x2a\x01\xff"):
        error = failure(message)
        assert isinstance(error, BadAudioError) and error.reason == "not_audio"
    messages, _ = kserve()
    typed = messages.ModelStreamInferResponse()
    typed.infer_response.outputs.add(name="waveform", datatype="FP32", shape=[1, 1])
    typed.infer_response.outputs[0].contents.fp32_contents.append(0.5)
    assert isinstance(failure(typed.SerializeToString()), BadAudioError)


def test_half_a_sample_is_odd() -> None:
    error = failure(response(FLOATS + b"xy", final=False))
    assert isinstance(error, BadAudioError) and error.reason == "odd"
