"""Who works for the calls of single texts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..clock import Clock
from ..events import Observer
from ..threads import Schedule
from .executor import Executor
from .job import Stop

__all__ = ["Crew"]


@dataclass(eq=False, kw_only=True)
class Crew:
    """What all coalescers of an engine share.

    `workers` send, and never run the user's callbacks. `free` says whether a request could be sent
    right now; `most`, given a number of texts, how many of them the next request may have. Once
    `cut` is set, nothing is sent; `stops` end what is in flight by then. Adding to that set and
    discarding from it are atomic.
    """

    workers: Executor
    alarms: Schedule
    free: Callable[[], bool]
    clock: Clock
    observer: Observer
    most: Callable[[int], int] = lambda texts: texts
    stops: set[threading.Event] = field(default_factory=set)
    cut: Stop = field(default_factory=lambda: Stop(cuts=False))
