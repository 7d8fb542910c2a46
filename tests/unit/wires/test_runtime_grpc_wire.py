"""The gRPC runtime's bytes: requests out, messages and statuses in, none of it over a socket."""

from __future__ import annotations

import hashlib
import struct

import pytest
from generated import cosyvoice

from cosy_sync import Voice
from cosy_sync.audio import read_audio
from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BillingError,
    ConfigError,
    CosyError,
    CutError,
    InvalidTextError,
    ServerError,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.messages import Reply, RpcRequest
from cosy_sync.models import Recording, wav_header
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.runtime_grpc import RuntimeGrpcWire

URL = "grpc://tts.test:50000"
PROMPT = struct.pack("<4h", 1, -2, 3, -4)


def recording(rate: int = 16_000) -> Recording:
    wav = wav_header(rate, 1, len(PROMPT)) + PROMPT
    return Recording(wav, rate, len(PROMPT) / 2 / rate, hashlib.sha256(wav).hexdigest())


def wire(
    voice: Voice | str | None = "中文女", url: str = URL, **settings: object
) -> RuntimeGrpcWire:
    config = ClientConfig(voice=voice, **settings)  # type: ignore[arg-type]
    made = create_wire("runtime_grpc", url, SpeechOptions.from_config(config))
    assert isinstance(made, RuntimeGrpcWire)
    return made


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in messages)


def reply(*messages: bytes, status: int = 0, said: str = "") -> Reply:
    headers = {"grpc-status": str(status), "grpc-message": said}
    return Reply(200, headers, bytearray(framed(*messages)))


def failure(status: int, said: str = "", *messages: bytes, text: str = "你好") -> CosyError:
    with pytest.raises(CosyError) as caught:
        wire().decode(reply(*messages, status=status, said=said), [text])
    return caught.value


# -- what is asked -----------------------------------------------------------------------------

