"""Move bytes: connections, the httpx transport over them, deadlines."""

from .sender import Sender
from .transport import PoolTransport

__all__ = ["PoolTransport", "Sender"]
