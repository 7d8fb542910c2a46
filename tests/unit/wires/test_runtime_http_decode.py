"""What the wire runtime_http makes of replies, whole ones and such as come in pieces."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from cosy_sync.audio import read_audio
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    BadAudioError,
    BadRequestError,
    CosyError,
    CutError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Payload, Reply, Request, WireRequest
from cosy_sync.models import wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.runtime_http import RuntimeHttpWire

TEXT = "今天天气真好"
# As uvicorn writes it: no type, no length, no rate.
HEAD = {
    "date": "Mon, 02 Nov 2026 08:00:00 GMT",
    "server": "uvicorn",
    "transfer-encoding": "chunked",
}
PCM = struct.pack("<6h", 0, 1, -2, 300, -32_768, 32_767)


def wire(url: str = "http://gpu1:50000", **settings: Any) -> RuntimeHttpWire:
    settings = {"voice": "中文女", **settings}
    return RuntimeHttpWire(url, SpeechOptions.from_config(ClientConfig(**settings)))


def decoded(body: bytes, status: int = 200, kind: str = "", **settings: Any) -> Payload | CosyError:
    headers = {**HEAD, "content-type": kind} if kind else HEAD
    (result,) = wire(**settings).decode(Reply(status, headers, body), [TEXT])
    return result


def failure(body: bytes, status: int = 200, kind: str = "") -> CosyError:
    with pytest.raises(CosyError) as caught:
        decoded(body, status, kind)
    return caught.value


class TestSound:
    @pytest.mark.parametrize("rate", [22_050, 24_000])
    def test_bare_samples_have_the_configured_rate(self, rate: int) -> None:
        payload = decoded(PCM, sample_rate=rate)
        assert isinstance(payload, Payload)
        assert (payload.data, payload.media_type) == (PCM, f"audio/pcm; rate={rate}")
        assert read_audio(payload, sample_rate=8_000).sample_rate == rate

    def test_a_type_that_the_service_gives_is_believed(self) -> None:
        payload = decoded(PCM, kind="audio/L16; rate=16000")
        assert isinstance(payload, Payload)
        assert payload.media_type == "audio/L16; rate=16000"

    def test_half_a_sample_is_kept_for_the_judgement_of_all_audio(self) -> None:
        payload = decoded(PCM[:-1])
        assert isinstance(payload, Payload)
        with pytest.raises(BadAudioError) as caught:
            read_audio(payload, sample_rate=24_000)
        assert caught.value.reason == "odd"

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_any_buffer_becomes_bytes(self, kind: Any) -> None:
        payload = decoded(kind(PCM))
        assert isinstance(payload, Payload)
        assert type(payload.data) is bytes

    def test_samples_that_begin_like_json_are_samples(self) -> None:
        payload = decoded(b"{\x00\x01\x00")
        assert isinstance(payload, Payload)

    def test_a_wav_file_of_floats_is_read(self) -> None:
        # What the server of 2024 sends: torchaudio's float32.
        data = struct.pack("<2f", 0.5, -0.5)
        head = struct.pack(
            *("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 3, 1),
            *(22_050, 88_200, 4, 32, b"data", len(data)),
        )
        payload = decoded(head + data, kind="audio/wav", url="http://old/api/inference")
        assert isinstance(payload, Payload)
        audio = read_audio(payload, sample_rate=24_000)
        assert (audio.sample_rate, audio.pcm()) == (22_050, struct.pack("<2h", 16_384, -16_384))

    def test_a_wav_file_of_16_bits_is_passed_on(self) -> None:
        wav = wav_header(22_050, 1, len(PCM)) + PCM
        payload = decoded(wav, kind="audio/wav")
        assert isinstance(payload, Payload)
        assert payload.data == wav

    def test_a_type_that_lies_is_found_out(self) -> None:
        payload = decoded(PCM, kind="audio/wav")
        assert isinstance(payload, Payload)
        with pytest.raises(BadAudioError):
            read_audio(payload, sample_rate=24_000)


class TestTheEmptyReply:
    def test_it_says_that_nothing_can_be_spoken_and_is_not_repeated(self) -> None:
        error = decoded(b"")
        assert isinstance(error, TextError)
        assert not error.retryable
        assert (error.status, error.code) == (200, "empty")
        assert "punctuation" in str(error) and "model='CosyVoice3'" in str(error)

    def test_who_named_the_model_is_not_told_to(self) -> None:
        assert "CosyVoice3" not in str(decoded(b"", model="CosyVoice3"))


class TestRefusals:
    def test_missing_fields(self) -> None:
        body = (
            b'{"detail":[{"type":"missing","loc":["body","tts_text"],"msg":"Field required",'
            b'"input":null},{"type":"missing","loc":["body","spk_id"],"msg":"Field required",'
            b'"input":null}]}'
        )
        error = failure(body, 422, "application/json")
        assert isinstance(error, BadRequestError)
        assert "body.tts_text: Field required" in str(error)
        assert "other fields than the official /inference_sft" in str(error)

    def test_a_failure_before_it_speaks(self) -> None:
        error = failure(b"Internal Server Error", 500, "text/plain; charset=utf-8")
        assert isinstance(error, UnavailableError)
        assert error.retryable
        assert "Internal Server Error; its model may not have /inference_sft" in str(error)

    def test_another_service(self) -> None:
        error = failure(b'{"detail":"Not Found"}', 404, "application/json")
        assert isinstance(error, BadRequestError) and error.hopeless
        assert "there is no /inference_sft" in str(error)
        assert "http://host:50000/api/inference" in str(error)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(429, ThrottledError), (502, UnavailableError), (503, UnavailableError)],
    )
    def test_a_gateway_before_it(self, status: int, kind: type[CosyError]) -> None:
        assert type(failure(b"<html><title>busy</title>", status, "text/html")) is kind

    def test_the_text_is_never_shown(self) -> None:
        body = f'{{"detail":"cannot say {TEXT}"}}'.encode()
        assert "天气" not in str(failure(body, 400, "application/json"))

    def test_even_a_success_without_sound_is_none(self) -> None:
        assert isinstance(failure(b"", 204), ServerError)


class TestFalseSuccesses:
    @pytest.mark.parametrize("kind", ["", "application/json"])
    def test_an_error_in_a_200(self, kind: str) -> None:
        error = failure(b'{"error":"CUDA out of memory","code":500}', 200, kind)
        assert isinstance(error, UnavailableError)
        assert "out of memory" in str(error)

    @pytest.mark.parametrize(
        ("body", "kind"),
        [(b'{"ok":true}', ""), (b'{"ok":true}', "application/json"), (b"[", "application/json")],
    )
    def test_other_json(self, body: bytes, kind: str) -> None:
        error = failure(body, 200, kind)
        assert isinstance(error, BadAudioError)
        assert error.reason == "not_audio" and "got JSON" in str(error)

    @pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain"])
    def test_a_page(self, kind: str) -> None:
        error = failure(b"<!doctype html>Sign in", 200, kind)
        assert isinstance(error, BadAudioError)
        assert "got text/" in str(error)


class TestTheExchange:
    def test_one_request_and_one_reply(self) -> None:
        sent: list[WireRequest] = []

        def send(request: WireRequest) -> Reply:
            sent.append(request)
            return Reply(200, HEAD, PCM)

        assert wire().exchange([TEXT], send, "r1") == [Payload(PCM, "audio/pcm; rate=24000")]
        (request,) = sent
        assert isinstance(request, Request)

    def test_a_cut_says_what_it_may_mean_and_keeps_what_came(self) -> None:
        cause = OSError("reset")

        def send(_: WireRequest) -> Reply:
            raise CutError("the connection ended", partial=PCM) from cause

        with pytest.raises(
            CutError, match=r"the connection ended; .*unknown speaker.* log"
        ) as caught:
            wire().exchange([TEXT], send, "r1")
        assert (caught.value.partial, caught.value.__cause__) == (PCM, cause)
        assert caught.value.retryable

    def test_one_text_is_never_to_blame_for_others(self) -> None:
        assert not wire().splits(BadRequestError("no", status=400))
