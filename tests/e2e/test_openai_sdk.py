"""The real openai SDK against the embedded server: where they disagree, the server is wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cosy_sync.testing import Server, tone_wav
from cosy_sync.wires.sse import SseParser
from tests.e2e.scripted import eventually

openai = pytest.importorskip("openai", reason="needs the openai SDK (extra test)")

FREE: dict[str, Any] = {"latency": 0.0, "max_connections": 0, "rate": 0, "seed": 1}
KEY = "sk-secret-0123"
MODEL = "FunAudioLLM/Fun-CosyVoice3-0.5B-2512"
ASKED: dict[str, Any] = {"model": MODEL, "voice": "中文女", "input": "你好，我的朋友"}
WAV = tone_wav("你好，我的朋友")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(api_key=KEY, **FREE) as running:
        yield running


@pytest.fixture
def sdk(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_create_gives_the_sound(sdk: Any) -> None:
    answer = sdk.audio.speech.create(**ASKED)
    assert answer.content == WAV
    assert answer.response.headers["content-type"] == "audio/wav"


def test_every_argument_of_create_is_understood(sdk: Any) -> None:
    answer = sdk.audio.speech.create(
        **ASKED, response_format="pcm", speed=2.0, instructions="轻声", stream_format="audio"
    )
    assert answer.content == tone_wav("你好，我的朋友", speed=2.0)[44:]
    answer = sdk.audio.speech.create(**ASKED, extra_body={"sample_rate": 16_000, "seed": 1})
    assert answer.content == tone_wav("你好，我的朋友", sample_rate=16_000)


def test_the_sound_can_be_read_as_it_comes(sdk: Any) -> None:
    create = sdk.audio.speech.with_streaming_response.create
    with create(**ASKED, response_format="pcm", stream_format="audio") as answer:
        pieces = list(answer.iter_bytes(1_000))
    assert b"".join(pieces) == WAV[44:]
    with create(**ASKED, extra_body={"stream": True, "stream_format": "audio"}) as answer:
        data = answer.read()
    assert (data[:8], data[40:44]) == (b"RIFF\xff\xff\xff\xff", b"\xff\xff\xff\xff")
    assert data[44:] == WAV[44:]


def test_events_are_events(sdk: Any) -> None:
    create = sdk.audio.speech.with_streaming_response.create
    parser, events = SseParser(), []
    with create(**ASKED, stream_format="sse") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for piece in answer.iter_bytes():
            events += [json.loads(event.data) for event in parser.feed(piece)]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == WAV[44:]
    assert (done["type"], done["usage"]["total_tokens"] > 0) == ("speech.audio.done", True)


@pytest.mark.parametrize(
    ("wrong", "kind", "status"),
    [
        ({"voice": "nobody"}, "BadRequestError", 400),
        ({"input": ""}, "BadRequestError", 400),
        ({"speed": 9}, "BadRequestError", 400),
        ({"response_format": "mp3"}, "BadRequestError", 400),
    ],
)
def test_errors_are_the_sdks_own(sdk: Any, wrong: Any, kind: str, status: int) -> None:
    with pytest.raises(getattr(openai, kind)) as caught:
        sdk.audio.speech.create(**{**ASKED, **wrong})
    assert caught.value.status_code == status
    assert caught.value.type == kind
    assert isinstance(caught.value.body["message"], str)


def test_a_wrong_key_is_an_authentication_error(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="x", max_retries=0) as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            sdk.audio.speech.create(**ASKED)
        assert caught.value.response.json() == {"error": "Unauthorized"}
        with pytest.raises(openai.AuthenticationError):
            sdk.models.list()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("throttle", "RateLimitError"),
        ("status-500", "InternalServerError"),
        ("status-503", "InternalServerError"),
        ("reset", "APIConnectionError"),
    ],
)
def test_troubles_are_the_sdks_own(server: Server, sdk: Any, fault: str, kind: str) -> None:
    server.inject(fault)
    with pytest.raises(getattr(openai, kind)):
        sdk.audio.speech.create(**ASKED)


def test_the_sdk_overcomes_a_refusal_by_its_retry_after(server: Server, sdk: Any) -> None:
    server.inject("throttle-ms")
    assert sdk.with_options(max_retries=1).audio.speech.create(**ASKED).content == WAV


def test_models_are_listed(sdk: Any) -> None:
    assert [model.id for model in sdk.models.list()] == [MODEL]


def test_a_time_out_hangs_up_and_the_server_sees_it() -> None:
    with Server(**{**FREE, "latency": 60.0}) as slow:
        with (
            openai.OpenAI(
                base_url=f"{slow.base_url}/v1", api_key="x", max_retries=0, timeout=0.3
            ) as sdk,
            pytest.raises(openai.APITimeoutError),
        ):
            sdk.audio.speech.create(**ASKED)
        assert eventually(lambda: slow.stats()["connections_now"] == 0)


def test_a_stream_that_is_closed_early_ends_at_the_server(server: Server, sdk: Any) -> None:
    server.inject("stall-mid")
    create = sdk.audio.speech.with_streaming_response.create
    with create(**ASKED, response_format="pcm", stream_format="audio") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == WAV[44:][:9_600]
        assert server.stats()["connections_now"] == 1
    assert eventually(lambda: server.stats()["connections_now"] == 0)


def test_the_async_sdk_and_its_cancel(server: Server) -> None:
    async def run(sdk: Any) -> list[bytes]:
        calls = [sdk.audio.speech.create(**{**ASKED, "input": f"第{n}句"}) for n in range(20)]
        sounds = [answer.content for answer in await asyncio.gather(*calls)]
        server.inject("stall")
        stuck = asyncio.create_task(sdk.audio.speech.create(**ASKED))
        await asyncio.sleep(0.2)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        await sdk.close()
        return sounds

    made = openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=KEY, max_retries=0)
    assert asyncio.run(run(made)) == [tone_wav(f"第{n}句") for n in range(20)]
    assert eventually(lambda: server.stats()["connections_now"] == 0)


def test_many_threads_share_one_sdk(server: Server, sdk: Any) -> None:
    sounds: dict[int, bytes] = {}

    def speak(number: int) -> None:
        sounds[number] = sdk.audio.speech.create(**{**ASKED, "input": f"第{number}句"}).content

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sounds == {number: tone_wav(f"第{number}句") for number in range(20)}
