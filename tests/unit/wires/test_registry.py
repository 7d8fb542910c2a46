"""Wires by name."""

from __future__ import annotations

import pytest

import cosy_sync.audio
import cosy_sync.wires
from cosy_sync.config import ClientConfig
from cosy_sync.errors import ConfigError, CosyError
from cosy_sync.messages import Reply
from cosy_sync.wires import SpeechOptions, create_wire, known_wires

OPTIONS = SpeechOptions.from_config(ClientConfig(voice="中文女"))
# Where another scheme or more settings are needed.
URLS = {
    "dashscope_ws": "wss://tts/api-ws/v1/inference",
    "runtime_grpc": "grpc://tts:50000",
}
MODELS = {name: "cosyvoice-v3-flash" for name in ("dashscope_http", "dashscope_ws")}
MODELS["triton"] = "cosyvoice2"


def test_every_known_wire_can_be_built() -> None:
    for name in known_wires():
        # Triton's models have no field for a speaker's name.
        voice = None if name == "triton" else "中文女"
        config = ClientConfig(voice=voice, model=MODELS.get(name))
        options = SpeechOptions.from_config(config)
        wire = create_wire(name, URLS.get(name, "http://tts/batch"), options)
        assert wire.name == name
        assert wire.capabilities.max_texts_per_call >= 1


def test_an_unknown_wire_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"wire: there is no 'btach'; known: .*batch.*, or auto"):
        create_wire("btach", "http://tts", OPTIONS)


def test_an_address_of_another_wire_says_where_to_look() -> None:
    with pytest.raises(ConfigError, match=r"needs http://, https://, not grpc://; .*wire='auto'"):
        create_wire("batch", "grpc://tts:50000", OPTIONS)


@pytest.mark.parametrize("name", ["batch", "openai"])
def test_only_the_wire_that_adds_nothing_to_the_url_says_so(name: str) -> None:
    wire = create_wire(name, URLS.get(name, "http://tts/batch"), OPTIONS)
    reply = Reply(404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')
    with pytest.raises(CosyError, match="check the URL's path, and that wire= names") as told:
        wire.decode(reply, ["text"])
    assert ("exactly the URL that was given" in str(told.value)) == (name == "batch")


@pytest.mark.parametrize("package", [cosy_sync.audio, cosy_sync.wires])
def test_public_names_are_sorted_and_there(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert all(hasattr(package, name) for name in names)
