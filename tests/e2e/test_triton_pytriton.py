"""The wire triton against a real Triton server, with models that pytriton binds.

It needs a Python with nvidia-pytriton, which brings the server (370 MB), and whose libpython is a
shared library: this one, or that of COSY_SYNC_PYTRITON=/path/to/python.
"""

from array import array
from collections.abc import Iterator

import pytest
from triton_model import FAIL, MODELS, SLOW, speech
from triton_start import Triton, started

from cosy_sync import CosyClient, Endpoint, RetryConfig, Voice
from cosy_sync.errors import (
    BadRequestError,
    ConfigError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.models import wav_header

ONCE = RetryConfig(max_retries=0, max_bad_audio=0)
TEXTS = [f"第{number}位乘客请到{number % 7}号窗口" for number in range(24)]
TEXT = '你好 & "a+b=1%"\r\n--x\r\n😀'
CLIP = array("h", [(n * 977) % 20_000 - 10_000 for n in range(24_000)])
RECORDING = wav_header(16_000, 1, 48_000) + CLIP.tobytes()
# As the models get it.
SAMPLES = array("f", [each / 32768 for each in CLIP]).tobytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with started("triton_model.py", tmp_path_factory.mktemp("triton"), models=MODELS) as triton:
        yield triton


def connect(url: str, model: str, **settings: object) -> CosyClient:
    return CosyClient(url, wire="triton", model=model, **{"retry": ONCE, **settings})  # type: ignore[arg-type]


WAYS = [("http", "cosyvoice2"), ("grpc", "cosyvoice2"), ("grpc", "cosyvoice2_dit")]


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_every_text_gets_what_the_model_made_of_it(server, scheme: str, model: str) -> None:
    with connect(server.at(scheme), model) as client:
        assert client.synth(TEXT).pcm() == speech(TEXT)
        outcomes = client.synth_many(TEXTS, on_error="return")
        assert [outcome.error for outcome in outcomes] == [None] * len(TEXTS)
        assert [each.audio.pcm() for each in outcomes] == [*map(speech, TEXTS)]


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_the_model_gets_the_recording_and_its_transcript(server, scheme: str, model: str) -> None:
    voice = Voice(reference=RECORDING, transcript="希望你好")
    with connect(server.at(scheme), model, voice=voice) as client:
        assert client.synth("你好").pcm() == speech("你好", "希望你好", SAMPLES)


def test_a_model_that_streams_is_heard_chunk_by_chunk(server) -> None:
    with connect(server.grpc, "cosyvoice2_dit") as client:
        with client.stream(TEXTS[0]) as stream:
            chunks = list(stream)
        assert len(chunks) > 3 and b"".join(chunks) == speech(TEXTS[0])
        with client.stream(TEXTS[1]) as stream:
            next(stream)
        assert client.synth(TEXTS[2]).pcm() == speech(TEXTS[2])
        assert client.stats().in_flight == 0


def test_a_model_that_does_not_stream_is_one_chunk_of_a_stream(server) -> None:
    with connect(server.grpc, "cosyvoice2") as client, client.stream(TEXTS[0]) as stream:
        assert list(stream) == [speech(TEXTS[0])]


def test_http_is_refused_by_a_model_that_streams_with_the_way_out(server) -> None:
    with connect(server.http, "cosyvoice2_dit") as client:
        with pytest.raises(BadRequestError, match="give the server's gRPC address") as caught:
            client.synth("你好")
        assert caught.value.hopeless
        with pytest.raises(ConfigError, match="give the server's gRPC address"):
            client.stream("你好")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_an_unknown_model_is_named(server, scheme: str) -> None:
    with connect(server.at(scheme), "cosyvoice9") as client:
        with pytest.raises(BadRequestError, match="'cosyvoice9' is not found; give a name") as told:
            client.synth("你好")
        assert told.value.hopeless and told.value.status == 404


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_an_unknown_version_is_the_models_own(server, scheme: str) -> None:
    url = f"{server.at(scheme)}/v2/models/cosyvoice2/versions/"
    with CosyClient(url + "1", wire="auto", retry=ONCE) as client:
        assert client.synth("你好").pcm() == speech("你好")
    with (
        CosyClient(url + "9", wire="auto", retry=ONCE) as client,
        pytest.raises(BadRequestError, match="give a version") as caught,
    ):
        client.synth("你好")
    assert caught.value.hopeless


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_a_failure_of_the_model_says_its_reason_and_not_the_text(server, scheme, model) -> None:
    text = f"这句话{FAIL}说不出来"
    with connect(server.at(scheme), model) as client:
        with pytest.raises(UnavailableError, match=r"the model failed: RuntimeError: ") as caught:
            client.synth(text)
        assert "说不出来" not in str(caught.value)
        assert client.synth("下一句").pcm() == speech("下一句")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_full_queue_is_too_much_at_a_time(server, scheme: str) -> None:
    endpoint = Endpoint(server.at(scheme), max_connections=6)
    texts = [f"{SLOW}{number}" for number in range(6)]
    with connect(endpoint, "cosyvoice2_queue") as client:  # type: ignore[arg-type]
        outcomes = client.synth_many(texts, on_error="return")
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert 0 < len(errors) < len(texts)
    assert all(isinstance(error, ThrottledError) and error.crowded for error in errors)
