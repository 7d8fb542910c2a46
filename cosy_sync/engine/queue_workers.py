"""Who works for the calls of single texts."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..atomic import on_main_thread
from ..clock import Clock
from ..errors import ClosedError, CosyError
from ..events import Observer
from ..threads import Schedule
from ..threads.stop import Stop
from ..threads.workers import Executor
from .tenants import TenantLimit

__all__ = ["QueueWorkers"]


@dataclass(eq=False, kw_only=True)
class QueueWorkers:
    """What all text queues of an engine share.

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

    def call(
        self,
        attend: Callable[[threading.Lock], None],
        gate: TenantLimit | None,
        urgent: bool,
        failed: Callable[[CosyError], None],
    ) -> None:
        """Have a worker attend to a queue, once its tenant has a place; `failed` is told where
        there is no worker any more."""
        start = functools.partial(self._start, attend, gate, failed)
        if gate is None:
            start()
            return
        enter = functools.partial(gate.enter_later, start, urgent=urgent)
        if on_main_thread():  # Ctrl-C must not end it while it holds a tenant's place
            with contextlib.suppress(ClosedError):
                self.workers.submit(enter)
                return
        enter()

    def _start(
        self,
        attend: Callable[[threading.Lock], None],
        gate: TenantLimit | None,
        failed: Callable[[CosyError], None],
    ) -> None:
        wanted = threading.Lock()
        try:
            self.workers.submit(lambda: attend(wanted))
        except ClosedError as error:
            if gate is not None:
                gate.release()
            failed(error)
        except BaseException:  # Ctrl-C: the worker may have been called, or not
            wanted.acquire(blocking=False)
            raise
