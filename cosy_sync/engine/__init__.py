"""What runs calls: permits, workers, batches, attempts and streams, composed by the engine."""

from .engine import Engine, Network, Supplies
from .executor import SerialExecutor
from .parked import ParkedExecutor

__all__ = ["Engine", "Network", "ParkedExecutor", "SerialExecutor", "Supplies"]
