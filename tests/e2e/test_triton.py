"""The wire triton at the embedded server, which must answer as Triton does, over both ways."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from generated import kserve

from cosy_sync import CosyClient, Endpoint, RetryConfig, Voice
from cosy_sync.errors import (
    BadAudioError,
    BadRequestError,
    CosyError,
    CutError,
    TextError,
    UnavailableError,
)
from cosy_sync.models import wav_header
from cosy_sync.testing import Server, tone_wav

grpc = pytest.importorskip("grpc", reason="needs grpcio (extra grpc)")

ONCE = RetryConfig(max_retries=0, max_bad_audio=0)
CLIP = array("h", [(n * 977) % 20_000 - 10_000 for n in range(24_000)]).tobytes()
VOICE = Voice(reference=wav_header(16_000, 1, len(CLIP)) + CLIP, transcript="希望你好")
SCHEMES = ["http", "grpc"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, grpc_port=0, grpc_max_conc=16) as server:
        yield server


def connect(server: Server, scheme: str, model: str = "cosyvoice2", **settings: Any) -> CosyClient:
    url = server.grpc_url if scheme == "grpc" else server.base_url
    return CosyClient(url, wire="triton", model=model, **{"retry": ONCE, **settings})


def right(text: str) -> bytes:
    return tone_wav(text)[44:]


def post(server: Server, path: str, value: Any) -> tuple[int, Any]:
    """Return the status and the JSON that a plain request in JSON is answered with."""
    request = urllib.request.Request(server.base_url + path, json.dumps(value).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def tensor(name: str, datatype: str, data: list[Any], shape: tuple[int, int] = (1, 1)) -> Any:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


# -- the wire -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("model", ["cosyvoice2", "cosyvoice3"])
def test_each_model_speaks_with_a_recording(server: Server, scheme: str, model: str) -> None:
    with connect(server, scheme, model, voice=VOICE) as client:
        assert client.synth("你好，世界").pcm() == right("你好，世界")


def test_a_model_deployed_to_stream_is_reached_over_grpc_alone(server: Server) -> None:
    with connect(server, "grpc", "cosyvoice2_dit", voice=VOICE) as client:
        assert client.synth("你好").pcm() == right("你好")
    with connect(server, "http", "cosyvoice2_dit", voice=VOICE) as client:
        with pytest.raises(BadRequestError, match="gRPC address") as caught:
            client.synth("你好")
        assert caught.value.hopeless and caught.value.status == 501


def test_a_stream_begins_with_little_and_goes_on_with_more(server: Server) -> None:
    text = "第一位乘客请到七号窗口，谢谢您的耐心等候。"
    with connect(server, "grpc") as client, client.stream(text) as stream:
        chunks = list(stream)
    assert b"".join(chunks) == right(text)
    assert len(chunks[0]) == 2 * 24_000 * 0.6 < len(chunks[1])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_unknown_model_stops_the_call_at_once(server: Server, scheme: str) -> None:
    with connect(server, scheme, "cosyvoice9", retry=RetryConfig(base=0.01)) as client:
        outcomes = client.synth_many([f"第{n}句" for n in range(20)], on_error="return")
    errors = [outcome.error for outcome in outcomes]
    assert {type(error) for error in errors} == {BadRequestError}
    assert "give a name that the server has" in str(errors[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_punctuation_alone_is_nothing_to_speak(server: Server, scheme: str) -> None:
    with connect(server, scheme) as client, pytest.raises(TextError, match="nothing to speak"):
        client.synth("。。。")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_failing_model_says_its_reason(server: Server, scheme: str) -> None:
    with connect(server, scheme) as client:
        with pytest.raises(UnavailableError, match="the model failed: RuntimeError"):
            client.synth("这句[fail]不行")
        assert client.synth("这句可以").pcm() == right("这句可以")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_speech_cut_at_30_seconds_is_never_a_success(server: Server, scheme: str) -> None:
    text = "很长的一句话" * 120
    with connect(server, scheme, retry=RetryConfig(base=0.01)) as client:
        with pytest.raises(BadAudioError, match="shorter pieces") as caught:
            client.synth(text)
        assert caught.value.reason == "cut" and client.stats().retries == 0
        if scheme == "grpc":
            with pytest.raises(BadAudioError, match="shorter pieces"):
                client.stream(text).audio()


def test_a_stream_that_breaks_is_cut_and_keeps_what_came(server: Server) -> None:
    text = "第一位乘客请到七号窗口，谢谢您的耐心等候。"
    server.inject("cut")
    with connect(server, "grpc") as client, pytest.raises(CutError) as caught:
        client.stream(text).audio()
    assert caught.value.partial and right(text).startswith(caught.value.partial)


def test_one_client_may_have_endpoints_of_both_ways(server: Server) -> None:
    endpoints = [Endpoint(server.base_url), Endpoint(server.grpc_url)]
    with CosyClient(endpoints, wire="triton", model="cosyvoice2", retry=ONCE) as client:
        outcomes = client.synth_many([f"第{n}句" for n in range(12)], on_error="return")
    assert all(outcome.ok for outcome in outcomes)


# -- the server ---------------------------------------------------------------------------------


def test_it_understands_tensors_in_json_as_the_official_client_sends_them(server: Server) -> None:
    inputs = [
        tensor("reference_wav", "FP32", [[0.0, 0.1, 0.2]], (1, 3)),
        tensor("reference_wav_len", "INT32", [[3]]),
        tensor("reference_text", "BYTES", ["希望你好"]),
        tensor("target_text", "BYTES", ["你好"]),
    ]
    status, value = post(server, "/v2/models/cosyvoice3/infer?request_id=0", {"inputs": inputs})
    assert status == 200
    (output,) = value["outputs"]
    samples = [round(each * 32768) for each in output["data"]]
    assert (output["name"], output["shape"]) == ("waveform", [1, len(samples)])
    assert struct.pack(f"<{len(samples)}h", *samples) == right("你好")


@pytest.mark.parametrize(
    ("model", "inputs", "status", "said"),
    [
        ("nope", [], 404, "Request for unknown model: 'nope' is not found"),
        (
            "cosyvoice2",
            [],
            400,
            "expected number of inputs between 1 and 4 but got 0 inputs for model 'cosyvoice2'. "
            "Got input(s) [], but missing required input(s) ['target_text'].",
        ),
        ("cosyvoice2", [tensor("text", "BYTES", ["a"])], 400, "unexpected inference input 'text'"),
        (
            "cosyvoice2",
            [{"name": "target_text", "datatype": "BYTES", "shape": [1], "data": ["a"]}],
            400,
            "unexpected shape for input 'target_text'",
        ),
        (
            "cosyvoice2",
            [tensor("target_text", "BYTES", ["a"], (1, 2))],
            400,
            "unexpected shape for input 'target_text' for model 'cosyvoice2'. Expected [-1,1], "
            "got [1,2].",
        ),
        (
            "cosyvoice2",
            [tensor("target_text", "FP32", [1.0])],
            400,
            "inference input 'target_text' data-type is 'FP32', but model 'cosyvoice2' expects "
            "'BYTES'",
        ),
        (
            "cosyvoice2",
            [tensor("reference_wav", "FP32", [0.1, 0.2], (1, 3))],
            400,
            "unexpected size for input 'reference_wav', expecting 4 additional bytes",
        ),
        (
            "cosyvoice2",
            [tensor("reference_wav", "FP32", [0.1, 0.2], (1, 1))],
            400,
            "unexpected additional input data",
        ),
        ("cosyvoice2/versions/9", [], 404, "'cosyvoice2' version 9 is not found"),
        ("cosyvoice2", [{"name": "target_text"}], 400, "failed to parse"),
        ("cosyvoice3", [tensor("target_text", "BYTES", ["a"])], 500, "AttributeError"),
    ],
)
def test_it_refuses_as_triton_does(server: Server, model, inputs, status, said) -> None:
    got, value = post(server, f"/v2/models/{model}/infer", {"inputs": inputs})
    assert got == status and said in value["error"]


def get(server: Server, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(server.base_url + path, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/health/live", "/v2/health/ready", "/v2/models/cosyvoice2/ready"),
        "/v2/models/cosyvoice2/versions/1/ready",
    ],
)
def test_it_tells_that_it_is_ready(server: Server, path: str) -> None:
    assert get(server, path) == (200, b"")


@pytest.mark.parametrize("path", ["x", "cosyvoice2/versions/9"])
def test_a_model_that_it_does_not_have_is_not_ready(server: Server, path: str) -> None:
    status, body = get(server, f"/v2/models/{path}/ready")
    assert (status, json.loads(body)) == (400, {"error": "Model version not ready"})


def test_it_describes_itself_and_its_models(server: Server) -> None:
    assert json.loads(get(server, "/v2")[1])["name"] == "triton"
    status, body = get(server, "/v2/models/cosyvoice2")
    told = json.loads(body)
    assert status == 200 and told["versions"] == ["1"]
    assert [each["name"] for each in told["inputs"]][-1] == "target_text"
    assert told["outputs"] == [{"name": "waveform", "datatype": "FP32", "shape": [-1, -1]}]
    status, body = get(server, "/v2/models/x")
    assert (status, json.loads(body)["error"]) == (
        404,
        "Request for unknown model: 'x' is not found",
    )


def test_another_output_is_refused(server: Server) -> None:
    asked = {"inputs": [tensor("target_text", "BYTES", ["a"])], "outputs": [{"name": "audio"}]}
    status, value = post(server, "/v2/models/cosyvoice2/infer", asked)
    assert (status, value["error"]) == (
        400,
        "unexpected inference output 'audio' for model 'cosyvoice2'",
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x09\0\0\0ab", "expecting string of length 9 but only 2 bytes available"),
        (b"\x01\0\0\0ab", "unexpected additional input data"),
        (b"ab", "only 0 bytes available"),
    ],
)
def test_a_text_of_another_length_than_it_says_is_refused(server: Server, data, said) -> None:
    told = {"name": "target_text", "datatype": "BYTES", "shape": [1, 1]}
    head = json.dumps({"inputs": [{**told, "parameters": {"binary_data_size": len(data)}}]})
    request = urllib.request.Request(
        server.base_url + "/v2/models/cosyvoice2/infer",
        head.encode() + data,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    with caught.value as error:
        assert error.code == 400 and said in json.load(error)["error"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_version_is_the_models_own(server: Server, scheme: str) -> None:
    root = server.grpc_url if scheme == "grpc" else server.base_url
    url = f"{root}/v2/models/cosyvoice2/versions/"
    with CosyClient(url + "1", wire="auto", retry=ONCE) as client:
        assert client.synth("你好").pcm() == right("你好")
    with (
        CosyClient(url + "9", wire="auto", retry=ONCE) as client,
        pytest.raises(BadRequestError, match="version 9 is not found; give a version") as caught,
    ):
        client.synth("你好")
    assert caught.value.hopeless and caught.value.status == 404


def test_code_made_by_protoc_hears_it_and_is_told_the_last_response(server: Server) -> None:
    messages, stubs = kserve()
    ask = messages.ModelInferRequest(model_name="cosyvoice2", id="7")
    ask.inputs.add(name="target_text", datatype="BYTES", shape=[1, 1])
    ask.raw_input_contents.append(struct.pack("<I", 6) + "你好".encode())
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        replies = [each.infer_response for each in stub.ModelStreamInfer(iter([ask]), timeout=10)]
        ask.model_name = "nope"
        (refused,) = stub.ModelStreamInfer(iter([ask]), timeout=10)
    *chunks, last = replies
    final = [each.parameters["triton_final_response"].bool_param for each in replies]
    assert final == [False] * len(chunks) + [True] and not last.outputs
    floats = b"".join(each.raw_output_contents[0] for each in chunks)
    assert {each.id for each in replies} == {"7"}
    samples = [round(each * 32768) for (each,) in struct.iter_unpack("<f", floats)]
    assert struct.pack(f"<{len(samples)}h", *samples) == right("你好")
    assert "unknown model" in refused.error_message


def test_a_key_is_asked_for_on_both_ways() -> None:
    with Server(latency=0, grpc_port=0, api_key="right") as server:
        for scheme in SCHEMES:
            with connect(server, scheme, api_key="right") as client:
                assert client.synth("你好").pcm() == right("你好")
            with connect(server, scheme) as client, pytest.raises(CosyError, match="api_key"):
                client.synth("你好")
