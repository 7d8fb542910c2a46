"""What the openai wire sends, to each service in its own words."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from cosy_sync.config import BatchConfig, ClientConfig
from cosy_sync.errors import ConfigError, InvalidTextError, ServerError
from cosy_sync.messages import Request
from cosy_sync.models import Recording, Voice, wav_header
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.openai import OpenaiWire

WAV = wav_header(16_000, 1, 4) + b"\1\2\3\4"
CLIP = Recording(WAV, 16_000, 1.0, hashlib.sha256(WAV).hexdigest())
CLONE = Voice(reference=CLIP, transcript="我在说话")
URI = "data:audio/wav;base64," + base64.b64encode(WAV).decode()
COSY2 = "FunAudioLLM/CosyVoice2-0.5B"


def wire(url: str = "http://tts/v1", **settings: Any) -> OpenaiWire:
    made = create_wire("openai", url, SpeechOptions.from_config(ClientConfig(**settings)))
    assert isinstance(made, OpenaiWire)
    return made


def body(request: Request) -> Any:
    assert dict(request.headers)["Content-Type"] == "application/json"
    return json.loads(request.body)


def sent(url: str = "http://tts/v1", **settings: Any) -> Any:
    return body(wire(url, **settings).encode(["你好"], "r1"))


def streamed(url: str = "http://tts/v1", **settings: Any) -> Any:
    request = wire(url, **settings).listen("你好", lambda _: pytest.fail("sent"), "r1").request
    assert isinstance(request, Request)
    return body(request)


# --- addresses


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://tts/v1", "http://tts/v1/audio/speech"),
        ("http://tts/v1/", "http://tts/v1/audio/speech"),
        ("http://tts:9997", "http://tts:9997/v1/audio/speech"),
        ("http://tts/", "http://tts/v1/audio/speech"),
        ("http://tts/a/v1?key=1", "http://tts/a/v1/audio/speech?key=1"),
        ("http://tts/x/audio/speech", "http://tts/x/audio/speech"),
        ("http://tts/v1/audio/speech/", "http://tts/v1/audio/speech"),
        ("http://tts/v1/audio/speech/batch", "http://tts/v1/audio/speech/batch"),
        ("http://tts/v1/audio/speech/batch/", "http://tts/v1/audio/speech/batch"),
    ],
)
def test_the_url_is_a_base_or_the_whole_path(given: str, asked: str) -> None:
    assert wire(given).encode(["a"], "r1").url == asked


def test_a_stream_beside_the_batch_route_goes_to_the_route_for_one_text() -> None:
    reader = wire("http://tts/v1/audio/speech/batch").listen("a", lambda _: pytest.fail(), "r1")
    assert reader.request.url == "http://tts/v1/audio/speech"
    assert json.loads(reader.request.body)["input"] == "a"


@pytest.mark.parametrize(
    ("url", "extra", "service"),
    [
        ("http://tts/v1", {}, "other"),
        ("https://api.siliconflow.cn/v1", {}, "siliconflow"),
        ("https://api.siliconflow.com/v1", {}, "siliconflow"),
        ("http://tts/v1/audio/speech/batch", {}, "vllm"),
        ("http://tts/v1", {"service": "xinference"}, "xinference"),
        ("http://tts/v1", {"service": "sglang"}, "sglang"),
        ("http://tts/v1", {"service": "sglang-omni"}, "sglang"),
        ("http://tts/v1", {"service": "vllm_omni"}, "vllm"),
        ("https://api.siliconflow.cn/v1", {"service": "other"}, "other"),
    ],
)
def test_the_service_is_guessed_can_be_set_and_is_shown(
    url: str, extra: dict[str, str], service: str
) -> None:
    made = wire(url, extra=extra, model=COSY2, voice="a")
    assert made.service == service
    assert repr(made).endswith(f" as {service}>")
    assert "service" not in body(made.encode(["a"], "r1"))


def test_an_unknown_service_and_a_foreign_batch_route_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"extra: service must be one of other, .*'vlm'"):
        wire(extra={"service": "vlm"})
    with pytest.raises(
        ConfigError, match="only vLLM-Omni and SGLang-Omni have /audio/speech/batch"
    ):
        wire("http://tts/v1/audio/speech/batch", extra={"service": "other"})


# --- whole requests


def test_a_literal_request() -> None:
    request = wire(api_key="k", model="m", voice="Chinese Man", speed=1.5).encode(["你好"], "r1")
    assert request.method == "POST"
    assert (
        request.body
        == (
            '{"input":"你好","model":"m","speed":1.5,"voice":"Chinese Man","response_format":"wav"}'
        ).encode()
    )
    assert request.headers == (
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Authorization", "Bearer k"),
        ("Content-Type", "application/json"),
        ("X-Request-Id", "r1"),
    )


def test_what_nobody_asked_for_is_not_sent() -> None:
    assert sent() == {"input": "你好", "response_format": "wav"}
    assert sent(format="pcm")["response_format"] == "pcm"


def test_extra_fields_pass_through_but_cannot_make_the_sound_uncheckable() -> None:
    extra = {"seed": 1, "extra_params": {"top_k": 2}, "response_format": "mp3", "stream": True}
    assert sent(extra=extra) == {
        "input": "你好",
        "seed": 1,
        "extra_params": {"top_k": 2},
        "response_format": "wav",
    }


def test_the_users_headers_go_along_and_those_of_the_wire_stay() -> None:
    headers = {"authorization": "Token t", "X-Own": "1", "content-type": "text/plain"}
    names = [
        (n.lower(), v) for n, v in wire(api_key="k", headers=headers).encode(["a"], "r").headers
    ]
    assert ("authorization", "Token t") in names
    assert ("x-own", "1") in names
    assert [v for n, v in names if n == "content-type"] == ["application/json"]
    assert "Bearer k" not in dict(names).values()


def test_half_a_character_is_refused_before_sending() -> None:
    with pytest.raises(InvalidTextError):
        wire().encode(["\ud800"], "r1")
    with pytest.raises(InvalidTextError):
        wire(voice=Voice(reference=CLIP), **XIN).encode(["\ud800"], "r")


# --- SiliconFlow

SF = "https://api.siliconflow.cn/v1"


def test_siliconflow_is_asked_for_a_whole_reply_at_the_clients_rate() -> None:
    voice = f"{COSY2}:alex"
    assert sent(SF, model=COSY2, voice=voice, sample_rate=32_000) == {
        "input": "你好",
        "model": COSY2,
        "voice": voice,
        "sample_rate": 32_000,
        "response_format": "wav",
        "stream": False,
    }
    assert streamed(SF, model=COSY2, voice=voice)["stream"] is True
    assert "stream_format" not in streamed(SF, model=COSY2, voice=voice)


def test_siliconflow_takes_an_instruction_inside_the_text() -> None:
    voice = Voice("a", instruction="用四川话说")
    fields = sent(SF, model=COSY2, voice=voice)
    assert fields["input"] == "用四川话说<|endofprompt|>你好"
    assert "instructions" not in fields
    assert streamed(SF, model=COSY2, voice=voice)["input"] == "用四川话说<|endofprompt|>你好"


def test_siliconflow_takes_a_recording_inline() -> None:
    fields = sent(SF, model=COSY2, voice=CLONE)
    assert fields["references"] == [{"audio": URI, "text": "我在说话"}]
    assert fields["voice"] == ""


@pytest.mark.parametrize("voice", [None, Voice(instruction="轻声")])
def test_siliconflow_needs_a_voice(voice: Voice | None) -> None:
    with pytest.raises(ConfigError, match=r"voice: SiliconFlow needs one.*:alex"):
        wire(SF, model=COSY2, voice=voice)
    assert sent(SF, model=COSY2, voice=voice, extra={"voice": "speech:a:b"})["voice"]
    assert sent(SF, model=COSY2, voice=voice, extra={"references": [{}]})["references"]


def test_siliconflow_needs_a_model_and_speaks_at_few_rates() -> None:
    with pytest.raises(ConfigError, match=r"model: SiliconFlow needs one, such as"):
        wire(SF, voice="a")
    with pytest.raises(ConfigError, match=r"sample_rate: .*24000.*not 22050"):
        wire(SF, model=COSY2, voice="a", sample_rate=22_050)


# --- vLLM-Omni

OMNI: dict[str, Any] = {"extra": {"service": "vllm"}}


def test_vllm_takes_instructions_as_a_field_and_no_sample_rate() -> None:
    fields = sent(voice=Voice("alice", instruction="轻声"), **OMNI)
    assert fields == {
        "input": "你好",
        "voice": "alice",
        "instructions": "轻声",
        "response_format": "wav",
    }


def test_vllm_takes_a_recording_inline_until_it_is_uploaded() -> None:
    made = wire(voice=CLONE, **OMNI)
    fields = body(made.encode(["a"], "r1"))
    assert (fields["ref_audio"], fields["ref_text"]) == (URI, "我在说话")
    named = body(made.encode(["a"], "r1", "cosy-1"))
    assert named["voice"] == "cosy-1"
    assert "ref_audio" not in named


def test_vllm_streams_bare_bytes_unless_events_are_asked_for() -> None:
    assert streamed(**OMNI) == {
        "input": "你好",
        "response_format": "wav",
        "stream": True,
        "stream_format": "audio",
    }
    extra = {"service": "vllm", "stream_format": "sse"}
    assert streamed(extra=extra)["stream_format"] == "sse"
    assert "stream_format" not in sent(extra=extra)


def test_vllm_streams_at_normal_speed_only() -> None:
    with pytest.raises(ConfigError, match="speed: vLLM-Omni streams at speed 1 only"):
        streamed(speed=1.1, **OMNI)
    assert streamed(speed=1.1)["speed"] == 1.1


def test_a_literal_batch() -> None:
    made = wire("http://tts/v1/audio/speech/batch", voice="alice", model="m", format="pcm")
    assert made.encode(["First.", "Second."], "r1").body == (
        b'{"items":[{"input":"First."},{"input":"Second."}],'
        b'"model":"m","voice":"alice","response_format":"pcm"}'
    )


def test_a_batch_carries_a_recording_once() -> None:
    made = wire("http://tts/v1/audio/speech/batch", voice=CLONE)
    fields = body(made.encode(["a", "b"], "r1"))
    assert fields["items"] == [{"input": "a"}, {"input": "b"}]
    assert fields["ref_audio"] == URI


def test_a_batch_has_32_texts_unless_the_user_says_that_the_operator_allows_others() -> None:
    url = "http://tts/v1/audio/speech/batch"

    def most(**settings: Any) -> int:
        return wire(url, **settings).capabilities.max_texts_per_call

    assert most() == 32
    assert most(batch=BatchConfig()) == 32
    assert most(batch=BatchConfig(max_text_chars=9)) == 32
    assert most(batch=BatchConfig(max_texts=64)) == 64
    assert most(batch=BatchConfig(max_texts=8)) == 8
    assert wire(batch=BatchConfig(max_texts=64)).capabilities.max_texts_per_call == 1


def test_only_a_batch_may_be_halved_and_only_where_a_text_may_be_to_blame() -> None:
    batch = wire("http://tts/v1/audio/speech/batch")
    assert [
        batch.splits(ServerError("x", status=status)) for status in (400, 404, 413, 422, 500)
    ] == [*(True, False, True, True, False)]
    assert not wire().splits(ServerError("x", status=400))
    never = wire("http://tts/v1/audio/speech/batch", batch=BatchConfig(halve_refused=False))
    assert not never.splits(ServerError("x", status=400))


# --- Xinference

XIN: dict[str, Any] = {"model": "cosy", "extra": {"service": "xinference"}}


def form(request: Request) -> dict[str, bytes]:
    boundary = dict(request.headers)["Content-Type"].partition("boundary=")[2].encode()
    first, *parts, last = request.body.split(b"--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found = {}
    for part in parts:
        head, _, data = part.removesuffix(b"\r\n").partition(b"\r\n\r\n")
        found[head.partition(b'name="')[2].partition(b'"')[0].decode()] = data
    return found


def test_xinference_always_gets_a_voice() -> None:
    assert sent(**XIN) == {
        "input": "你好",
        "model": "cosy",
        "voice": "",
        "response_format": "wav",
    }
    assert sent(voice="中文女", **XIN)["voice"] == "中文女"


def test_xinference_gets_a_recording_as_a_file() -> None:
    request = wire(voice=CLONE, speed=2.0, **XIN).encode(["你好"], "r1")
    fields = form(request)
    assert json.loads(fields.pop("kwargs")) == {"prompt_text": "我在说话"}
    assert fields == {
        "input": "你好".encode(),
        "model": b"cosy",
        "voice": b"",
        "speed": b"2.0",
        "response_format": b"wav",
        "prompt_speech": WAV,
    }
    request = wire(voice=CLONE, **XIN).listen("你好", lambda _: pytest.fail(), "r").request
    assert form(request)["stream"] == b"true"


@pytest.mark.parametrize("kwargs", [{"seed": 0}, '{"seed": 0}'])
def test_xinference_gets_an_instruction_beside_the_users_own_kwargs(kwargs: Any) -> None:
    voice = Voice(reference=CLIP, instruction="轻声")
    made = wire(voice=voice, model="m", extra={"service": "xinference", "kwargs": kwargs})
    said = json.loads(form(made.encode(["a"], "r1"))["kwargs"])
    assert said == {"seed": 0, "instruct_text": "轻声"}


@pytest.mark.parametrize("kwargs", ["{", 7, "7"])
def test_kwargs_that_are_none_are_refused(kwargs: Any) -> None:
    with pytest.raises(ConfigError, match="extra: kwargs must be a mapping"):
        wire(extra={"service": "xinference", "kwargs": kwargs})


def test_xinference_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="model: Xinference needs the uid"):
        wire(voice="中文女", extra={"service": "xinference"})
    assert sent(extra={"service": "xinference", "model": "m"})["model"] == "m"


def test_xinference_gets_an_instruction_with_a_speaker_or_without_and_the_speed() -> None:
    fields = sent(voice=Voice("中文女", instruction="轻声"), speed=1.5, **XIN)
    assert (fields["voice"], fields["speed"]) == ("中文女", 1.5)
    assert json.loads(fields["kwargs"]) == {"instruct_text": "轻声"}
    fields = sent(voice=Voice(instruction="轻声"), **XIN)
    assert json.loads(fields["kwargs"]) == {"instruct_text": "轻声"}


def test_xinference_streams_at_normal_speed_only() -> None:
    with pytest.raises(ConfigError, match="speed: Xinference streams at speed 1 only"):
        streamed(speed=1.1, **XIN)


# --- SGLang-Omni

SGL: dict[str, Any] = {"extra": {"service": "sglang"}}


def test_sglang_is_asked_like_vllm_but_for_its_streams() -> None:
    voice = Voice("alice", instruction="轻声")
    assert sent(voice=voice, speed=1.5, **SGL) == {
        "input": "你好",
        "voice": "alice",
        "instructions": "轻声",
        "speed": 1.5,
        "response_format": "wav",
    }
    fields = streamed(speed=1.5, **SGL)
    assert fields["response_format"] == "pcm"  # it streams nothing else
    assert (fields["stream"], fields["stream_format"], fields["speed"]) == (True, "sse", 1.5)
    bare = streamed(extra={"service": "sglang", "stream_format": "audio"})
    assert (bare["response_format"], bare["stream_format"]) == ("pcm", "audio")


def test_sglang_takes_a_recording_with_or_without_its_words() -> None:
    fields = sent(voice=CLONE, **SGL)
    assert (fields["ref_audio"], fields["ref_text"]) == (URI, "我在说话")
    assert "ref_text" not in sent(voice=Voice(reference=CLIP), **SGL)


def test_sglang_has_a_batch_route() -> None:
    made = wire("http://tts/v1/audio/speech/batch", extra={"service": "sglang"})
    assert made.capabilities.max_texts_per_call == 32
    assert body(made.encode(["a", "b"], "r1"))["items"] == [{"input": "a"}, {"input": "b"}]


# --- others


def test_others_get_openais_own_fields() -> None:
    assert sent(voice=Voice("a", instruction="轻声"))["instructions"] == "轻声"
    fields = streamed()
    assert (fields["stream"], fields["stream_format"]) == (True, "audio")


# --- what is refused, and the way out


@pytest.mark.parametrize(
    ("service", "voice", "why"),
    [
        ("other", CLONE, r"say which one this is: extra=\{'service': 'vllm'\}"),
        ("vllm", Voice("a", reference=CLIP, transcript="b"), "not both; leave one out"),
        ("siliconflow", Voice("a", reference=CLIP, transcript="b"), "not both"),
        ("vllm", Voice(reference=CLIP), "add transcript="),
        ("siliconflow", Voice(reference=CLIP), "add transcript="),
        ("vllm", Voice("a", instruction="x" * 501), "at most 500 characters"),
        ("xinference", Voice("a", instruction="x"), "only with a reference recording"),
        (
            "xinference",
            Voice(reference=CLIP, transcript="a", instruction="x"),
            "ignores the instruction beside a transcript",
        ),
        (
            "sglang",
            Voice(reference=CLIP, transcript="a", instruction="x"),
            "refuses an instruction beside a transcript",
        ),
        ("sglang", Voice("a", reference=CLIP), "not both"),
    ],
)
def test_a_voice_that_would_be_ignored_is_refused(service: str, voice: Voice, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^voice: .*{why}"):
        wire(voice=voice, model=COSY2, extra={"service": service})


def test_an_instruction_may_have_500_characters() -> None:
    words = "x" * 500
    assert sent(voice=Voice("a", instruction=words), **OMNI)["instructions"] == words
    assert sent(voice=Voice("a", instruction=words + "x"))["instructions"] == words + "x"


def test_each_service_has_its_limits() -> None:
    def limits(url: str = "http://tts/v1", **extra: str) -> tuple[int, float, float]:
        can = wire(url, model=COSY2, voice="a", extra=extra).capabilities
        return can.max_connections, can.rate, can.idle_expiry

    assert limits() == (16, 100.0, 4.0)
    assert limits(service="vllm") == (16, 100.0, 4.0)
    assert limits("http://tts/v1/audio/speech/batch") == (4, 100.0, 4.0)
    assert limits(service="sglang") == (16, 100.0, 4.0)
    assert limits("http://tts/v1/audio/speech/batch", service="sglang") == (4, 100.0, 4.0)
    assert limits(service="xinference") == (4, 100.0, 4.0)
    assert limits(service="siliconflow") == (20, 20.0, 4.0)
