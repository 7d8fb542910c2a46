"""What no client should send: the embedded server refuses it, and does not fail."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cosy_sync.testing import Server

TENSOR = {"name": "target_text", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]}
WAV = {"name": "reference_wav", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
INFER, SPEECH = "/v2/models/cosyvoice2/infer", "/v1/audio/speech"
PAI = {"mode": "fast_replication", "reference_audio_id": "中文女", "text": "hi\ud800"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0) as server:
        yield server


def post(server: Server, path: str, body: bytes) -> int:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.base_url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (INFER, {"inputs": ["x"]}),
        (INFER, {"inputs": [{**TENSOR, "data": [5]}]}),
        (INFER, {"inputs": [{**WAV, "shape": [1, "x"]}, TENSOR]}),
        (INFER, {"inputs": [{**WAV, "data": [1e300]}, TENSOR]}),
        (SPEECH, {"input": "hi\ud800"}),
        (SPEECH, {"input": "hi", "speed": 10**400}),
        (SPEECH, {"input": "hi", "sample_rate": 10**400}),
        ("/batch", {"texts": ["hi"], "speed": 10**400}),
        ("/batch", {"texts": ["hi"], "sample_rate": 10**400}),
        ("/api/v1/audio/speech", {"model": "CosyVoice2-0.5B", "input": PAI}),
    ],
)
def test_json_that_no_client_sends_is_the_callers_fault(
    server: Server, path: str, value: Any
) -> None:
    assert post(server, path, json.dumps(value).encode()) == 400


@pytest.mark.parametrize("path", [INFER, SPEECH, "/batch"])
def test_json_nested_too_deep_is_the_callers_fault(server: Server, path: str) -> None:
    assert post(server, path, b"[" * 100_000) == 400


@pytest.mark.parametrize(
    "value",
    [
        {"inputs": [{**TENSOR, "parameters": None}]},
        {"inputs": [TENSOR], "parameters": "x"},
        {"inputs": [TENSOR], "outputs": [{"name": "waveform", "parameters": None}]},
    ],
)
def test_parameters_that_are_no_object_are_none(server: Server, value: Any) -> None:
    assert post(server, INFER, json.dumps(value).encode()) == 200
