"""What the text queues of an engine share: workers, alarms, clock."""

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

    `executor` sends, and never runs the user's callbacks. `free` says whether a request could be
    sent right now; `most`, given a number of texts, how many of them the next request may have.
    Once `cut` is set, nothing is sent; `stops` end what is in flight by then. Adding to that set
    and discarding from it are atomic.
    """

    executor: Executor
    alarms: Schedule
    free: Callable[[], bool]
    clock: Clock
    observer: Observer
    most: Callable[[int], int] = lambda texts: texts
    stops: set[threading.Event] = field(default_factory=set)
    cut: Stop = field(default_factory=lambda: Stop(cuts=False))

    def call(
        self,
        lead: Callable[[threading.Lock], None],
        tenant_limit: TenantLimit | None,
        urgent: bool,
        failed: Callable[[CosyError], None],
    ) -> None:
        """Have a worker lead a batch of a queue, once its tenant has a place; `failed` is told
        where there is no worker any more."""
        start = functools.partial(self._start, lead, tenant_limit, failed)
        if tenant_limit is None:
            start()
            return
        enter = functools.partial(tenant_limit.enter_later, start, urgent=urgent)
        if on_main_thread():  # Ctrl-C must not end it while it holds a tenant's place
            with contextlib.suppress(ClosedError):
                self.executor.submit(enter)
                return
        enter()

    def _start(
        self,
        lead: Callable[[threading.Lock], None],
        tenant_limit: TenantLimit | None,
        failed: Callable[[CosyError], None],
    ) -> None:
        wanted = threading.Lock()
        try:
            self.executor.submit(lambda: lead(wanted))
        except ClosedError as error:
            if tenant_limit is not None:
                tenant_limit.release()
            failed(error)
        except BaseException:  # Ctrl-C: the worker may have been called, or not
            wanted.acquire(blocking=False)
            raise
