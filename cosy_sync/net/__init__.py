"""Move bytes: connections, the httpx transport over them, deadlines."""

from .provide import HttpClient, provide_sender
from .sender import Sender
from .transport import PoolTransport

__all__ = ["HttpClient", "PoolTransport", "Sender", "provide_sender"]
