"""For tests of code that uses cosy_sync.

A clock that does not wait, a service without sockets, and a server with every fault on real ones.
"""

from ..server import FAULTS, Outage, Server, ServerConfig, Shortage, tone_wav
from .clock import FakeClock
from .service import FakeService

__all__ = [
    "FAULTS",
    "FakeClock",
    "FakeService",
    "Outage",
    "Server",
    "ServerConfig",
    "Shortage",
    "tone_wav",
]
