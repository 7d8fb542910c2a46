"""A recording is uploaded once, by the hash of its contents."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import (
    AuthError,
    BadRequestError,
    ConnectError,
    CosyError,
    TextError,
    UnavailableError,
)
from cosy_sync.messages import Payload, Reply, Request, WireRequest
from cosy_sync.models import Recording, Voice, wav_header
from cosy_sync.wires import SpeechOptions
from cosy_sync.wires.openai import OpenaiWire

WAV = wav_header(16_000, 1, 4) + b"\1\2\3\4"
CLIP = Recording(WAV, 16_000, 1.0, hashlib.sha256(WAV).hexdigest())
SOUND = Reply(200, {"content-type": "audio/wav"}, WAV)


def wire(transcript: str = "我在说话", **settings: Any) -> OpenaiWire:
    config = ClientConfig(
        voice=Voice(reference=CLIP, transcript=transcript), extra={"service": "vllm"}, **settings
    )
    return OpenaiWire("http://tts/v1", SpeechOptions.from_config(config))


def answer(status: int, value: object = None) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(value).encode())


class Vllm:
    """Answers uploads, lists and speech as it is told; remembers what it was asked."""

    def __init__(self, *uploads: Reply | CosyError, listed: Sequence[str] = ()) -> None:
        self.uploads = list(uploads)
        self.listed = listed
        self.asked: list[str] = []
        self.requests: list[Request] = []
        self.lost = ""

    def __call__(self, request: WireRequest) -> Reply:
        assert isinstance(request, Request)
        self.requests.append(request)
        if request.url.endswith("/audio/voices"):
            self.asked.append("list" if request.method == "GET" else "upload")
            if request.method == "GET":
                return answer(200, {"voices": self.listed})
            said = self.uploads.pop(0)
            if isinstance(said, CosyError):
                raise said
            return said
        fields = json.loads(request.body)
        self.asked.append("inline" if "ref_audio" in fields else fields["voice"][:5])
        if fields.get("voice") == self.lost:
            return answer(400, {"error": {"message": f"Invalid voice '{self.lost}'."}})
        return SOUND


def spoken(speaker: OpenaiWire, server: Callable[[WireRequest], Reply], times: int = 1) -> None:
    for _ in range(times):
        [result] = speaker.exchange(["a"], server, "r1")
        assert isinstance(result, Payload)


def test_a_literal_upload() -> None:
    server = Vllm(answer(200, {"success": True}))
    spoken(wire(api_key="k"), server)
    upload, speech = server.requests
    assert (upload.method, upload.url) == ("POST", "http://tts/v1/audio/voices")
    headers = dict(upload.headers)
    assert headers["Authorization"] == "Bearer k"
    boundary = headers["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    name = json.loads(speech.body)["voice"].encode()
    line = b'\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n--' + boundary
    for field, text in ((b"name", name), (b"ref_text", "我在说话".encode())):
        assert line % (field, text) in upload.body
    assert b'name="consent"\r\n\r\n' in upload.body
    assert (
        b'name="audio_sample"; filename="audio_sample.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        in upload.body
    )
    assert WAV in upload.body


def test_a_recording_is_uploaded_once() -> None:
    server = Vllm(answer(200))
    spoken(wire(), server, 3)
    assert server.asked == ["upload", "cosy-", "cosy-", "cosy-"]


def test_the_name_is_the_hash_of_what_is_said_and_how() -> None:
    names = []
    for transcript in ("a", "a", "b"):
        server = Vllm(answer(200))
        spoken(wire(transcript), server)
        names.append(json.loads(server.requests[-1].body)["voice"])
    assert names[0] == names[1] != names[2]


def test_a_voice_that_another_client_has_uploaded_is_used() -> None:
    server = Vllm(answer(200))
    spoken(wire(), server)
    name = json.loads(server.requests[-1].body)["voice"]
    for refusal in (answer(409, {"error": "exists"}), answer(400, {"error": "exists"})):
        server = Vllm(refusal, listed=["x", name])
        spoken(wire(), server, 2)
        assert server.asked == ["upload", "list", "cosy-", "cosy-"]


@pytest.mark.parametrize("status", [409, 400, 413])
def test_where_uploads_are_refused_the_recording_goes_along(status: int) -> None:
    server = Vllm(answer(status, {"error": "no uploads with several API servers"}))
    spoken(wire(), server, 2)
    assert server.asked == ["upload", "list", "inline", "inline"]


@pytest.mark.parametrize("status", [404, 405])
def test_where_there_are_no_uploads_the_recording_goes_along(status: int) -> None:
    server = Vllm(answer(status))
    spoken(wire(), server, 2)
    assert server.asked == ["upload", "inline", "inline"]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (answer(401, {"error": "Unauthorized"}), AuthError),
        (answer(503), UnavailableError),
        (ConnectError("no connection"), ConnectError),
    ],
)
def test_a_failure_that_may_pass_fails_the_call_and_the_next_one_uploads(
    failure: Any, kind: type[CosyError]
) -> None:
    server = Vllm(failure, answer(200))
    speaker = wire()
    with pytest.raises(kind):
        speaker.exchange(["a"], server, "r1")
    spoken(speaker, server)
    assert server.asked == ["upload", "upload", "cosy-"]


def test_nobody_waits_for_the_upload_of_another() -> None:
    began, go_on = threading.Event(), threading.Event()
    server = Vllm(answer(200))

    def slow(request: WireRequest) -> Reply:
        if request.url.endswith("voices"):
            began.set()
            assert go_on.wait(30)
        return server(request)

    speaker = wire()
    first = threading.Thread(target=spoken, args=(speaker, slow))
    first.start()
    assert began.wait(30)
    spoken(speaker, server, 2)
    go_on.set()
    first.join()
    spoken(speaker, server)
    assert server.asked == ["inline", "inline", "upload", "cosy-", "cosy-"]


def test_a_voice_that_the_server_forgot_is_sent_along_and_then_uploaded_again() -> None:
    server = Vllm(answer(200), answer(200))
    speaker = wire()
    spoken(speaker, server)
    server.lost = json.loads(server.requests[-1].body)["voice"]
    spoken(speaker, server)
    server.lost = ""
    spoken(speaker, server)
    assert server.asked == ["upload", "cosy-", "cosy-", "inline", "upload", "cosy-"]


def test_another_refusal_is_no_loss() -> None:
    speaker = wire()
    spoken(speaker, Vllm(answer(200)))
    with pytest.raises(BadRequestError):
        speaker.exchange(["a"], lambda _: answer(400, {"error": "too long"}), "r1")
    with pytest.raises(UnavailableError):
        speaker.exchange(["a"], lambda p: answer(500, json.loads(p.body)["voice"]), "r1")  # type: ignore[union-attr]
    spoken(speaker, Vllm())


def test_a_stream_uses_the_uploaded_voice_and_asks_again_where_it_is_lost() -> None:
    server = Vllm(answer(200), answer(200))
    speaker = wire()
    reader = speaker.listen("a", server, "r1")
    assert isinstance(reader.request, Request)
    name = json.loads(reader.request.body)["voice"]
    assert name.startswith("cosy-")
    told = reader.refuse(answer(400, {"error": {"message": f"Invalid voice '{name}'."}}))
    assert isinstance(told, UnavailableError)
    assert told.retryable
    speaker.listen("a", server, "r2")
    assert server.asked == ["upload", "upload"]


# -- the batch route: a loss comes as an item's error ---------------------------------------------


class Batches:
    """vLLM-Omni's batch route: knows the voices that were uploaded, until it forgets them."""

    def __init__(self, *, inline: bool = True, stays: bool = True) -> None:
        self.inline = inline
        self.stays = stays
        self.known: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, request: WireRequest) -> Reply:
        assert isinstance(request, Request)
        if request.url.endswith("/audio/voices"):
            self.asked.append("upload")
            if self.stays:
                name = request.body.partition(b'name="name"')[2].split(b"\r\n")[2]
                self.known.add(name.decode())
            return answer(200, {"success": True})
        fields = json.loads(request.body)
        self.asked.append(f"{'inline' if 'ref_audio' in fields else 'name'} {len(fields['items'])}")
        results = [self.item(index, fields) for index in range(len(fields["items"]))]
        return answer(200, {"results": results})

    def item(self, index: int, fields: Any) -> dict[str, Any]:
        voice = fields.get("voice")
        told = {"index": index, "status": "error"}
        if fields["items"][index]["input"] == "bad":
            return {**told, "error": "Input text cannot be empty"}
        if voice in self.known or ("ref_audio" in fields and self.inline):
            audio = base64.b64encode(WAV).decode()
            done = {"index": index, "status": "success", "audio_data": audio}
            return {**done, "media_type": "audio/wav"}
        return {**told, "error": f"Unknown voice '{voice}'. CosyVoice3 has no built-in speakers."}


