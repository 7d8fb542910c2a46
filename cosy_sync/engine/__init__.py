"""Machines: budget, executor, batcher, attempts, dispatcher, composed by the engine."""

from .engine import Engine, Network, Supplies
from .executor import SerialExecutor
from .parked import ParkedExecutor

__all__ = ["Engine", "Network", "ParkedExecutor", "SerialExecutor", "Supplies"]
