"""What runs calls: permits, workers, batches, attempts and streams, composed by the engine."""

from ..threads.lifo_pool import LifoThreadPool
from ..threads.workers import SerialExecutor
from .engine import Engine
from .parts import EngineParts
from .ports import Network

__all__ = ["Engine", "EngineParts", "LifoThreadPool", "Network", "SerialExecutor"]