def batch() -> OpenaiWire:
    config = ClientConfig(voice=Voice(reference=CLIP, transcript="我在说话"))
    return OpenaiWire("http://tts/v1/audio/speech/batch", SpeechOptions.from_config(config))


def test_of_a_batch_a_voice_that_the_server_forgot_is_uploaded_again() -> None:
    server, speaker = Batches(inline=False), batch()
    assert len(speaker.exchange(["a", "b"], server, "r1")) == 2
    server.known.clear()
    results = speaker.exchange(["a", "b", "c"], server, "r2")
    assert all(isinstance(result, Payload) for result in results)
    assert server.asked == ["upload", "name 2", "name 3", "upload", "name 3"]
    speaker.exchange(["a"], server, "r3")
    assert server.asked[5:] == ["name 1"]


def test_only_the_items_that_lack_the_voice_are_asked_for_again() -> None:
    server, speaker = Batches(), batch()
    speaker.exchange(["a"], server, "r1")
    name = server.known.pop()

    def half(request: WireRequest) -> Reply:
        reply = server(request)
        if "name 3" in server.asked[-1]:  # one process behind the address has it, another not
            body = json.loads(reply.body)
            server.known.add(name)
            body["results"][1] = server.item(1, {"items": [{"input": "x"}] * 3, "voice": name})
            server.known.clear()
            reply.body = json.dumps(body).encode()
        return reply

    results = speaker.exchange(["bad", "b", "c"], half, "r2")
    assert isinstance(results[0], TextError)
    assert isinstance(results[1], Payload) and isinstance(results[2], Payload)
    assert server.asked == ["upload", "name 1", "name 3", "upload", "name 1"]


