"""The digest of a text is the same everywhere and in every version, and knows what matters."""

import subprocess
import sys
from typing import Any

import pytest

from cosy_sync import CacheConfig, ClientConfig, CosyClient, InvalidTextError, Recording, Voice
from cosy_sync.cache import digest_text, prefix_of
from cosy_sync.cache.digest import wire_family

URL = "http://tts.test/batch"
TEXT = "你好，世界"
RECORDING = Recording(b"RIFF", 24_000, 3.0, "ab" * 32)
EVERYTHING: dict[str, Any] = {
    "wire": "dashscope_ws",
    "voice": Voice("中文女", instruction="用四川话说", reference=RECORDING, transcript="希望你好"),
    "model": "cosyvoice-v2",
    "format": "pcm",
    "sample_rate": 22_050,
    "speed": 1.25,
    "extra": {"b": [1, None], "a": {"z": "音"}},
    "cache": CacheConfig(version="2026-11"),
}


def digest(text: str = TEXT, **settings: Any) -> str:
    return digest_text(prefix_of(ClientConfig(**settings)), text)


def test_digests_stay_as_they_are_in_every_version() -> None:
    # Files and keys of other versions bear them: whoever changes one loses everybody's cache.
    assert digest() == "0574f00f644e1853cfef6c02769040fe9c4e5a97"
    assert digest(**EVERYTHING) == "3017da0ae6b73b3f0d7cf981fdfb727b6455aba6"
    assert digest(format="mp3", quality=0.5) == "a23ed67ebd008113962e4187d1c46605934d09ae"


def test_another_process_finds_the_same_digest() -> None:
    code = (
        "from cosy_sync import CosyClient\n"
        f"print(CosyClient({URL!r}, extra={{'b': 1, 'a': 2}}).digest({TEXT!r}))"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
    with CosyClient(URL, extra={"a": 2, "b": 1}) as client:
        assert done.stdout.strip() == client.digest(TEXT)


@pytest.mark.parametrize(
    "change",
    [
        {"wire": "openai"},
        {"voice": Voice("中文男", instruction="用四川话说")},
        {"voice": Voice("中文女")},
        {"voice": Voice("中文女", instruction="用四川话说", reference=RECORDING)},
        {"model": None},
        {"format": "wav"},
        {"sample_rate": 24_000},
        {"speed": 1.0},
        {"extra": {"a": {"z": "音"}}},
        {"cache": CacheConfig(version="2026-12")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_audio_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest(**{**EVERYTHING, **change}) != digest(**EVERYTHING)


@pytest.mark.parametrize(
    "change",
    [
        {"api_key": "sk-other"},
        {"headers": {"X-Tenant": "a"}},
        {"tenant": "a", "max_in_flight": 3},
        {"deadline": 3.0},
        {"priority": "bulk"},
        {"extra": {"a": {"z": "音"}, "b": [1, None]}},
        {"wire": "dashscope_http"},
        {"cache": CacheConfig(store="~/x", ttl=5, version="2026-11")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_change_the_audio_does_not_change_the_digest(change: dict[str, Any]) -> None:
    assert digest(**{**EVERYTHING, **change}) == digest(**EVERYTHING)


def test_a_speed_is_the_same_as_whole_number_and_as_float() -> None:
    assert digest(speed=1) == digest(speed=1.0)


def test_a_quality_is_another_sound() -> None:
    every = [digest(format="mp3"), digest(format="mp3", quality=0), digest(format="mp3", quality=1)]
    assert len(set(every)) == 3
    assert digest(format="mp3", quality=1) == digest(format="mp3", quality=1.0)


def test_texts_differ_by_every_character() -> None:
    texts = ["你好", "你好 ", " 你好", "你好\n", "你好。", "你", "你好你好"]
    assert len({digest(text) for text in texts}) == len(texts)


def test_wires_of_one_service_are_a_family() -> None:
    assert wire_family("runtime_http") == wire_family("runtime_grpc") == "runtime"
    assert wire_family("batch") == "batch" and wire_family("my_wire") == "my_wire"


def test_the_endpoint_is_not_in_it_and_a_bad_text_is_refused() -> None:
    with CosyClient(URL) as one, CosyClient("http://other.test/batch") as other:
        assert one.digest(TEXT) == other.digest(TEXT)
        with pytest.raises(InvalidTextError, match="empty"):
            one.digest(" ")
