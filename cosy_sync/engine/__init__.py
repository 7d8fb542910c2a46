"""Machines: budget, executor, batcher, attempts, dispatcher, composed by the engine."""

from .engine import Engine, Network, Supplies
from .executor import SerialExecutor, ThreadExecutor

__all__ = ["Engine", "Network", "SerialExecutor", "Supplies", "ThreadExecutor"]
