"""Settings of a single call: the request says them, views are shared, wrong names are told."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import cosy_sync
from cosy_sync import ConfigError, CosyClient, Voice
from cosy_sync.config import CallSettings
from cosy_sync.testing import FakeService, tone_wav

URL = "http://tts.test/batch"


class Recorder(httpx.BaseTransport):
    """A service that keeps what each request said."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.said: list[dict[str, Any]] = []
        self.headers: list[httpx.Headers] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.said.append(json.loads(request.read()))
        self.headers.append(request.headers)
        return self.service.handle_request(request)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(recorder: Recorder) -> Iterator[CosyClient]:
    with CosyClient(URL, http_client=httpx.Client(transport=recorder), voice="中文女") as made:
        yield made


CALLS: dict[str, Callable[..., object]] = {
    "synth": lambda client, **own: client.synth("你好", **own),
    "submit": lambda client, **own: client.submit("你好", **own).result(10),
    "synth_many": lambda client, **own: client.synth_many(["你好"], **own),
    "synth_iter": lambda client, **own: list(client.synth_iter(["你好"], **own)),
    "narrate": lambda client, **own: client.narrate("你好", **own),
    "narrate_iter": lambda client, **own: list(client.narrate_iter("你好", **own)),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_takes_settings_of_its_own_and_the_client_keeps_its(
    client, recorder, call
) -> None:
    CALLS[call](client, voice="中文男", speed=1.5, headers={"X-Job": "7"}, extra={"seed": 3})
    CALLS[call](client)
    first, second = recorder.said
    assert (first["voice"], first["speed"], first["seed"]) == ("中文男", 1.5, 3)
    assert recorder.headers[0]["x-job"] == "7" and "x-job" not in recorder.headers[1]
    assert second["voice"] == "中文女" and "seed" not in second
    assert second["speed"] == 1


@pytest.mark.parametrize("call", CALLS)
def test_the_functions_of_the_module_take_them_too(recorder, call) -> None:
    cosy_sync.configure(URL, http_client=httpx.Client(transport=recorder))
    try:
        CALLS[call](cosy_sync, voice=Voice("中文男"), speed=2)
    finally:
        cosy_sync.default_client().close()
    assert (recorder.said[0]["voice"], recorder.said[0]["speed"]) == ("中文男", 2)


def test_a_format_and_a_deadline_are_the_calls_own(client, recorder) -> None:
    assert client.synth("你好", format="pcm").format == "pcm"
    assert client.synth("再见").format == "wav"
    recorder.service.answer(*[httpx.ReadTimeout("slow")] * 9)
    with pytest.raises(cosy_sync.CosyError):
        client.synth("你好", deadline=0.05)
    assert client._with("synth", {"deadline": 0.05}).config.deadline == 0.05


def test_an_instruction_belongs_to_the_voice_wherever_it_is_given(monkeypatch) -> None:
    monkeypatch.setenv("COSY_SYNC_VOICE", "中文女")
    monkeypatch.setenv("COSY_SYNC_INSTRUCTION", "慢慢地说")
    url = "http://tts.test/inference_instruct"
    settings: dict[str, Any] = {"wire": "runtime_http"}
    with CosyClient(url, **settings) as of_variables:
        assert of_variables.config.voice == Voice("中文女", instruction="慢慢地说")
        of_call = of_variables._with("synth", {"instruction": "用四川话说"})
        assert of_call.config.voice == Voice("中文女", instruction="用四川话说")
        other = of_variables._with("synth", {"voice": "中文男", "instruction": "快一点"})
        assert other.config.voice == Voice("中文男", instruction="快一点")
        view = of_variables.with_options(instruction="小声")
        assert view.config.voice == Voice("中文女", instruction="小声")
    with pytest.raises(ConfigError, match="words as instruction"):
        CosyClient(url, voice="中文女", instruction="", **settings)


def test_without_a_voice_an_instruction_is_one_and_none_is_none() -> None:
    from cosy_sync.settings import load_config

    only = load_config(None, {"instruction": "小声"}, {})
    assert only.voice == Voice(instruction="小声")
    assert load_config(only, {"instruction": None}).voice is None
    assert load_config(None, {"instruction": None}, {}).voice is None
    named = load_config(
        None, {"voice": Voice("中文女", instruction="小声"), "instruction": None}, {}
    )
    assert named.voice == Voice("中文女")


def test_none_stands_for_what_the_client_has(client, recorder) -> None:
    def speak(text: str, voice: str | None = None, speed: Any = None) -> object:
        return client.synth(text, voice=voice, speed=speed, model=None, tenant=None, extra=None)

    speak("你好")
    speak("你好", voice="中文男", speed=1.5)
    assert [(each["voice"], each["speed"]) for each in recorder.said] == [
        ("中文女", 1.0),
        ("中文男", 1.5),
    ]
    with pytest.raises(ConfigError, match="deadline: must be"):
        client.synth("你好", deadline=None)


def test_a_quality_belongs_to_its_format() -> None:
    from cosy_sync.settings import load_config

    small = load_config(None, {"format": "mp3", "quality": 0.2}, {})
    assert load_config(small, {"format": "flac"}).quality is None
    assert load_config(small, {"format": "wav"}).quality is None
    assert load_config(small, {"format": "opus"}).quality == 0.2
    with pytest.raises(ConfigError, match="quality: wav loses nothing"):
        load_config(small, {"format": "wav", "quality": 0.2})


# -- what it costs ------------------------------------------------------------------------------


def test_the_same_settings_are_one_view_whatever_their_order_and_form(client) -> None:
    view = client._with("synth", {"voice": "中文男", "speed": 1.5})
    for same in (
        {"speed": 1.5, "voice": "中文男"},
        {"voice": Voice("中文男"), "speed": 1.5},
    ):
        assert client._with("submit", same) is view
    assert client._with("synth", {"voice": "中文男", "speed": 1.4}) is not view
    nested = {"extra": {"hot_fix": {"replace": [{"a": "b"}]}}}
    assert client._with("synth", nested) is client._with("synth", json.loads(json.dumps(nested)))


def test_texts_with_the_same_settings_share_batches_across_calls(client, recorder) -> None:
    futures = [client.submit(f"第{n}句话", voice="中文男") for n in range(20)]
    for future in futures:
        future.result(10)
    assert {said["voice"] for said in recorder.said} == {"中文男"}
    assert len(client._core.engine().interactive._queues) == 1
    assert client.stats().texts_ok == 20


def test_a_recording_that_may_change_is_read_again_for_another_voice(client, tmp_path) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(tone_wav("一段声音一段声音一段声音"))
    with CosyClient("http://tts.test/v1", wire="openai", extra={"service": "vllm"}) as cloning:
        first = Voice(reference=path, transcript="一段声音")
        one = cloning._with("synth", {"voice": first})
        assert cloning._with("synth", {"voice": first}) is one
        path.write_bytes(tone_wav("另一段声音另一段声音另一段"))
        other = cloning._with("synth", {"voice": Voice(reference=path, transcript="一段声音")})
        assert other.config.voice.reference.digest != one.config.voice.reference.digest


def test_views_of_calls_do_not_grow_for_ever(client) -> None:
    for number in range(300):
        client.synth("你好", headers={"X-Number": str(number)})
    assert len(client._views._kept) <= 128


def test_what_cannot_be_hashed_still_works(client, recorder) -> None:
    client.synth("你好", extra={"seed": {"deep": [1, {"deeper": bytearray(b"x").hex()}]}})
    assert recorder.said[0]["seed"]["deep"][1] == {"deeper": "78"}


def test_a_client_with_such_views_is_dropped_like_any_other(recorder) -> None:
    client = CosyClient(URL, http_client=httpx.Client(transport=recorder))
    client.synth("你好", voice="中文男")
    core = weakref.ref(client._core)
    gc.disable()
    try:
        del client
        assert core() is None
    finally:
        gc.enable()


def test_a_subclass_meets_each_call_once(recorder) -> None:
    class Counting(CosyClient):
        calls = 0

        def synth(self, text: str, **settings: Any) -> cosy_sync.Audio:
            type(self).calls += 1
            return super().synth(text, **settings)

    with Counting(URL, http_client=httpx.Client(transport=recorder)) as client:
        client.synth("你好", speed=1.5)
    assert Counting.calls == 1


# -- wrong ones ---------------------------------------------------------------------------------


def test_a_value_that_cannot_be_is_refused_before_anything_is_sent(client, recorder) -> None:
    for wrong, words in (({"speed": 9}, "speed: must be"), ({"voice": ""}, "voice: expected")):
        with pytest.raises(ConfigError, match=words):
            client.synth("你好", **wrong)
    assert recorder.said == []


def test_what_the_wire_cannot_do_is_refused_as_for_a_client(client) -> None:
    with pytest.raises(ConfigError, match="cannot take a reference recording"):
        client.synth("你好", voice=Voice(reference=tone_wav("一段声音一段声音"), transcript="一段"))


def test_every_setting_of_a_call_is_one_of_a_view(client) -> None:
    assert set(CallSettings.__annotations__) < set(cosy_sync.config.Settings.__annotations__)
