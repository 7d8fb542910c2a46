"""Move bytes: connections, the httpx transport over them, deadlines."""

from .provide import HttpClient, check_client, provide_sender
from .sender import Sender
from .transport import PoolTransport

__all__ = ["HttpClient", "PoolTransport", "Sender", "check_client", "provide_sender"]
