"""Whose fault the bare sentence of a failed item tells, and what becomes of that text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    BadAudioError,
    BillingError,
    CosyError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply
from cosy_sync.wires import SpeechOptions, create_wire

# As vLLM-Omni 0.30 and SGLang-Omni 0.1.9 word them.
CHECKED = [
    "Unknown voice 'x'. CosyVoice3 has no built-in speakers. Upload a voice first via POST "
    "/v1/audio/voices, or use ref_audio + ref_text.",
    "Invalid voice 'x'. Supported: a, b",
    "Unknown voice 'cuda-engine-is-dead'. CosyVoice3 has no built-in speakers.",
    "Audio file for uploaded voice 'x' is missing",
    "Uploaded voice 'x' uses a speaker embedding (Qwen3-only). Re-upload with an audio file.",
    "Input text cannot be empty",
    "text cannot be empty",
    "CosyVoice3 requires 'ref_audio' (reference audio for voice cloning)",
    "CosyVoice3 requires 'ref_text' (transcript of the reference audio)",
    "ref_audio must be a URL (http/https), base64 data URL (data:...), or file URI (file://...)",
    "max_new_tokens must be at least 1",
    "max_new_tokens cannot exceed 4096",
    "sample_rate is not supported by the current TTS model",
    "Reference audio too short (0.5s). Minimum is 1.0s",
    "Reference audio too long (31.0s). Maximum is 30.0s",
    "input must be a non-empty string",
    "input must be at most 4096 characters",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "Requested token count exceeds the model's maximum context length of 8192 tokens",
]
ENGINE = [
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.68 GiB",
    "CUDA error: device-side assert triggered",
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "EngineDeadError: the engine is dead",
    "CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
    "No output generated from the model.",
    "TTS model did not produce audio output.",
    "Request timed out",
    "Connection reset by peer",
    "'NoneType' object has no attribute 'shape'",
    "the queue is full",
    "Waited too long for the engine",
    "The size of tensor a (5) must match the size of tensor b (6)",
    "",
]
VLLM = "http://tts/v1/audio/speech/batch"


def item(error: object, *, url: str = VLLM, wire: str = "openai", text: str = "你好") -> CosyError:
    options = SpeechOptions.from_config(ClientConfig())
    body = {"results": [{"index": 0, "status": "error", "error": error}]}
    reply = Reply(200, {"content-type": "application/json"}, json.dumps(body).encode())
    made: Any = create_wire(wire, url, options)
    [result] = made.decode(reply, [text])
    assert isinstance(result, CosyError)
    return result


@pytest.mark.parametrize("sentence", CHECKED)
def test_what_the_server_has_checked_is_refused_for_good(sentence: str) -> None:
    error = item(sentence)
    assert type(error) is TextError and not error.retryable
    about_voice = "voice" in sentence.lower() or "ref" in sentence.lower()
    assert ("check the voice" in str(error)) == about_voice


@pytest.mark.parametrize("sentence", ENGINE)
def test_trouble_of_the_engine_is_repeated_and_so_is_what_nobody_knows(sentence: str) -> None:
    error = item(sentence)
    assert type(error) is UnavailableError
    assert error.retryable and error.trips and error.status == 503


@pytest.mark.parametrize("sentence", ENGINE[:5])
def test_over_the_batch_wire_trouble_of_the_engine_is_repeated_too(sentence: str) -> None:
    assert type(item(sentence, url="http://tts/batch", wire="batch")) is UnavailableError


def test_over_the_batch_wire_an_unknown_sentence_blames_the_text() -> None:
    assert type(item("no", url="http://tts/batch", wire="batch")) is TextError


def test_what_is_quoted_of_the_text_itself_is_not_looked_at() -> None:
    text = "The GPU ran out of memory yesterday"
    assert type(item(f"Input text '{text}' is not supported", text=text)) is TextError


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"message": "x", "type": "BadRequestError", "param": "input", "code": 400}, TextError),
        ({"message": "queue is full", "type": "server_error", "code": None}, UnavailableError),
        ({"message": "boom", "type": "server_error"}, UnavailableError),
        ({"message": "slow down", "code": 429}, ThrottledError),
        ({"message": "no credit", "code": "insufficient_quota"}, BillingError),
        ({"message": "input must be a non-empty string"}, TextError),
    ],
)
def test_an_error_that_is_an_object_is_read_by_its_code(told: object, kind: type) -> None:
    assert type(item(told)) is kind


def test_speech_that_the_service_cut_at_its_token_limit_is_no_success() -> None:
    sound = {"index": 0, "status": "success", "audio_data": "AAAA", "media_type": "audio/pcm"}
    for reason, passes in (("stop", True), (None, True), ("length", False)):
        body = {"results": [{**sound, "finish_reason": reason}]}
        reply = Reply(200, {"content-type": "application/json"}, json.dumps(body).encode())
        made: Any = create_wire("openai", VLLM, SpeechOptions.from_config(ClientConfig()))
        [result] = made.decode(reply, ["你好"])
        assert isinstance(result, BadAudioError) != passes
        if not passes:
            assert result.reason == "cut" and "max_new_tokens" in str(result)
