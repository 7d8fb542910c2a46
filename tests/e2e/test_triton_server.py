"""The wire triton against a real Triton server that has a repository of models as CosyVoice's:
streaming, its failures, its end, and whether the embedded server answers as it does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from triton_model import BREAK, FAIL, SLOW, speech
from triton_start import Triton, started

from cosy_sync import CosyClient, Endpoint, RetryConfig, Voice
from cosy_sync.errors import (
    BadRequestError,
    ConnectError,
    CosyError,
    CutError,
    TextError,
    UnavailableError,
)
from cosy_sync.models import wav_header
from cosy_sync.testing import Server

ONCE = RetryConfig(max_retries=0, max_bad_audio=0)
CLIP = array("h", [(n * 977) % 20_000 - 10_000 for n in range(24_000)])
SAMPLES = array("f", [each / 32768 for each in CLIP]).tobytes()
VOICE = Voice(reference=wav_header(16_000, 1, 48_000) + CLIP.tobytes(), transcript="希望你好")
TEXTS = [f"第{number}位乘客，{'请到' * (number % 9)}{number % 7}号窗口" for number in range(500)]
# Longer than the two chunks that are sent before a model breaks off.
LONG = "第一位乘客请到七号窗口，谢谢您的耐心等候。"
WAYS = [
    ("http", "cosyvoice2_offline"),
    ("http", "cosyvoice3_offline"),
    ("grpc", "cosyvoice2"),
    ("grpc", "cosyvoice2_offline"),
    ("grpc", "cosyvoice3"),
    ("grpc", "cosyvoice3_offline"),
]
READY = sorted({model for _, model in WAYS} | {"further"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("triton")
    with started("triton_server.py", folder, str(folder), models=READY) as triton:
        yield triton


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """One that a test may kill."""
    folder = tmp_path_factory.mktemp("mortal")
    names = ("cosyvoice2", "cosyvoice2_offline")
    with started("triton_server.py", folder, str(folder), *names, models=names) as triton:
        yield triton


def connect(url: Any, model: str, **settings: Any) -> CosyClient:
    voice = VOICE if model.startswith("cosyvoice3") else None
    return CosyClient(
        url, wire="triton", model=model, **{"voice": voice, "retry": ONCE, **settings}
    )


def right(text: str, model: str) -> bytes:
    return speech(text, "希望你好", SAMPLES) if model.startswith("cosyvoice3") else speech(text)


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_each_of_500_texts_gets_its_own_speech(server: Triton, scheme: str, model: str) -> None:
    with connect(server.at(scheme), model) as client:
        outcomes = client.synth_many(TEXTS, on_error="return")
    assert [outcome.error for outcome in outcomes] == [None] * len(TEXTS)
    assert [each.audio.pcm() for each in outcomes] == [right(text, model) for text in TEXTS]


def test_streams_side_by_side_are_not_mixed_up(server: Triton) -> None:
    with connect(server.grpc, "cosyvoice2") as client, ThreadPoolExecutor(8) as pool:

        def hear(text: str) -> list[bytes]:
            with client.stream(text) as stream:
                return list(stream)

        heard = list(pool.map(hear, TEXTS[:40]))
    assert [b"".join(chunks) for chunks in heard] == [speech(text) for text in TEXTS[:40]]
    assert min(map(len, heard)) > 1


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_a_failing_model_says_its_reason_and_not_the_text(server, scheme: str, model: str) -> None:
    with connect(server.at(scheme), model) as client:
        with pytest.raises(UnavailableError, match=r"the model failed: (\w+: )?no sound") as caught:
            client.synth(f"这句{FAIL}说不出来")
        assert "说不出来" not in str(caught.value)
        assert client.synth("下一句").pcm() == right("下一句", model)


@pytest.mark.parametrize("model", ["cosyvoice2", "cosyvoice3"])
def test_a_model_that_fails_behind_sound_is_cut_and_never_a_success(server, model: str) -> None:
    text = BREAK + LONG
    with connect(server.grpc, model) as client:
        with pytest.raises(CutError, match="lost the thread"):
            client.synth(text)
        with pytest.raises(CutError, match="lost the thread") as caught:
            client.stream(text).audio()
        assert right(text, model).startswith(caught.value.partial)
        assert len(caught.value.partial) == 2 * 40 * 960


@pytest.mark.parametrize(("scheme", "model"), WAYS)
def test_no_sample_is_nothing_to_speak(server: Triton, scheme: str, model: str) -> None:
    with connect(server.at(scheme), model) as client, pytest.raises(TextError, match="nothing"):
        client.synth("。。")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize(
    ("model", "kind", "told", "hopeless"),
    [
        ("broken", UnavailableError, "the model is not loaded, or not yet", False),
        ("further", BadRequestError, "other tensors", True),
        ("cosyvoice9", BadRequestError, "give a name that the server has", True),
        ("cosyvoice2", BadRequestError, "give the server's gRPC address", True),
    ],
)
def test_each_refusal_says_what_to_do(server, scheme, model, kind, told, hopeless) -> None:
    if (scheme, model) == ("http", "further"):
        told = "gRPC address"
    if (scheme, model) == ("grpc", "cosyvoice2"):
        pytest.skip("it streams, which gRPC can carry")
    with connect(server.at(scheme), model) as client, pytest.raises(kind, match=told) as caught:
        client.synth("你好")
    assert caught.value.hopeless is hopeless


@pytest.mark.parametrize("command", ["doctor", "voices"])
@pytest.mark.parametrize(
    ("scheme", "model", "code"),
    [
        ("grpc", "cosyvoice2", 0),
        ("http", "cosyvoice2_offline", 0),
        ("grpc", "broken", 1),
    ],
)
def test_the_commands_reach_it(server, command: str, scheme: str, model: str, code: int) -> None:
    options = ["--url", server.at(scheme), "--wire", "triton", "--model", model]
    done = subprocess.run(
        [sys.executable, "-m", "cosy_sync", command, *options], capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    if command == "doctor":
        assert done.returncode == code
        assert ("all is well" if code == 0 else "the model is not loaded") in said
    else:
        assert "gives no list" in said


@pytest.mark.parametrize(
    ("scheme", "model"), [("grpc", "cosyvoice2"), ("http", "cosyvoice2_offline")]
)
def test_a_server_that_is_killed_never_makes_a_success(mortal, scheme: str, model: str) -> None:
    text = SLOW + LONG * 3
    with connect(mortal.at(scheme), model) as client:
        assert client.synth("你好").pcm() == speech("你好")
        if scheme == "grpc":
            with pytest.raises(CutError) as caught, client.stream(text) as stream:
                heard = next(stream)
                mortal.kill()
                for chunk in stream:
                    heard += chunk
            assert speech(text).startswith(heard) and caught.value.partial == heard
        else:
            job = client.submit(text)
            threading.Event().wait(0.4)
            mortal.kill()
            with pytest.raises(CosyError) as caught:
                job.result(20)
            assert caught.value.retryable
        with pytest.raises(ConnectError):
            client.synth("你好")


def test_what_a_killed_server_had_is_spoken_by_the_other(server: Triton, mortal: Triton) -> None:
    both = [Endpoint(server.grpc), Endpoint(mortal.grpc)]
    spoken: list[bytes] = []
    with connect(both, "cosyvoice2", retry=RetryConfig(base=0.05)) as client:
        for outcome in client.synth_iter(TEXTS[:120]):
            assert outcome.error is None
            spoken.append(outcome.audio.pcm())
            if len(spoken) == 20:
                mortal.kill()
    assert sorted(spoken) == sorted(map(speech, TEXTS[:120]))


# -- the embedded server ------------------------------------------------------------------------


def ask(url: str, value: Any = None) -> tuple[int, str]:
    """Return the status and what is said, without the request's id and what may be further said."""
    body = None if value is None else json.dumps(value).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as reply:
            return reply.status, ""
    except urllib.error.HTTPError as error:
        with error:
            status, said = error.code, json.load(error)["error"]
    return status, re.sub(r"^\[request id: [^\]]*\] | NOTE: .*", "", said)