def test_where_an_upload_does_not_help_the_recording_goes_along() -> None:
    server, speaker = Batches(stays=False), batch()
    results = speaker.exchange(["a", "b"], server, "r1")
    assert all(isinstance(result, Payload) for result in results)
    assert server.asked == ["upload", "name 2", "upload", "name 2", "inline 2"]


def test_sound_that_came_is_kept_where_asking_again_fails() -> None:
    server, speaker = Batches(), batch()
    speaker.exchange(["a"], server, "r1")
    server.known.clear()
    calls = []

    def failing(request: WireRequest) -> Reply:
        calls.append(request)
        if len(calls) > 1:
            raise ConnectError("no connection")
        return server(request)

    [text, lost] = speaker.exchange(["bad", "b"], failing, "r2")
    assert isinstance(text, TextError) and isinstance(lost, ConnectError)


def test_a_loss_that_others_have_mended_is_not_mended_twice() -> None:
    server, speaker = Batches(), batch()
    speaker.exchange(["a"], server, "r1")
    name = server.known.pop()

    def late(request: WireRequest) -> Reply:
        reply = server(request)
        if server.asked[-1] == "name 1" and not server.known:
            # Meanwhile another thread learns of it, and uploads the voice.
            speaker.exchange(["a", "b"], server, "r2")
            assert server.known == {name}
        return reply

    assert isinstance(speaker.exchange(["a"], late, "r3")[0], Payload)
    assert server.asked.count("upload") == 2
