"""The openai wire over real sockets, against the embedded server."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cosy_sync import (
    AuthError,
    BadAudioError,
    BadRequestError,
    BatchConfig,
    BatchError,
    ConfigError,
    CosyClient,
    Endpoint,
    RetryConfig,
    TextError,
    ThrottledError,
    UnavailableError,
    Voice,
)
from cosy_sync.config import ClientConfig
from cosy_sync.errors import CosyError
from cosy_sync.models import Recording, wav_header
from cosy_sync.net import Sender
from cosy_sync.testing import Server, tone_wav
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.forms import Form
from cosy_sync.wires.openai import OpenaiWire
from tests.e2e.scripted import READ, Scripted, eventually, reply

TEXTS = [f"第{number}句话说得不一样" for number in range(70)]
WAV = wav_header(16_000, 1, 32_000) + bytes(range(250)) * 128
CLIP = Recording(WAV, 16_000, 1.0, hashlib.sha256(WAV).hexdigest())
CLONE = Voice(reference=CLIP, transcript="我在说话")
FREE: dict[str, Any] = {"latency": 0.0, "max_connections": 0, "rate": 0, "seed": 1}
QUICK = RetryConfig(base=0.01, outlast=0)
KEY = "sk-very-secret-0123"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(**FREE) as running:
        yield running


def client(server: Server, path: str = "/v1", **settings: Any) -> CosyClient:
    return CosyClient(server.base_url + path, wire="openai", **{"retry": QUICK, **settings})


def stats(server: Server, name: str) -> Any:
    return server.stats()[name]


BATCH = "/v1/audio/speech/batch"
PATHS = pytest.mark.parametrize("path", ["", "/v1", "/v1/audio/speech", BATCH])


# --- speaking


@PATHS
def test_one_text(server: Server, path: str) -> None:
    with client(server, path) as speaker:
        assert speaker.synth("你好").data == tone_wav("你好")


@PATHS
@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_many_texts_keep_their_order(server: Server, path: str, format: str) -> None:
    with client(server, path, format=format, voice="中文男", speed=2.0) as speaker:
        audios = speaker.synth_many(TEXTS)
    assert [audio.wav() for audio in audios] == [
        tone_wav(text, voice="中文男", speed=2.0) for text in TEXTS
    ]
    assert {audio.format for audio in audios} == {format}
    assert stats(server, "texts") == len(TEXTS)


def test_one_text_a_call_or_32(server: Server) -> None:
    with client(server) as speaker:
        speaker.synth_many(TEXTS)
    assert stats(server, "batches") == len(TEXTS)
    with client(server, BATCH) as speaker:
        speaker.synth_many(TEXTS)
    assert stats(server, "batches") == len(TEXTS) + 3


def test_a_batch_may_be_larger_where_the_operator_allows_it(server: Server) -> None:
    with client(server, BATCH, batch_size=64) as speaker:
        speaker.synth_many(TEXTS[:64])
        assert stats(server, "batches") == 1
        assert len(speaker.with_options(batch_size=50).synth_many(TEXTS[:50])) == 50
        assert stats(server, "batches") == 2
    with client(server, BATCH) as speaker:
        speaker.with_options(batch_size=64).synth_many(TEXTS[:64])
        assert stats(server, "batches") == 3


def test_a_batch_beyond_the_operators_limit_is_halved(server: Server) -> None:
    with Server(max_texts=16, **FREE) as small, client(small, BATCH) as speaker:
        assert len(speaker.synth_many(TEXTS[:32])) == 32
        assert small.stats()["status"] == {"200": 2, "400": 1}
    with Server(max_texts=16, **FREE) as small:
        whole = BatchConfig(halve_refused=False)
        with client(small, BATCH, batch=whole) as speaker, pytest.raises(BatchError) as caught:
            speaker.synth_many(TEXTS[:32])
        assert "Batch contains 32 items, exceeding the maximum of 16." in str(
            caught.value.failures[0].error
        )


def test_siliconflows_fields_are_understood(server: Server) -> None:
    model = "FunAudioLLM/CosyVoice2-0.5B"
    settings: dict[str, Any] = {"model": model, "extra": {"service": "siliconflow"}}
    with client(server, voice=f"{model}:anna", sample_rate=32_000, **settings) as speaker:
        audio = speaker.synth("你好")
    assert audio.data == tone_wav("你好", voice="中文男", sample_rate=32_000)
    with client(server, voice=CLONE, **settings) as speaker:
        assert speaker.synth("你好").duration > 0


def test_xinferences_form_is_understood(server: Server) -> None:
    settings: dict[str, Any] = {"model": "cosy", "extra": {"service": "xinference"}}
    with client(server, voice=CLONE, speed=2.0, **settings) as speaker:
        assert speaker.synth("你好你好").duration == pytest.approx(0.2, abs=0.01)


# --- refusals


@pytest.mark.parametrize("mark", ["[fail]", "[refuse]"])
def test_a_bad_text_fails_alone(server: Server, mark: str) -> None:
    texts = [*TEXTS[:5], f"{mark} 这句不行", *TEXTS[5:10]]
    for path, kind in (("/v1", BadRequestError), (BATCH, None)):
        with client(server, path) as speaker:
            outcomes = speaker.synth_many(texts, on_error="return")
        assert [outcome.index for outcome in outcomes if not outcome.ok] == [5]
        error = outcomes[5].error
        assert isinstance(error, kind or (TextError, BadRequestError))
        assert "这句不行" not in str(error)


@PATHS
def test_a_wrong_key_ends_it(path: str) -> None:
    with Server(api_key=KEY, **FREE) as server:
        refused = pytest.raises(AuthError, match="Unauthorized; check api_key")
        with client(server, path, api_key="sk-other-key") as speaker, refused:
            speaker.synth("你好")
        with client(server, path, api_key=KEY) as speaker:
            assert speaker.synth("你好").data == tone_wav("你好")


def test_an_unknown_voice_is_refused_with_the_known_ones(server: Server) -> None:
    with client(server, voice="nobody") as speaker, pytest.raises(BadRequestError) as caught:
        speaker.synth("你好")
    assert "Unknown voice 'nobody'. Built-in speakers: 中文女" in str(caught.value)


def test_a_wrong_path_says_where_it_asked(server: Server) -> None:
    with client(server, "/v2") as speaker, pytest.raises(BadRequestError) as caught:
        speaker.synth("你好")
    assert f"(asked: {server.base_url}/v2/audio/speech)" in str(caught.value)


def test_a_recording_for_an_unknown_service_is_refused_before_anything_is_sent(
    server: Server,
) -> None:
    with pytest.raises(ConfigError, match=r"extra=\{'service': 'vllm'\}"):
        client(server, voice=CLONE)
    assert stats(server, "requests") == 0


# --- trouble


@PATHS
def test_limits_are_kept_and_throttling_is_overcome(path: str) -> None:
    limits: dict[str, Any] = {"latency": 0.01, "max_connections": 3, "rate": 100}
    with Server(**limits) as server:
        endpoint = Endpoint(server.base_url + path, max_connections=3, rate=90)
        with CosyClient(endpoint, wire="openai", retry=QUICK, deadline=60) as speaker:
            assert len(speaker.synth_many(TEXTS[:40])) == 40
        assert stats(server, "throttled") == stats(server, "refused") == 0
        server.inject("throttle-ms", 2)
        with CosyClient(endpoint, wire="openai", retry=QUICK, deadline=60) as speaker:
            assert len(speaker.synth_many(TEXTS[:5])) == 5


@pytest.mark.parametrize(
    "fault",
    [
        "bad-wav",
        "cut",
        "cut-chunked",
        "empty-audio",
        "extra-after",
        "json-object",
        "length-short",
        "not-json",
        "odd-audio",
        "reset",
        "reset-mid",
        "short-audio",
        "status-500",
        "status-503",
        "swapped-type",
        "throttle-ms",
        "too-few",
    ],
)
@pytest.mark.parametrize("path", ["/v1", BATCH])
def test_a_fault_is_seen_and_overcome(server: Server, fault: str, path: str) -> None:
    server.inject(fault)
    with client(server, path) as speaker:
        audios = speaker.synth_many(TEXTS[:4])
    assert [audio.data for audio in audios] == [tone_wav(text) for text in TEXTS[:4]]
    assert server.stats()["faults"] == {fault: 1}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("json-object", UnavailableError),
        ("not-json", BadAudioError),
        ("swapped-type", UnavailableError),
        ("text-error", UnavailableError),
        ("throttle-ms", ThrottledError),
    ],
)
def test_a_fault_that_stays_is_told_as_what_it_is(
    server: Server, fault: str, kind: type[CosyError]
) -> None:
    server.inject(fault, 1)
    with client(server, retry=RetryConfig(max_retries=0)) as speaker, pytest.raises(kind):
        speaker.synth("你好")


def test_an_engine_that_is_out_of_memory_for_an_item_is_asked_again() -> None:
    def answer(*items: dict[str, str]) -> bytes:
        results = [{"index": index, **item} for index, item in enumerate(items)]
        return reply(json.dumps({"results": results}).encode())

    def spoken(text: str) -> dict[str, str]:
        audio = base64.b64encode(tone_wav(text)).decode()
        return {"status": "success", "audio_data": audio, "media_type": "audio/wav"}

    full = {"status": "error", "error": "CUDA out of memory. Tried to allocate 20.00 MiB."}
    empty = {"status": "error", "error": "text cannot be empty"}
    first = answer(spoken("一"), full, empty)
    with (
        Scripted([READ, first, READ, answer(full), READ, answer(spoken("二"))]) as peer,
        CosyClient(f"http://127.0.0.1:{peer.port}{BATCH}", wire="openai", retry=QUICK) as speaker,
    ):
        outcomes = speaker.synth_many(["一", "二", "三"], on_error="return")
    assert [outcome.ok for outcome in outcomes] == [True, True, False]
    assert type(outcomes[2].error) is TextError


# --- recordings


def test_a_recording_is_uploaded_once_for_all_threads(server: Server) -> None:
    extra = {"service": "vllm"}
    with client(server, voice=CLONE, extra=extra) as speaker:
        audios = speaker.synth_many(TEXTS)
        # Uploaded or sent along: the same recording speaks.
        voices = {tone_wav(TEXTS[0], voice=voice) for voice in ("中文女", "中文男", "粤语女")}
        voices |= {tone_wav(TEXTS[0], voice=voice) for voice in ("英文女", "英文男")}
        assert audios[0].data in voices
        speaker.synth_many(TEXTS)
    # The upload, and a call for each text.
    assert stats(server, "requests") == 1 + 2 * len(TEXTS)
    listed = voices_of(server)
    assert len(listed["uploaded_voices"]) == 1
    with client(server, BATCH, voice=CLONE) as speaker:
        assert speaker.synth(TEXTS[0]).data == audios[0].data
    assert voices_of(server) == listed


def test_a_recording_that_the_server_forgot_goes_along(server: Server) -> None:
    with client(server, voice=CLONE, extra={"service": "vllm"}) as speaker:
        first = speaker.synth("你好").data
        [voice] = voices_of(server)["uploaded_voices"]
        path = f"{server.base_url}/v1/audio/voices/{voice['name']}"
        urllib.request.urlopen(urllib.request.Request(path, method="DELETE")).close()
        assert voices_of(server)["uploaded_voices"] == []
        assert speaker.synth("你好").data == first
        assert speaker.synth("你好").data == first
    assert voices_of(server)["uploaded_voices"] == [voice]


def forget_voices(server: Server) -> None:
    for voice in voices_of(server)["uploaded_voices"]:
        path = f"{server.base_url}/v1/audio/voices/{voice['name']}"
        urllib.request.urlopen(urllib.request.Request(path, method="DELETE")).close()


def test_over_the_batch_route_a_recording_that_the_server_forgot_is_uploaded_again(
    server: Server,
) -> None:
    with client(server, BATCH, voice=CLONE, batch_size=8) as speaker:
        first = speaker.synth_many(TEXTS[:40])
        forget_voices(server)
        again = speaker.synth_many(TEXTS[:40])
    assert [audio.data for audio in again] == [audio.data for audio in first]
    assert len(voices_of(server)["uploaded_voices"]) == 1


def voices_of(server: Server) -> Any:
    with urllib.request.urlopen(f"{server.base_url}/v1/audio/voices") as answer:
        return json.load(answer)


# --- keys


def test_the_key_is_nowhere_but_in_the_header(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    settings: dict[str, Any] = {"api_key": KEY, "voice": CLONE, "extra": {"service": "vllm"}}
    with Server(api_key="another", **FREE) as strict, client(strict, **settings) as speaker:
        outcomes = speaker.synth_many(["你好"], on_error="return")
        said += [str(outcomes), repr(outcomes[0].error), repr(speaker), repr(speaker.stats())]
    options = SpeechOptions.from_config(ClientConfig(**settings))
    wire = OpenaiWire(server.base_url + "/v1", options)
    said += [repr(wire), repr(options), caplog.text]
    assert KEY not in "".join(said)


# --- the server's own words


def ask(server: Server, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(server.base_url + path, data, given)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "input: Input should be a non-empty string"),
        ({"input": " "}, "Input text cannot be empty"),
        ({"input": "a", "response_format": "mp3"}, "response_format: use one of wav, pcm"),
        ({"input": "a", "speed": 5}, "speed: Input should be a number from 0.25 to 4.0"),
        ({"input": "a", "speed": True}, "speed: Input should be a number from 0.25 to 4.0"),
        ({"input": "a", "stream_format": "x"}, "stream_format: use sse or audio"),
        ({"input": "a", "instructions": "x" * 501}, "instructions: at most 500 characters"),
        (
            {"input": "a", "ref_audio": "http://x", "ref_text": "x"},
            "ref_audio must be a base64 data URL",
        ),
        ({"input": "a", "ref_audio": "data:;base64,AAAA"}, "CosyVoice3 requires 'ref_text'"),
        ({"input": "a" * 5_001}, "input has 5001 characters: at most 5000 are allowed"),
        ([], "the body is not a JSON object"),
    ],
)
def test_the_server_refuses_in_vllms_form(server: Server, body: object, message: str) -> None:
    status, said = ask(server, "/v1/audio/speech", body)
    assert status == 400
    assert said["error"].pop("message").startswith(message)
    assert said == {"error": {"type": "BadRequestError", "param": None, "code": 400}}


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"{}", "text/plain", "Unsupported Media Type: Only 'application/json' is allowed"),
        (b"{", "application/json", "the body is not JSON in UTF-8"),
        (b"\xff", "application/json", "the body is not JSON in UTF-8"),
        (b"x", "multipart/form-data; boundary=b", "There was an error parsing the body"),
        (
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
            'The Content-Disposition header field "name" must be provided.',
        ),
    ],
)
def test_the_server_refuses_bodies_that_it_cannot_read(
    server: Server, data: bytes, kind: str, message: str
) -> None:
    assert posted(server, "/v1/audio/speech", data, kind) == (400, message)


@pytest.mark.parametrize(
    ("fields", "sample", "message"),
    [
        ({"consent": "true"}, WAV, "name: Field required"),
        ({"name": "alice"}, WAV, "consent: Field required"),
        ({"consent": "true", "name": "alice"}, b"mp3", "the reference audio is no WAV file"),
    ],
)
def test_the_server_refuses_uploads(
    server: Server, fields: dict[str, str], sample: bytes, message: str
) -> None:
    form = Form("ref_text", fields, {"audio_sample": sample})
    body = form.body("你好")
    assert posted(server, "/v1/audio/voices", body, form.content_type) == (400, message)


def posted(server: Server, path: str, data: bytes, kind: str) -> tuple[int, str]:
    request = urllib.request.Request(server.base_url + path, data, {"Content-Type": kind})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as error:
        return error.code, json.load(error)["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"items": []}, "items: List should have at least 1 item"),
        ({"items": ["a"]}, "items[0] is not an object"),
        ({"items": [{"input": "a"}, {}]}, "items[1].input: Input should be"),
        ({"items": [{"input": "a"}] * 65}, "Batch contains 65 items, exceeding the maximum of 64."),
    ],
)
def test_the_server_refuses_batches(server: Server, body: object, message: str) -> None:
    status, said = ask(server, BATCH, body)
    assert (status, said["error"]["message"].startswith(message)) == (400, True)


def test_the_server_tells_what_is_wrong_with_a_text_or_its_voice_in_the_items_place(
    server: Server,
) -> None:
    items = [{"input": "a"}, {"input": " "}, {"input": "b", "voice": "nobody"}]
    status, raw = ask(server, BATCH, {"items": items})
    said = json.loads(raw)
    assert (status, said["succeeded"], said["failed"]) == (200, 1, 2)
    first, empty, unknown = said["results"]
    assert first["status"] == "success"
    assert empty == {"index": 1, "status": "error", "error": "Input text cannot be empty"}
    assert unknown["error"].startswith("Unknown voice 'nobody'.")
    assert unknown["error"].endswith(
        "Upload a voice first via POST /v1/audio/voices, or use ref_audio + ref_text."
    )


def test_the_server_takes_items_with_their_own_fields(server: Server) -> None:
    items = [{"input": "a"}, {"input": "b", "voice": "英文男", "response_format": "pcm"}]
    status, raw = ask(server, BATCH, {"items": items, "voice": "英文女"})
    said = json.loads(raw)
    assert status == 200
    assert said["id"].startswith("speech-batch-")
    assert [item["media_type"] for item in said["results"]] == ["audio/wav", "audio/pcm"]
    assert (said["total"], said["succeeded"], said["failed"]) == (2, 2, 0)


def test_the_server_guards_everything_below_v1() -> None:
    with Server(api_key=KEY, **FREE) as server:
        for path in ("/v1/models", "/v1/audio/voices"):
            assert ask(server, path) == (401, {"error": "Unauthorized"})
            assert ask(server, path, Authorization=f"Bearer {KEY}")[0] == 200
        assert ask(server, "/health")[0] == 200


def test_the_server_knows_no_voice_that_nobody_uploaded(server: Server) -> None:
    request = urllib.request.Request(f"{server.base_url}/v1/audio/voices/x", method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as error:
        assert (error.code, json.load(error)["error"]["type"]) == (404, "NotFoundError")


# --- streams, read whole through the sender and fed to the reader in pieces


@pytest.mark.parametrize("form", ["audio", "sse"])
@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_a_stream_is_read_as_the_server_writes_it(server: Server, form: str, format: str) -> None:
    config = ClientConfig(format=format, extra={"stream_format": form})
    wire = OpenaiWire(server.base_url + "/v1", SpeechOptions.from_config(config))
    sender = Sender(config)
    try:
        reader = wire.listen("你好，我的朋友", lambda _: pytest.fail(), "r1")
        reply = sender.post(reader.request, 30.0, 1 << 20)
    finally:
        sender.close()
    assert reader.accept(reply.status, reply.headers)
    assert reply.headers["transfer-encoding"] == "chunked"
    body = bytes(reply.body)
    sound = b"".join(reader.feed(body[at : at + 999]) for at in range(0, len(body), 999))
    assert sound + reader.end() == tone_wav("你好，我的朋友")[44:]
    assert reader.sample_rate == 24_000


def test_a_stream_of_events_that_fails_says_so(server: Server) -> None:
    config = ClientConfig(extra={"stream_format": "sse"})
    wire = OpenaiWire(server.base_url + "/v1", SpeechOptions.from_config(config))
    sender = Sender(config)
    server.inject("text-error")
    try:
        reader = wire.listen("你好，我的朋友", lambda _: pytest.fail(), "r1")
        reply = sender.post(reader.request, 30.0, 1 << 20)
    finally:
        sender.close()
    assert reader.accept(reply.status, reply.headers)
    with pytest.raises(UnavailableError, match="the model has failed"):
        reader.feed(bytes(reply.body))


def test_a_call_that_its_caller_gives_up_is_cut_off(server: Server) -> None:
    with Server(**{**FREE, "latency": 60.0}) as slow:
        with client(slow, deadline=0.3) as speaker, pytest.raises(CosyError):
            speaker.synth("你好")
        assert eventually(lambda: slow.stats()["connections_now"] == 0)