FORMS = {
    "sft": (
        Voice("中文女"),
        b"\x0a\x13\x0a\x09" + "中文女".encode() + b"\x12\x06" + "你好".encode(),
    ),
    "zero_shot": (
        Voice(reference=recording(), transcript="hi"),
        b"\x12\x16\x0a\x06" + "你好".encode() + b"\x12\x02hi\x1a\x08" + PROMPT,
    ),
    "cross_lingual": (
        Voice(reference=recording()),
        b"\x1a\x12\x0a\x06" + "你好".encode() + b"\x12\x08" + PROMPT,
    ),
    "instruct": (
        Voice("中文女", instruction="slow<|endofprompt|>"),
        b"\x22\x28\x0a\x06"
        + "你好".encode()
        + b"\x12\x09"
        + "中文女".encode()
        + b"\x1a\x13slow<|endofprompt|>",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_voice_is_said_in_its_form(form: str) -> None:
    voice, expected = FORMS[form]
    request = wire(voice).encode("你好", "r-1")
    assert request == RpcRequest(
        URL, "/cosyvoice.CosyVoice/Inference", expected, (("x-request-id", "r-1"),)
    )
    messages, _ = cosyvoice()
    request = messages.Request.FromString(expected)
    assert request.WhichOneof("RequestPayload") == f"{form}_request"
    payload = getattr(request, f"{form}_request")
    assert payload.tts_text == "你好"
    assert request.SerializeToString() == expected
    if form in ("zero_shot", "cross_lingual"):
        assert payload.prompt_audio == PROMPT


def test_prefixes_that_the_model_wants_are_added() -> None:
    messages, _ = cosyvoice()
    mark = "You are a helpful assistant.<|endofprompt|>"

    def ask(voice: Voice) -> object:
        message = wire(voice, model="Fun-CosyVoice3-0.5B").encode("说吧", "r").message
        request = messages.Request.FromString(message)
        return getattr(request, request.WhichOneof("RequestPayload"))

    clone = ask(Voice(reference=recording(), transcript="原话"))
    assert (clone.prompt_text, clone.tts_text) == (f"{mark}原话", "说吧")
    assert ask(Voice(reference=recording())).tts_text == f"{mark}说吧"


def test_an_instruction_is_sent_as_it_is_for_cosyvoice_1_marks_its_end_itself() -> None:
    messages, _ = cosyvoice()
    slow = wire(
        Voice("中文女", instruction="慢一点"), model="CosyVoice-300M-Instruct", sample_rate=22_050
    )
    request = messages.Request.FromString(slow.encode("说吧", "r").message)
    assert request.instruct_request.instruct_text == "慢一点"


@pytest.mark.parametrize("model", ["CosyVoice2-0.5B", "Fun-CosyVoice3-0.5B"])
def test_an_instruction_that_the_model_cannot_take_is_refused_before_sending(model: str) -> None:
    with pytest.raises(ConfigError, match=f"voice: {model} takes an instruction only with a rec"):
        wire(Voice("中文女", instruction="慢一点"), model=model)


@pytest.mark.parametrize(
    ("model", "rate", "right"),
    [("CosyVoice2-0.5B", 22_050, 24_000), ("CosyVoice-300M-SFT", 24_000, 22_050)],
)
def test_a_sample_rate_that_contradicts_the_model_is_refused_before_sending(
    model: str, rate: int, right: int
) -> None:
    for voice in (Voice("中文女"), Voice(reference=recording())):
        with pytest.raises(ConfigError, match=f"sample_rate={right}"):
            wire(voice, model=model, sample_rate=rate)
        wire(voice, model=model, sample_rate=right)
        wire(voice, sample_rate=rate)


@pytest.mark.parametrize(
    ("voice", "advice"),
    [
        (None, "give a speaker"),
        (Voice(instruction="慢一点"), "only with a speaker's name"),
        (Voice(reference=recording(), instruction="慢一点"), "wire='runtime_http'"),
        (Voice("中文女", reference=recording()), "not both"),
        (Voice(reference=recording(24_000)), "ffmpeg -i voice.wav -ac 1 -ar 16000"),
        (Voice(reference=recording(15_999)), "15999 Hz"),
    ],
)
def test_voices_that_the_server_cannot_take_are_refused_with_the_fix(
    voice: Voice | None, advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        wire(voice)


@pytest.mark.parametrize(
    "url",
    [
        "grpc://tts.test",
        f"{URL}/path",
        f"{URL}?key=1",
        f"{URL}/#a",
        "http://tts.test:50000",
    ],
)
def test_an_address_is_a_host_and_a_port(url: str) -> None:
    with pytest.raises(ConfigError, match=r"url: .*grpc://"):
        wire(url=url)


@pytest.mark.parametrize("url", [URL, f"{URL}/", "grpcs://tts.test:443", "grpc://[::1]:50000"])
def test_good_addresses(url: str) -> None:
    assert wire(url=url).encode("好", "r").url == url.rstrip("/")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"speed": 1.1}, "speed"),
        ({"sample_rate": 16_000}, "sample_rate"),
        ({"extra": {"seed": 1}}, "extra"),
        ({"headers": {"Grpc-Timeout": "1"}}, "headers"),
        ({"headers": {"x-token-bin": "1"}}, "headers"),
        ({"headers": {"x/y": "1"}}, "headers"),
    ],
)
def test_what_the_server_cannot_do_is_refused_before_anything_is_sent(
    settings: dict[str, object], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        wire(**settings)  # type: ignore[arg-type]


def test_headers_and_key_are_metadata_with_lower_case_names() -> None:
    made = wire(api_key="secret", headers={"X-Team": "tts", "X-Request-Id": "mine"})
    metadata = made.encode("好", "r-2").metadata
    assert sorted(metadata) == [
        ("authorization", "Bearer secret"),
        ("x-request-id", "r-2"),
        ("x-team", "tts"),
    ]
    assert "secret" not in repr(made)
    own = wire(api_key="secret", headers={"Authorization": "Basic x"})
    assert own.encode("好", "r").metadata[0] == ("authorization", "Basic x")


def test_half_a_character_is_an_invalid_text() -> None:
    with pytest.raises(InvalidTextError):
        wire().encode("\ud800", "r")


# -- what comes back ---------------------------------------------------------------------------


def test_the_messages_are_joined_and_have_the_configured_rate() -> None:
    # Two segments of sound, an empty message, and one with a field that nobody knows.
    got = reply(b"\x0a\x04abcd", b"", b"\x10\x01\x0a\x02ef")
    (payload,) = wire(sample_rate=22_050).exchange(["你好"], lambda _: got, "r")
    audio = read_audio(payload, sample_rate=8_000)  # type: ignore[arg-type]
    assert (audio.data, audio.sample_rate, audio.channels) == (b"abcdef", 22_050, 1)


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    assert wire().decode(reply(b"\x0a\x02ab\x0a\x02cd"), ["你好"]).data == b"cd"


def test_a_success_without_sound_is_no_audio() -> None:
    for empty in (reply(b""), reply(b"\x0a\x00")):
        payload = wire().decode(empty, ["！？"])
        with pytest.raises(BadAudioError) as caught:
            read_audio(payload, sample_rate=24_000)
        assert caught.value.reason == "empty"


def test_a_success_without_a_message_means_that_the_text_holds_nothing_to_speak() -> None:
    with pytest.raises(TextError, match=r"nothing to speak.*model='CosyVoice3'"):
        wire().exchange(["……"], lambda _: reply(), "r")
    one = reader()
    assert one.accept(200, {})
    with pytest.raises(TextError, match="nothing to speak"):
        one.end()


def test_half_a_sample_at_the_end_is_refused() -> None:
    payload = wire().decode(reply(b"\x0a\x02ab", b"\x0a\x01c"), ["你好"])
    with pytest.raises(BadAudioError) as caught:
        read_audio(payload, sample_rate=24_000)
    assert caught.value.reason == "odd"


@pytest.mark.parametrize(
    "body",
    [
        framed(b"RIFF\xff\xff\xff\xff"),
        framed(b"\x0a\x05abc"),
        framed(b"\x0a\x04abcd")[:-1],
        b"\0\0\0",
    ],
)
def test_messages_of_another_kind_are_no_audio(body: bytes) -> None:
    with pytest.raises(BadAudioError, match="fork of the runtime"):
        wire().decode(Reply(200, {"grpc-status": "0"}, body), ["你好"])


def test_more_calls_than_the_server_bears_are_throttling() -> None:
    error = failure(8, "Concurrent RPC limit exceeded!")
    assert type(error) is ThrottledError
    assert error.crowded and error.status == 429 and error.code == "RESOURCE_EXHAUSTED"
    assert error.retryable and not error.trips
    assert "max_connections" in str(error) and "--max_conc" in str(error)


def test_a_quota_is_throttling_but_says_nothing_of_calls_at_the_same_time() -> None:
    error = failure(8, "quota of this minute used up")
    assert type(error) is ThrottledError and not error.crowded


@pytest.mark.parametrize("number", [8, 14])
def test_the_limit_of_a_gateway_is_one_of_the_rate(number: int) -> None:
    error = failure(number, "local_rate_limited")
    assert type(error) is ThrottledError and error.by_rate and not error.crowded
    assert str(error).endswith("local_rate_limited; lower the endpoint's rate")
    told = failure(14, "Too many requests")  # in a second, or at the same time
    assert type(told) is ThrottledError and not told.by_rate


@pytest.mark.parametrize(
    ("said", "crowded"),
    [
        ("local_rate_limited", False),
        ("RateLimit: rate limit exceeded", False),
        ("Too many requests", False),
        ("Received http2 header with status: 429", False),
        ("upstream connect error or disconnect/reset before headers. reset reason: overflow", True),
    ],
)
def test_unavailable_for_a_limit_is_throttling_and_opens_no_breaker(
    said: str, crowded: bool
) -> None:
    error = failure(14, said)
    assert type(error) is ThrottledError and not error.trips
    assert (error.crowded, error.status, error.code) == (crowded, 429, "UNAVAILABLE")
    assert ("max_connections" if crowded else "rate") in str(error)


@pytest.mark.parametrize(
    ("headers", "kind", "wait"),
    [
        ({"x-envoy-ratelimited": "true"}, ThrottledError, None),
        ({"x-envoy-ratelimited": "true", "x-ratelimit-reset": "2"}, ThrottledError, 2.0),
        ({"x-envoy-overloaded": "true"}, ThrottledError, 0.1),
        ({"grpc-retry-pushback-ms": "500"}, UnavailableError, 0.5),
        ({"retry-after": "3"}, UnavailableError, 3.0),
        ({}, UnavailableError, None),
    ],
)
def test_what_a_proxy_tells_beside_the_status_counts(
    headers: dict[str, str], kind: type[ServerError], wait: float | None
) -> None:
    refused = reply(status=14, said="no")
    refused.headers = {**refused.headers, **headers}
    with pytest.raises(ServerError) as caught:
        wire().decode(refused, ["你好"])
    assert (type(caught.value), caught.value.retry_after) == (kind, wait)


def test_an_empty_account_is_no_throttling() -> None:
    for status, said in ((8, "insufficient_quota: top up"), (7, "your balance is insufficient")):
        error = failure(status, said)
        assert type(error) is BillingError and error.hopeless and "balance" in str(error)


def test_the_other_proto_of_async_cosyvoice_is_named() -> None:
    error = failure(13, "Processing error: Invalid request type")
    assert type(error) is BadRequestError and error.hopeless
    assert "async_cosyvoice" in str(error) and "wire='openai'" in str(error)
    assert type(failure(13, "Processing error: CUDA out of memory")) is UnavailableError


def test_a_request_that_is_too_large_for_the_server_is_not_throttling() -> None:
    error = failure(8, "SERVER: Received message larger than max (5000000 vs. 4194304)")
    assert type(error) is BadRequestError and error.status == 413
    assert not error.retryable and "shorter" in str(error)


@pytest.mark.parametrize(
    ("status", "cls", "http", "name"),
    [
        (2, UnavailableError, 500, "UNKNOWN"),
        (3, BadRequestError, 400, "INVALID_ARGUMENT"),
        (5, BadRequestError, 404, "NOT_FOUND"),
        (7, AuthError, 403, "PERMISSION_DENIED"),
        (9, BadRequestError, 400, "FAILED_PRECONDITION"),
        (11, BadRequestError, 400, "OUT_OF_RANGE"),
        (12, BadRequestError, 501, "UNIMPLEMENTED"),
        (13, UnavailableError, 500, "INTERNAL"),
        (14, UnavailableError, 503, "UNAVAILABLE"),
        (16, AuthError, 401, "UNAUTHENTICATED"),
        (10, UnavailableError, 500, "ABORTED"),
        (99, UnavailableError, 500, "status 99"),
    ],
)
def test_each_status_is_the_error_that_it_means(
    status: int, cls: type[ServerError], http: int, name: str
) -> None:
    error = failure(status, "so it is")
    assert type(error) is cls
    assert (error.status, error.code) == (http, name)  # type: ignore[attr-defined]
    assert f"{name}: so it is" in str(error)
    assert error.hopeless == (name in ("NOT_FOUND", "UNIMPLEMENTED") or cls is AuthError)
    assert "without a reason" in str(failure(status))


def test_a_speaker_that_the_model_lacks_is_a_mistake_and_not_a_failure_of_the_server() -> None:
    error = failure(2, "Exception iterating responses: '中文女'")
    assert type(error) is BadRequestError and error.hopeless
    assert "no speaker '中文女'" in str(error) and "reference" in str(error)
    other = failure(2, "Exception iterating responses: 'embedding'")
    assert type(other) is UnavailableError


def test_a_failure_after_messages_is_a_cut_with_what_came() -> None:
    said = "Exception iterating responses: CUDA out of memory"
    error = failure(2, said, b"\x0a\x04abcd", b"\x0a\x02ef")
    assert type(error) is CutError and error.partial == b"abcdef"
    assert "CUDA out of memory" in str(error)
    assert type(failure(8, "Concurrent RPC limit exceeded!", b"\x0a\x02ab")) is CutError
    assert type(failure(2, said, b"")) is UnavailableError  # an empty message is no sound


def test_the_text_is_blanked_out_of_what_the_server_says() -> None:
    text = "这是一句不该出现在日志里的话"
    for messages in ((), (b"\x0a\x02ab",)):
        error = failure(2, f"Exception iterating responses: {text}!", *messages, text=text)
        assert "日志" not in str(error) and "[…]" in str(error)


# -- sound as it comes -------------------------------------------------------------------------


def reader(**settings: object):  # type: ignore[no-untyped-def]
    return wire(**settings).listen("你好", pytest.fail, "r-3")  # type: ignore[arg-type]


def test_a_reader_asks_as_the_whole_call_does() -> None:
    one = reader(sample_rate=22_050)
    assert one.request == wire(sample_rate=22_050).encode("你好", "r-3")
    assert one.sample_rate == 22_050


def test_sound_comes_in_whole_samples_wherever_the_messages_part_it() -> None:
    sound = bytes(range(40))
    for step in range(1, 41):
        one, heard = reader(), b""
        assert one.accept(200, {})
        for start in range(0, 40, step):
            part = sound[start : start + step]
            got = one.feed(b"\x0a" + bytes([len(part)]) + part)
            assert len(got) % 2 == 0
            heard += got
        assert heard + one.end() == sound


def test_half_a_sample_or_nothing_at_the_end_is_refused() -> None:
    one = reader()
    assert one.feed(b"\x0a\x05abcde") == b"abcd"
    with pytest.raises(BadAudioError) as caught:
        one.end()
    assert caught.value.reason == "odd"
    one = reader()
    assert one.feed(b"") == one.feed(b"\x0a\x00") == b""
    with pytest.raises(BadAudioError) as caught:
        one.end()
    assert caught.value.reason == "empty"


@pytest.mark.parametrize("step", [1, 2, 3, 4, 48])
def test_a_wav_header_is_not_heard_as_samples(step: int) -> None:
    file = wav_header(24_000, 1, 4) + b"abcd"
    one = reader()
    with pytest.raises(BadAudioError, match="a WAV file"):
        for start in range(0, 48, step):
            assert one.feed(b"\x0a" + bytes([step]) + file[start : start + step]) == b""


def test_a_message_of_another_kind_is_refused_by_a_reader() -> None:
    with pytest.raises(BadAudioError, match="fork of the runtime"):
        reader().feed(b"RIFF\xff\xff\xff\xff")


@pytest.mark.parametrize("number", [2, 8, 13, 14])
def test_a_stream_that_fails_behind_sound_says_what_the_server_said(number: int) -> None:
    one = reader()
    headers: dict[str, str] = {}
    assert one.accept(200, headers)
    assert one.feed(b"\x0a\x04abcd") == b"abcd"
    headers |= reply(status=number, said="cannot say 你好: CUDA out of memory").headers
    with pytest.raises(CutError, match=r"broke off: .*CUDA out of memory") as caught:
        one.end()
    told = caught.value.__cause__
    assert isinstance(told, ServerError) and told.code in str(caught.value)
    assert "你好" not in str(caught.value)


def test_a_stream_that_fails_before_sound_is_what_the_server_said() -> None:
    one = reader()
    headers: dict[str, str] = {}
    assert one.accept(200, headers)
    assert one.feed(b"\x0a\x00") == b""
    headers |= reply(status=8, said="Concurrent RPC limit exceeded!").headers
    with pytest.raises(ThrottledError, match="Concurrent RPC limit"):
        one.end()


def test_a_refused_call_is_not_a_stream() -> None:
    one = reader()
    refused = reply(status=8, said="Concurrent RPC limit exceeded!")
    assert not one.accept(200, refused.headers)
    assert type(one.refuse(refused)) is ThrottledError
    assert one.accept(200, {"grpc-status": "0"})
    nothing = one.refuse(reply())
    assert isinstance(nothing, TextError) and nothing.code == "empty"
    unknown = reply(status=2, said="Exception iterating responses: '中文女'")
    assert type(one.refuse(unknown)) is BadRequestError
