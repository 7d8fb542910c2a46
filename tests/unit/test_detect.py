"""`wire="auto"`: what URLs give away, what is asked where they do not, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cosy_sync import ClientConfig, ConfigError, CosyClient, Endpoint
from cosy_sync.detect import detect_wire, wire_of_url
from cosy_sync.wires import known_wires

ALIBABA = "/api/v1/services/audio/tts/SpeechSynthesizer"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("wss://dashscope.aliyuncs.com/api-ws/v1/inference", "dashscope_ws"),
        ("ws://localhost:8000/batch", "dashscope_ws"),
        ("grpc://localhost:50000", "runtime_grpc"),
        ("grpcs://tts.example.com", "runtime_grpc"),
        ("https://dashscope.aliyuncs.com", "dashscope_http"),
        ("https://dashscope-intl.aliyuncs.com" + ALIBABA, "dashscope_http"),
        ("https://DashScope.aliyuncs.com/api/v1", "dashscope_http"),
        ("https://ws-123.cn-beijing.maas.aliyuncs.com/api/v1", "dashscope_http"),
        ("http://gateway.example.com/ali" + ALIBABA, "dashscope_http"),
        ("https://api.siliconflow.cn", "openai"),
        ("https://api.siliconflow.com/v1", "openai"),
        ("http://localhost:8000/v1", "openai"),
        ("http://localhost:8000/v1/", "openai"),
        ("http://localhost:8000/v1/audio/speech?x=1", "openai"),
        ("http://localhost:8000/v1/audio/speech/batch", "openai"),
        ("http://localhost:50000/inference_sft", "runtime_http"),
        ("http://localhost:50000/inference_zero_shot/", "runtime_http"),
        ("http://localhost:50000/gate/inference_instruct2", "runtime_http"),
        ("http://localhost:50000/api/inference/zero-shot", "runtime_http"),
        ("http://localhost:50000/api/inference", "runtime_http"),
        ("http://localhost:8000/v2/models/cosyvoice2", "triton"),
        ("http://localhost:8000/gate/v2/models/cosyvoice2/versions/1/infer", "triton"),
        ("grpc://localhost:8001/v2/models/cosyvoice2", "triton"),
        ("http://localhost:8000/v2/models", None),
        ("https://tts.example.com/batch", "batch"),
        ("https://tts.example.com/tts/batch/", "batch"),
        ("https://tts.example.com", None),
        ("https://tts.example.com/speak", None),
        ("https://tts.example.com/mybatch", None),
        ("https://tts.example.com/inference_sft/more", None),
        ("https://tts.example.com/speak?next=/batch", None),
        ("https://dashscope.aliyuncs.com.evil.example", None),
        ("https://notdashscope.example.com", None),
        ("https://maas.aliyuncs.com", None),
        ("https://api.siliconflow.cn.evil.example", None),
    ],
)
def test_urls_that_give_it_away(url: str, wire: str | None) -> None:
    assert wire_of_url(url) == wire


def paths(*names: str) -> httpx.Response:
    return httpx.Response(200, json={"openapi": "3.1.0", "paths": {name: {} for name in names}})


class Service:
    """Answers what it knows, 404 else, and keeps the requests."""

    def __init__(self, **answers: httpx.Response | Exception) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        name = request.url.path.rpartition("/")[2].partition(".")[0]
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(404) if answer is None else answer

    @property
    def asked(self) -> list[str]:
        return [str(request.url) for request in self.requests]


def detect(answer: Answer, *urls: str, **settings: Any) -> str:
    endpoints = [Endpoint(url) for url in urls or ("http://tts.example.com",)]
    client = httpx.Client(transport=httpx.MockTransport(answer))
    return detect_wire(endpoints, ClientConfig(wire="auto", **settings), client)


@pytest.mark.parametrize(
    ("named", "wire"),
    [
        (["/inference_sft", "/inference_zero_shot"], "runtime_http"),
        (["/v1/models", "/v1/audio/speech", "/v1/audio/speech/batch"], "openai"),
        (["/tts/v1/audio/speech", "/inference_sft"], "runtime_http"),
        (["/batch", "/health"], "batch"),
        (["/batch", "/v1/audio/speech"], "openai"),
        ([ALIBABA], "dashscope_http"),
    ],
)
def test_a_service_that_describes_its_paths_is_known_by_them(named: list[str], wire: str) -> None:
    service = Service(openapi=paths(*named))
    assert detect(service) == wire
    assert service.asked == ["http://tts.example.com/openapi.json"]


@pytest.mark.parametrize(
    "described",
    [
        None,
        httpx.Response(401),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["/batch"]),
        httpx.Response(200, json={"paths": ["/batch"]}),
        paths("/else"),
        # Of 2024: it is asked at /api/inference, so its root will not do.
        paths("/api/inference/sft"),
        httpx.ReadTimeout("slow"),
    ],
)
def test_a_list_of_models_tells_of_openai(described: Any) -> None:
    answers = {"models": httpx.Response(200, json={"object": "list", "data": []})}
    service = Service(**answers) if described is None else Service(openapi=described, **answers)
    assert detect(service, "http://tts.example.com/gate/?key=1") == "openai"
    assert service.asked == [
        "http://tts.example.com/gate/openapi.json?key=1",
        "http://tts.example.com/gate/v1/models?key=1",
    ]


def test_what_was_tried_is_told_where_nothing_fits() -> None:
    service = Service(openapi=paths("/else"), models=httpx.Response(401))
    with pytest.raises(ConfigError) as caught:
        detect(service, "http://tts.example.com/gate?key=secret", api_key="sk-secret")
    assert caught.value.message == (
        "wire: nothing tells what http://tts.example.com/gate speaks (GET /gate/openapi.json: HTTP "
        "200, with nothing known in it, and GET /gate/v1/models: HTTP 401, check api_key); give "
        f"its name, one of {', '.join(known_wires())}, and check the URL"
    )


def test_a_service_that_is_not_there_is_asked_once() -> None:
    service = Service(openapi=httpx.ConnectError("refused"))
    with pytest.raises(ConfigError, match=r"openapi.json: cannot connect\); .+ give its name"):
        detect(service)
    assert len(service.requests) == 1


def test_the_key_and_the_users_headers_go_along() -> None:
    service = Service(openapi=paths("/batch"))
    detect(service, api_key="sk-1", headers={"X-Gate": "g", "accept": "*/*"})
    (request,) = service.requests
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.headers["x-gate"] == "g"
    assert request.headers.get_list("accept") == ["*/*"]
    service = Service(openapi=paths("/batch"))
    detect(service, api_key="sk-1", headers={"Authorization": "Basic x"})
    assert service.requests[0].headers.get_list("authorization") == ["Basic x"]


def test_nobody_is_asked_whose_url_gives_it_away() -> None:
    service = Service()
    assert detect(service, "http://a.example.com/batch", "http://b.example.com/batch") == "batch"
    assert service.requests == []


def test_endpoints_must_agree() -> None:
    service = Service(openapi=paths("/v1/audio/speech"))
    urls = ("http://a.example.com", "http://b.example.com/v1")
    assert detect(service, *urls) == "openai"
    with pytest.raises(ConfigError) as caught:
        detect(service, "http://a.example.com", "http://b.example.com/batch")
    assert caught.value.message == (
        "wire: a client speaks one, but http://a.example.com speaks openai, "
        "http://b.example.com/batch speaks batch; make a client for each"
    )


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cosy_sync")
    detect(Service(openapi=paths("/batch")), "http://a.example.com?key=1", "http://b.test/batch")
    assert caplog.messages == [
        "http://a.example.com speaks the wire batch, by GET /openapi.json",
        "http://b.test/batch speaks the wire batch, by its URL",
    ]


def test_a_client_shows_the_wire_that_was_chosen() -> None:
    service = Service(openapi=paths("/batch"))
    client = httpx.Client(transport=httpx.MockTransport(service))
    with CosyClient("http://tts.example.com/speak", wire="auto", http_client=client) as cosy:
        assert cosy.config.wire == "batch"
        assert "wire batch" in repr(cosy)
        assert cosy.with_options(speed=2.0).config.wire == "batch"
    assert not client.is_closed


def test_a_client_that_a_function_made_to_ask_is_closed() -> None:
    made: list[httpx.Client] = []

    def make() -> httpx.Client:
        made.append(httpx.Client(transport=httpx.MockTransport(Service(openapi=paths("/batch")))))
        return made[-1]

    with CosyClient("http://tts.example.com/speak", wire="auto", http_client=make):
        assert [client.is_closed for client in made] == [True]


def test_the_chosen_wire_decides_what_can_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="model: this service needs one"):
        CosyClient("https://dashscope.aliyuncs.com", wire="auto", voice="longanyang")


def test_auto_is_no_wire_of_its_own() -> None:
    assert "auto" not in known_wires()
