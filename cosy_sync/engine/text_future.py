"""The future that `submit` returns: its callbacks never run on the thread that has its result."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context

from ..atomic import BareCondition
from ..errors import ClosedError
from ..models import Audio
from ..threads.workers import Executor
from ..user_code import goes_on, log_failure

__all__ = ["TextFuture"]


class TextFuture(Future[Audio]):
    """A future whose users' callbacks run on workers of `calls`, whoever sets its result.

    Callbacks of one future run one after the other, in the order in which they were added.
    """

    def __init__(self, calls: Executor) -> None:
        super().__init__()
        # With another condition, Ctrl-C in `result` could keep its lock, and the worker that has
        # the result would wait for ever.
        self._condition = BareCondition()
        self._calls = calls
        self._pid = os.getpid()
        # The user's callbacks that were not called yet. Every use of it is one atomic step.
        self._wanted: deque[Callable[[Future[Audio]], object]] = deque()
        # Held by the thread that calls them.
        self._calling = threading.Lock()

    def add_done_callback(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call the function on a worker for callbacks, once the future is done, with the context
        variables of whoever adds it.

        Where the client is closed, or in a forked child, it is called on the thread that ends the
        future, or on this one if that is done.
        """
        # There before the future may be done: whoever ends it meanwhile finds it.
        context = copy_context()
        self._wanted.append(lambda future: context.run(fn, future))
        super().add_done_callback(_call_on_worker)

    def when_ended(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call a function of ours, which is quick, on the thread that ends the future."""
        super().add_done_callback(fn)

    def hand_over(self) -> None:
        """Have a worker call what is wanted."""
        if self._pid == os.getpid():
            with contextlib.suppress(ClosedError):
                self._calls.submit(self._call_back)
                return
        self._call_back()  # nobody else is there

    def _call_back(self) -> None:
        # Who adds one while another thread calls leaves it to that thread, which looks once more
        # after it let go.
        while self._wanted and self._calling.acquire(blocking=False):
            try:
                self._call(self._wanted.popleft())
            except IndexError:
                pass
            finally:
                self._calling.release()

    def _call(self, fn: Callable[[Future[Audio]], object]) -> None:
        """Call a function of the user's; what it raises must not keep the others from being
        called."""
        try:
            fn(self)
        except BaseException as error:
            if goes_on(error):
                raise
            log_failure("a callback of a future failed")


def _call_on_worker(future: Future[Audio]) -> None:
    assert isinstance(future, TextFuture)
    future.hand_over()
