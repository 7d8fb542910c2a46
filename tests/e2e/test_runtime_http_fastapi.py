"""The wire runtime_http against FastAPI and uvicorn, which the real runtimes are made of.

The stand-in has the routes of CosyVoice's servers with the types of their parameters, and gives
back what it understood in place of samples. Our own server must refuse as it does.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest

from cosy_sync import CosyClient, RetryConfig, VerifyConfig, Voice
from cosy_sync.errors import CutError, TextError, UnavailableError
from cosy_sync.models import Recording, wav_header
from cosy_sync.testing import Server

pytest.importorskip("python_multipart", reason="needs python-multipart (extra test)")
fastapi = pytest.importorskip("fastapi", reason="needs fastapi (extra test)")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn (extra test)")
Field = Annotated[str, fastapi.Form()]
Upload = Annotated[fastapi.UploadFile, fastapi.File()]
app = fastapi.FastAPI()

TEXT = '你好 & "a+b=1%"\r\n--x\r\n😀'
WAV = wav_header(16_000, 1, 32_000) + bytes(range(250)) * 128
REFERENCE = Recording(WAV, 16_000, 1.0, "d1")
CLONED = Voice(reference=REFERENCE, transcript="希望你好")
DIRECTED = Voice(reference=REFERENCE, instruction="用四川话说")
MARK = "You are a helpful assistant.<|endofprompt|>"
OLD = "/api/inference"


def speak(text: str, **told: str) -> Any:
    if "[refuse]" in text:
        raise RuntimeError("the model has no such method")
    return fastapi.responses.StreamingResponse(segments(text, told))


def segments(text: str, told: dict[str, str]) -> Iterator[bytes]:
    if "[empty]" in text:
        return
    data = json.dumps([text, told]).encode()
    # Cut in the middle of a sample; the whole is even.
    yield data[:7]
    if "[broken]" in text:
        raise KeyError("spk_id")
    yield data[7:] + b" " * (len(data) % 2)


async def heard(upload: Any) -> str:
    same = await upload.read() == WAV
    return f"{upload.filename} {upload.content_type} {same}"


@app.api_route("/inference_sft", methods=["GET", "POST"])
async def inference_sft(tts_text: Field, spk_id: Field) -> Any:
    return speak(tts_text, spk_id=spk_id)


@app.api_route("/inference_zero_shot", methods=["GET", "POST"])
async def inference_zero_shot(tts_text: Field, prompt_text: Field, prompt_wav: Upload) -> Any:
    return speak(tts_text, prompt_text=prompt_text, prompt_wav=await heard(prompt_wav))


@app.api_route("/inference_cross_lingual", methods=["GET", "POST"])
async def inference_cross_lingual(tts_text: Field, prompt_wav: Upload) -> Any:
    return speak(tts_text, prompt_wav=await heard(prompt_wav))


@app.api_route("/inference_instruct", methods=["GET", "POST"])
async def inference_instruct(tts_text: Field, spk_id: Field, instruct_text: Field) -> Any:
    return speak(tts_text, spk_id=spk_id, instruct_text=instruct_text)


@app.api_route("/inference_instruct2", methods=["GET", "POST"])
async def inference_instruct2(tts_text: Field, instruct_text: Field, prompt_wav: Upload) -> Any:
    return speak(tts_text, instruct_text=instruct_text, prompt_wav=await heard(prompt_wav))


@app.api_route(f"{OLD}/sft", methods=["GET", "POST"])
async def old_sft(tts: Field, role: Field) -> Any:
    return speak(tts, role=role)


@app.post(f"{OLD}/zero-shot")
async def old_zero_shot(tts: Field, prompt: Field, audio: Upload) -> Any:
    return speak(tts, prompt=prompt, audio=await heard(audio))


@app.post(f"{OLD}/cross-lingual")
async def old_cross_lingual(tts: Field, audio: Upload) -> Any:
    return speak(tts, audio=await heard(audio))


@app.api_route(f"{OLD}/instruct", methods=["GET", "POST"])
async def old_instruct(tts: Field, role: Field, instruct: Field) -> Any:
    return speak(tts, role=role, instruct=instruct)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    settings = {"port": 0, "log_config": None, "lifespan": "off", "ws": "none", "loop": "asyncio"}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", **settings))
    # Named as the servers that may outlive a test.
    thread = threading.Thread(target=server.run, name="cosy-server-uvicorn", daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def understood(url: str, text: str = TEXT, **settings: Any) -> Any:
    sound = {"format": "pcm", "verify": VerifyConfig(enabled=False)}
    with CosyClient(
        url, wire="runtime_http", retry=RetryConfig(base=0.01, outlast=0), **sound, **settings
    ) as tts:
        return json.loads(tts.synth(text).data)


UPLOADED = {"prompt_wav": "prompt_wav.wav audio/wav True"}


@pytest.mark.parametrize(
    ("voice", "told"),
    [
        (Voice("中文女"), {"spk_id": "中文女"}),
        (Voice("中文女", instruction="开心"), {"spk_id": "中文女", "instruct_text": "开心"}),
        (CLONED, {"prompt_text": "希望你好", **UPLOADED}),
        (Voice(reference=REFERENCE), UPLOADED),
        (DIRECTED, {"instruct_text": "用四川话说<|endofprompt|>", **UPLOADED}),
    ],
)
def test_it_understands_our_forms(address: str, voice: Voice, told: dict[str, str]) -> None:
    assert understood(address, voice=voice) == [TEXT, told]


def test_it_understands_what_the_third_generation_wants(address: str) -> None:
    sent = {"prompt_text": f"{MARK}希望你好", **UPLOADED}
    assert understood(address, voice=CLONED, model="CosyVoice3") == [TEXT, sent]
    cross = understood(address, voice=Voice(reference=REFERENCE), model="CosyVoice3")
    assert cross == [MARK + TEXT, UPLOADED]


@pytest.mark.parametrize(
    ("voice", "told"),
    [
        (Voice("中文女"), {"role": "中文女"}),
        (Voice("中文女", instruction="开心"), {"role": "中文女", "instruct": "开心"}),
        (CLONED, {"prompt": "希望你好", "audio": "audio.wav audio/wav True"}),
        (Voice(reference=REFERENCE), {"audio": "audio.wav audio/wav True"}),
    ],
)
def test_it_understands_the_forms_of_2024(address: str, voice: Voice, told: dict[str, str]) -> None:
    assert understood(address + OLD, voice=voice) == [TEXT, told]


def test_its_failures_become_ours(address: str) -> None:
    with pytest.raises(TextError, match="nothing to speak"):
        understood(address, "[empty]", voice="中文女")
    with pytest.raises(CutError, match="unknown speaker") as caught:
        understood(address, "[broken]", voice="中文女")
    assert caught.value.partial == b'["[brok'
    with pytest.raises(UnavailableError, match="Internal Server Error; its model may not have"):
        understood(address, "[refuse]", voice="中文女")


def test_many_texts_share_few_connections(address: str) -> None:
    texts = [f"第{number}句话" for number in range(30)]
    verify = VerifyConfig(enabled=False)
    with CosyClient(address, wire="runtime_http", voice="a", verify=verify) as tts:
        audios = tts.synth_many(texts)
        assert tts.stats().connects <= 4
    assert [json.loads(audio.pcm())[0] for audio in audios] == texts


ZERO_SHOT = "/inference_zero_shot"
UPLOAD = {"prompt_wav": ("a.wav", WAV, "audio/wav")}
MULTIPART = {"content-type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"json": {"tts_text": "a"}},
        {"params": {"tts_text": "a", "prompt_text": "b"}},
        {"data": {"tts_text": "a"}},
        {"data": {"tts_text": "", "prompt_text": "b"}, "files": UPLOAD},
        {"data": {"tts_text": "a", "prompt_text": "b", "prompt_wav": "x"}},
        {"data": {"tts_text": "a", "prompt_text": "b"}, "files": {"prompt": WAV}},
        {
            "content": b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
            "headers": MULTIPART,
        },
    ],
)
def test_our_server_refuses_as_it_does(address: str, asked: dict[str, Any]) -> None:
    right = httpx.post(address + ZERO_SHOT, **asked)
    with Server(latency=0) as server:
        ours = httpx.post(server.base_url + ZERO_SHOT, **asked)
    assert right.status_code in (400, 422)
    assert (ours.status_code, ours.json()) == (right.status_code, right.json())
    assert ours.headers["content-type"] == right.headers["content-type"]


@pytest.mark.parametrize("content", [b"garbage", b"--B\r\nno header\r\n\r\nx\r\n--B--\r\n"])
def test_our_server_refuses_broken_forms_too(address: str, content: bytes) -> None:
    right = httpx.post(address + ZERO_SHOT, content=content, headers=MULTIPART)
    with Server(latency=0) as server:
        ours = httpx.post(server.base_url + ZERO_SHOT, content=content, headers=MULTIPART)
    assert ours.status_code == right.status_code == 400
    assert set(ours.json()) == set(right.json()) == {"detail"}


@pytest.mark.parametrize("asked", [{"tts_text": "hello", "spk_id": "中文女"}])
def test_our_servers_success_looks_the_same(address: str, asked: dict[str, str]) -> None:
    right = httpx.post(f"{address}/inference_sft", data=asked)
    with Server(latency=0) as server:
        ours = httpx.post(f"{server.base_url}/inference_sft", data=asked)
    assert (ours.status_code, right.status_code) == (200, 200)
    # Ours says what HTTP/1.1 means anyway.
    assert set(ours.headers) - {"connection"} == set(right.headers)
    assert ours.headers["server"] == right.headers["server"]
