"""Which voices there are: the service is asked where it can be, else its documents are."""

import json
from collections.abc import Iterator

import httpx
import pytest

from cosy_sync import AuthError, ConnectError, CosyClient, RetryConfig, ServerError, VoiceList
from cosy_sync.cli import main
from cosy_sync.testing import Server

PRESETS = ("中文女", "中文男", "日语男", "粤语女", "英文女", "英文男", "韩语女")
WS = "/api-ws/v1/inference"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0, api_key="right") as running:
        yield running


def listed(url: str, wire: str, **settings: object) -> VoiceList:
    with CosyClient(url, wire=wire, api_key="right", **settings) as client:  # type: ignore[arg-type]
        return client.voices()


@pytest.mark.parametrize("path", ["", "/v1", "/v1/audio/speech", "/v1/audio/speech/batch"])
def test_an_openai_service_lists_its_voices(server: Server, path: str) -> None:
    voices = listed(server.base_url + path, "openai")
    assert voices.asked and not voices.documents and "中文女" in voices
    assert {voice.source for voice in voices} == {"service"}


@pytest.mark.parametrize("path", ["", "/inference_sft", "/inference_sft/"])
def test_a_runtime_that_hands_its_speakers_on_lists_them(server: Server, path: str) -> None:
    voices = listed(server.base_url + path, "runtime_http", voice="中文女")
    assert voices.asked and "中文女" in voices.names and len(voices) > 1


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("dashscope_http", ""),
        ("dashscope_http", "/api/v1/services/audio/tts/SpeechSynthesizer"),
        ("dashscope_ws", WS),
    ],
)
def test_alibaba_lists_the_accounts_own_voices_and_documents_name_the_others(
    server: Server, wire: str, path: str
) -> None:
    pytest.importorskip("websockets", reason="needs websockets (extra websocket)")
    base = server.base_url if wire == "dashscope_http" else server.base_url.replace("http", "ws", 1)
    voices = listed(base + path, wire, model="cosyvoice-v3-flash", voice="longanyang")
    own = [voice.name for voice in voices if voice.source == "service"]
    assert len(own) == 3 and all(name.startswith("cosyvoice-") for name in own)
    assert "longanyang" in voices and "cosyvoice-v3" in voices.documents
    with CosyClient(
        base + path, wire=wire, api_key="right", model="cosyvoice-v3-flash", voice=own[0]
    ) as client:
        assert client.synth("早安").duration > 0


def test_pai_eas_lists_the_recordings_that_were_registered(server: Server) -> None:
    voices = listed(server.base_url, "pai_eas", voice="unknown")
    assert voices.asked and "中文女" in voices
    bare = listed(server.base_url, "pai_eas", voice="unknown", extra={"bare_token": True})
    assert bare == voices


def test_where_the_service_has_no_list_its_documents_are_named(server: Server) -> None:
    voices = listed(server.url, "batch")
    assert not voices.asked and voices.names == PRESETS and "CosyVoice-300M-SFT" in voices.documents
    assert {voice.source for voice in voices} == {"documents"}


def answering(status: int, body: object) -> httpx.Client:
    answer = httpx.Response(status, json=body)
    return httpx.Client(transport=httpx.MockTransport(lambda request: answer))


@pytest.mark.parametrize(
    "body",
    [
        ["a", "b"],
        {"voices": ["a", "b", "a", "", None, 3]},
        {"voices": [{"name": "a"}, {"voice_id": "b", "name": "B"}, {}]},
        {"data": [{"id": "a"}, {"id": "b"}]},
        {"result": [{"uri": "a"}, {"uri": "b"}]},
        {"output": {"voice_list": [{"voice_id": "a"}, {"voice_id": "b"}]}},
    ],
)
def test_lists_are_read_in_the_shapes_that_services_give_them(body: object) -> None:
    voices = listed("http://tts.test/v1", "openai", http_client=answering(200, body))
    assert voices.names == ("a", "b") and voices.asked


@pytest.mark.parametrize("body", ["words", {"voices": {}}, {"a": 1}, 3, None, [1, {"x": 2}]])
def test_what_is_no_list_is_no_answer(body: object) -> None:
    voices = listed("http://tts.test/v1", "openai", http_client=answering(200, body))
    assert not voices.asked and len(voices) == 0


def test_an_empty_list_is_an_answer() -> None:
    voices = listed("http://tts.test/v1", "openai", http_client=answering(200, {"voices": []}))
    assert voices.asked and voices.names == ()


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthError), (403, AuthError), (500, ServerError), (503, ServerError)],
)
def test_a_refusal_is_raised_rather_than_hidden_behind_documents(
    status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        listed("http://tts.test/v1", "openai", http_client=answering(status, {"error": "no"}))


def test_a_service_that_is_not_there_is_said() -> None:
    with pytest.raises(ConnectError):
        listed("http://127.0.0.1:1/v1", "openai", retry=RetryConfig(max_retries=0))


def test_siliconflows_own_are_named_beside_the_accounts() -> None:
    voices = listed(
        "https://api.siliconflow.cn/v1",
        "openai",
        model="FunAudioLLM/CosyVoice2-0.5B",
        voice="unknown",
        http_client=answering(200, {"result": [{"uri": "speech:me:1:2", "customName": "me"}]}),
    )
    assert voices.names[0] == "speech:me:1:2"
    assert "FunAudioLLM/CosyVoice2-0.5B:anna" in voices.names


def test_the_command_lists_names_and_says_who_named_them(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_API_KEY", "right")
    assert main(["voices", "--url", f"{server.base_url}/v1", "--wire", "openai"]) == 0
    told = capsys.readouterr()
    assert "中文女" in told.out.splitlines() and "named by the service" in told.err
    assert main(["voices", "--url", server.url, "--wire", "batch", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)["voices"]
    assert first == {"name": "中文女", "source": "documents"}
    alibaba = ("--wire", "dashscope_http", "--model", "cosyvoice-v2", "--url", server.base_url)
    assert main(["voices", *alibaba]) == 0  # though this wire needs a voice to speak
    assert "longxiaochun_v2" in capsys.readouterr().out
    monkeypatch.setenv("COSY_SYNC_API_KEY", "wrong")
    assert main(["voices", "--url", f"{server.base_url}/v1", "--wire", "openai"]) == 3
