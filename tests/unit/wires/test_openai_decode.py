"""What the openai wire reads: whole replies of every service, ugly ones too."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from cosy_sync.audio import read_audio
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BillingError,
    CosyError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Payload, Reply
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.openai import OpenaiWire

TEXT = "你好，我的朋友，今天天气很好"
PCM = bytes(range(256)) * 4
WAV = wav_header(24_000, 1, len(PCM)) + PCM


def wire(url: str = "http://tts/v1", **settings: Any) -> OpenaiWire:
    return OpenaiWire(url, SpeechOptions.from_config(ClientConfig(**settings)))


def reply(body: Any, kind: str = "application/json", status: int = 200, **headers: str) -> Reply:
    raw = body if isinstance(body, (bytes, bytearray, memoryview)) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": kind, "x-request-id": "r9", **named}, raw)


def payload(answer: Reply, **settings: Any) -> Payload:
    [result] = wire(**settings).decode(answer, [TEXT])
    assert isinstance(result, Payload)
    return result


def error(answer: Reply, **settings: Any) -> CosyError:
    with pytest.raises(CosyError) as caught:
        wire(**settings).decode(answer, [TEXT])
    assert TEXT not in str(caught.value)
    assert "今天天气" not in str(caught.value)
    return caught.value


# --- sound


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_whole_wav_file_is_taken_as_it_is(kind: type) -> None:
    got = payload(reply(kind(WAV), "audio/wav"))
    assert got == Payload(WAV, "audio/wav")
    assert type(got.data) is bytes


def test_bare_samples_keep_what_their_type_says() -> None:
    kind = "audio/L16; rate=22050; channels=1"
    assert payload(reply(PCM, kind), format="pcm") == Payload(PCM, kind)


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "audio/*", "binary/octet-stream"])
def test_a_type_that_says_nothing_means_what_was_asked_for(kind: str) -> None:
    assert payload(reply(PCM, kind), format="pcm").media_type == "audio/pcm"
    assert payload(reply(WAV, kind)).media_type == "audio/wav"


def test_wav_called_pcm_is_read_as_wav_and_pcm_called_wav_is_refused() -> None:
    got = payload(reply(WAV, "audio/pcm"), format="pcm")
    assert read_audio(got, sample_rate=8_000).sample_rate == 24_000
    lie = payload(reply(PCM, "audio/wav"))
    with pytest.raises(BadAudioError, match="expected a WAV file"):
        read_audio(lie, sample_rate=24_000)


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0])
def test_a_wav_header_without_a_length_is_made_right(size: int) -> None:
    data = b"RIFF" + struct.pack("<I", size) + WAV[8:40] + struct.pack("<I", size) + PCM
    got = payload(reply(data, "audio/wav"))
    assert read_audio(got, sample_rate=8_000).wav() == WAV


def test_a_wav_file_that_is_cut_is_refused() -> None:
    got = payload(reply(WAV[:-2], "audio/wav"))
    with pytest.raises(BadAudioError) as caught:
        read_audio(got, sample_rate=24_000)
    assert caught.value.reason == "cut"


def test_other_formats_are_refused() -> None:
    got = payload(reply(b"ID3\x04" + PCM, "audio/mpeg"))
    with pytest.raises(BadAudioError, match="audio/mpeg"):
        read_audio(got, sample_rate=24_000)


def test_an_empty_reply_is_no_sound() -> None:
    got = payload(reply(b"", "audio/pcm"), format="pcm")
    with pytest.raises(BadAudioError) as caught:
        read_audio(got, sample_rate=24_000)
    assert caught.value.reason == "empty"


# --- errors inside a 200


@pytest.mark.parametrize("kind", ["application/json", "audio/wav", "audio/pcm", "", "text/plain"])
def test_vox_box_says_its_errors_in_a_200(kind: str) -> None:
    body = {"status_code": 500, "detail": f"failed: {TEXT}", "headers": None}
    told = error(reply(body, kind))
    assert isinstance(told, UnavailableError)
    assert (told.status, told.request_id) == (500, "r9")
    assert "failed" in str(told)
    loading = error(reply({"status_code": 503, "detail": "loading", "headers": None}, kind))
    assert (type(loading), loading.status) == (UnavailableError, 503)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, BadRequestError, 400),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, ThrottledError, 429),
        ({"status_code": 400, "detail": "m"}, BadRequestError, 400),
        ({"error": "m"}, UnavailableError, 500),
        ({"code": 50603, "message": "m", "data": None}, UnavailableError, 500),
    ],
)
def test_an_error_object_in_a_200_is_that_error(body: Any, kind: type, status: int) -> None:
    told = error(reply(body))
    assert (type(told), told.status) == (kind, status)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title>", "text/html", "a web page"),
        (b"\n<html>", "audio/wav", "a web page"),
        (b'{"status": "ok"}', "application/json", '"status": "ok"'),
        (b'["a"]', "audio/wav", '["a"]'),
        (b"data: {}\n\n", "text/event-stream", "data: {}"),
        (b"busy", "text/plain", "busy"),
        (b"", "application/json", "nothing, called application/json"),
        (b'{"input": "\xe4\xbd\xa0\xe5\xa5\xbd', "audio/wav", '{"input": "'),
    ],
)
def test_text_in_place_of_sound_is_refused(body: bytes, kind: str, shown: str) -> None:
    told = error(reply(body, kind))
    assert isinstance(told, BadAudioError)
    assert (told.reason, shown in str(told)) == ("not_audio", True)


def test_samples_that_begin_like_json_are_sound() -> None:
    samples = b'{"' + bytes([0, 1]) * 50
    assert payload(reply(samples, "audio/pcm"), format="pcm").data == samples


# --- refusals of every service (PROTOCOLS sections 8 to 10, 14)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (400, {"code": 20012, "message": "Model does not exist", "data": None}, BadRequestError,
         "20012", "Model does not exist"),
        (400, {"error": {"message": "no voice", "type": "BadRequestError", "param": None,
                         "code": 400}}, BadRequestError, "400", "no voice"),
        (400, {"error": "text is empty"}, BadRequestError, None, "text is empty"),
        (400, {"code": 6, "msg": "no role"}, BadRequestError, "6", "no role"),
        (422, {"detail": [{"loc": ["body", "speed"], "msg": "too fast", "type": "le"}]},
         BadRequestError, "le", "body.speed: too fast"),
        (401, {"error": "Unauthorized"}, AuthError, None, "Unauthorized"),
        (401, "Invalid token", AuthError, None, "Invalid token"),
        (401, {"detail": "Invalid key"}, AuthError, None, "Invalid key"),
        (403, {"code": 30001, "message": "balance"}, BillingError, "30001", "balance"),
        (404, {"error": {"message": "no model", "type": "NotFoundError", "code": 404}},
         BadRequestError, "404", "no model"),
        (429, {"detail": "Rate limit reached for the model. Request limit 1"}, ThrottledError,
         None, "Rate limit reached"),
        (429, {"message": "Request was rejected due to rate limiting: RPM"}, ThrottledError,
         None, "RPM"),
        (500, {"detail": "assertion"}, UnavailableError, None, "assertion"),
        (500, {"error": {"message": "EngineDeadError", "type": "InternalServerError",
                         "code": 500}}, UnavailableError, "500", "EngineDeadError"),
        (500, {"code": 2, "msg": "cuda"}, UnavailableError, "2", "cuda"),
        (503, {"detail": "loading"}, UnavailableError, None, "loading"),
        (504, {}, UnavailableError, None, "504"),
    ],
)  # fmt: skip
def test_refusals_are_classified(
    status: int, body: Any, kind: type[ServerError], code: str | None, message: str
) -> None:
    for url in ("http://tts/v1", "http://tts/v1/audio/speech/batch"):
        with pytest.raises(ServerError) as caught:
            wire(url).decode(reply(body, status=status), [TEXT])
        told = caught.value
        assert (type(told), told.status, told.code) == (kind, status, code)
        assert message in str(told)


def test_a_loading_model_says_when_to_come_back() -> None:
    told = error(reply({"detail": "loading"}, status=503, retry_after="30"))
    assert getattr(told, "retry_after", None) == 30


def test_a_wrong_path_is_named() -> None:
    told = error(reply({"detail": "Not Found"}, status=404))
    assert "(asked: http://tts/v1/audio/speech)" in str(told)
    assert told.hopeless


# --- batches


def test_a_literal_batch_reply() -> None:
    usage = {"input_tokens": 3, "output_tokens": 40, "total_tokens": 43}
    audio = base64.b64encode(PCM).decode()
    body = {
        "id": "speech-batch-1",
        "results": [
            {
                "index": 0,
                "status": "success",
                "audio_data": audio,
                "media_type": "audio/pcm",
                "usage": usage,
            },
            {"index": 1, "status": "error", "error": f"cannot say {TEXT}"},
        ],
        "total": 2,
        "succeeded": 1,
        "failed": 1,
    }
    batch = wire("http://tts/v1/audio/speech/batch", format="pcm")
    first, second = batch.decode(reply(body), ["a", TEXT])
    assert first == Payload(PCM, "audio/pcm")
    assert isinstance(second, TextError)
    assert "cannot say" in str(second)
    assert TEXT not in str(second)


def test_a_batch_whose_reply_is_an_error_fails_as_that() -> None:
    with pytest.raises(UnavailableError):
        wire("http://tts/v1/audio/speech/batch").decode(reply({"status_code": 500}), ["a", "b"])


@pytest.mark.parametrize("service", ["sglang", "other", "vllm"])
def test_speech_that_was_cut_at_the_token_limit_is_no_success(service: str) -> None:
    cut = Reply(200, {"content-type": "audio/wav", "x-finish-reason": "length"}, WAV)
    with pytest.raises(BadAudioError, match="max_new_tokens") as caught:
        wire(extra={"service": service}).decode(cut, ["a"])
    assert caught.value.reason == "cut"
    whole = Reply(200, {"content-type": "audio/wav", "x-finish-reason": "stop"}, WAV)
    assert wire(extra={"service": service}).decode(whole, ["a"])


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("audio/pcm", "22050", "audio/pcm;rate=22050"),
        ("", "24000", "audio/pcm;rate=24000"),
        ("audio/pcm;rate=16000", "24000", "audio/pcm;rate=16000"),
        ("audio/pcm", "fast", "audio/pcm"),
    ],
)
def test_bare_samples_have_the_rate_that_a_header_tells(kind: str, given: str, told: str) -> None:
    answer = Reply(200, {"content-type": kind, "x-sample-rate": given}, PCM)
    assert wire(format="pcm").decode(answer, ["a"]) == [Payload(PCM, told)]
