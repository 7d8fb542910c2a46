"""The embedded server: a stand-in for the CosyVoice service, with its limits and its failures.

    with Server(latency=0.0) as server:
        print(server.url)

`POST /batch` speaks the wire `batch`; `GET /health` and `GET /stats` watch it. PCM parts are
PCM16LE, whatever RFC 2586 says of `audio/L16`.
"""

from .config import ServerConfig
from .errors import MissingExtraError
from .faults import FAULTS
from .runner import Server, serve_forever
from .schedule import Outage, Shortage
from .tone import ToneEngine, tone_wav
from .voices import DEFAULT_VOICE

__all__ = [
    "DEFAULT_VOICE",
    "FAULTS",
    "MissingExtraError",
    "Outage",
    "Server",
    "ServerConfig",
    "Shortage",
    "ToneEngine",
    "serve_forever",
    "tone_wav",
]
