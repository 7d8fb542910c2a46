"""Every wire as the contract suite meets it: its address at the embedded server, and its needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cosy_sync import CosyClient, Endpoint, RetryConfig, Voice
from cosy_sync.config import ClientConfig
from cosy_sync.server import Server
from cosy_sync.testing import tone_wav
from cosy_sync.wires import Capabilities, SpeechOptions, create_wire, known_wires

__all__ = ["CASES", "Case", "Connect", "Serve", "cases"]

Serve = Callable[..., Server]
Connect = Callable[..., CosyClient]

SPEAKER = Voice("中文女")
HTTP = "http://127.0.0.1:1"


def _websocket(server: Server) -> str:
    return server.base_url.replace("http://", "ws://") + "/api-ws/v1/inference"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One wire with one server."""

    name: str
    # Gives the endpoint's URL at a server that runs, or `example` of one that does not.
    url: Callable[[Any], str]
    wire: str = ""
    example: str = ""
    # Options that the server needs, and settings that the client needs, beside the usual ones.
    server: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Modules of other packages, without which the wire does not run.
    needs: tuple[str, ...] = ()
    # Whether a process that has used the wire may fork and go on with it in the child.
    forks: bool = True
    # Whether the server counts this wire's connections: gRPC has a port and sockets of its own.
    counted: bool = True
    # What the service says of a text, as its samples.
    right: Callable[[str], bytes] = field(default=lambda text: tone_wav(text)[44:])

    @property
    def missing(self) -> str:
        """Return why it cannot run here; nothing when it can."""
        absent = [each for each in self.needs if importlib.util.find_spec(each) is None]
        return f"needs {', '.join(absent)}" if absent else ""

    @property
    def capabilities(self) -> Capabilities:
        """Return what the wire can do at such an address."""
        options = SpeechOptions.from_config(ClientConfig(**{"voice": SPEAKER, **self.settings}))
        return create_wire(self.wire or self.name, self.example, options).capabilities

    def client(self, server: Any, **settings: Any) -> CosyClient:
        """Return a client of a server, wide open, quick to try again and with a speaker."""
        url = self.url(server)
        limits = {
            name: settings.pop(name) for name in ("max_connections", "rate") & settings.keys()
        }
        endpoint = Endpoint(url, **{"max_connections": 8, "rate": 10_000, **limits})
        usual = {"voice": SPEAKER, "deadline": 30.0, "retry": RetryConfig(base=0.02)}
        wire = self.wire or self.name
        return CosyClient(endpoint, **{"wire": wire, **usual, **self.settings, **settings})


DASHSCOPE = MappingProxyType({"model": "cosyvoice-v2"})
OPENAI = MappingProxyType({"model": "FunAudioLLM/CosyVoice2-0.5B"})
TRITON = MappingProxyType({"model": "cosyvoice2", "voice": None})

CASES = (
    Case(name="batch", url=lambda server: server.url, example=f"{HTTP}/batch"),
    Case(
        name="openai",
        url=lambda server: server.base_url + "/v1",
        example=f"{HTTP}/v1",
        settings=OPENAI,
    ),
    Case(
        name="openai-batch",
        wire="openai",
        url=lambda server: server.base_url + "/v1/audio/speech/batch",
        example=f"{HTTP}/v1/audio/speech/batch",
        settings=OPENAI,
    ),
    Case(name="runtime_http", url=lambda server: server.base_url, example=HTTP),
    Case(
        name="runtime_grpc",
        url=lambda server: server.grpc_url,
        example="grpc://127.0.0.1:1",
        server=MappingProxyType({"grpc_port": 0, "grpc_max_conc": 64}),
        needs=("grpc",),
        forks=False,
        counted=False,
    ),
    Case(
        name="triton",
        url=lambda server: server.base_url,
        example=HTTP,
        settings=TRITON,
    ),
    Case(
        name="triton-grpc",
        wire="triton",
        url=lambda server: server.grpc_url,
        example="grpc://127.0.0.1:1",
        server=MappingProxyType({"grpc_port": 0, "grpc_max_conc": 64}),
        settings=TRITON,
        needs=("grpc",),
        forks=False,
        counted=False,
    ),
    Case(
        name="dashscope_ws",
        url=_websocket,
        example="ws://127.0.0.1:1/api-ws/v1/inference",
        settings=DASHSCOPE,
        needs=("websockets",),
    ),
    Case(name="pai_eas", url=lambda server: server.base_url, example=HTTP),
    Case(
        name="dashscope_http",
        url=lambda server: server.base_url + "/api/v1/services/audio/tts/SpeechSynthesizer",
        example=f"{HTTP}/api/v1/services/audio/tts/SpeechSynthesizer",
        settings=DASHSCOPE,
    ),
)


def cases() -> list[Case]:
    """Return the cases of the wires that there are."""
    known = known_wires()
    return [case for case in CASES if (case.wire or case.name) in known]
