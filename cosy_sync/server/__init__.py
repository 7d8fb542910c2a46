"""The embedded server: a stand-in for the CosyVoice services, with their limits and failures.

    with Server(latency=0.0) as server:
        print(server.url)

`url` is the address of the wire `batch`; the others are at `base_url` under their services' own
paths, and gRPC at `grpc_url`. `GET /health` and `GET /stats` watch it. PCM parts are PCM16LE,
whatever RFC 2586 says of `audio/L16`.
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