def tensor(name: str, datatype: str, data: list[Any], shape: tuple[int, ...] = (1, 1)) -> Any:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


TARGET = tensor("target_text", "BYTES", ["你好"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", None),
        ("/health/live", None),
        ("/models/cosyvoice2", None),
        ("/models/nope", None),
        ("/models/cosyvoice2/ready", None),
        ("/models/cosyvoice2/versions/1/ready", None),
        ("/models/nope/ready", None),
        ("/models/cosyvoice2/versions/9/infer", {"inputs": [TARGET]}),
        ("/models/cosyvoice2/versions/1/infer", {"inputs": [TARGET]}),
        ("/models/nope/infer", {"inputs": [TARGET]}),
        ("/models/cosyvoice2/infer", {"inputs": [TARGET]}),
        ("/models/cosyvoice2/infer", {"inputs": []}),
        ("/models/cosyvoice2/infer", {"inputs": [tensor("text", "BYTES", ["a"])]}),
        ("/models/cosyvoice2/infer", {"inputs": [TARGET, tensor("speed", "FP32", [1.0])]}),
        ("/models/cosyvoice2/infer", {"inputs": [tensor("target_text", "FP32", [1.0])]}),
        ("/models/cosyvoice2/infer", {"inputs": [tensor("target_text", "BYTES", ["a"], (1,))]}),
        ("/models/cosyvoice2/infer", {"inputs": [tensor("target_text", "BYTES", ["a"], (1, 2))]}),
        ("/models/cosyvoice2/infer", {"inputs": [TARGET], "outputs": [{"name": "audio"}]}),
    ],
)
def test_the_embedded_server_says_the_same(server: Triton, path: str, value: Any) -> None:
    # Over HTTP the embedded server's cosyvoice2 is deployed not to stream.
    there = path.replace("/cosyvoice2", "/cosyvoice2_offline")
    status, said = ask(f"{server.http}/v2{there}", value)
    with Server(latency=0) as embedded:
        assert ask(f"{embedded.base_url}/v2{path}", value) == (
            status,
            said.replace("cosyvoice2_offline", "cosyvoice2"),
        )
