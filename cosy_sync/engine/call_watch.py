"""When a call of many texts stops waiting: its time is up, the client is closed, or it forked."""

from __future__ import annotations

import os

from ..clock import Clock
from ..errors import ClosedError, CosyError
from ..policies import Deadline
from ..threads.stop import Stop

__all__ = ["CallWatch"]

# Seconds after which a wait is interrupted to see whether it still makes sense.
_GLANCE = 0.5
# How many such looks cancelled texts get to end by themselves.
_LAST_GLANCES = 10


class CallWatch:
    """Belongs to one call, and lives on the thread that made it.

    Args:
        within: The end of the whole call.
        stop: Set once the client is closed.
    """

    def __init__(self, within: Deadline | None, stop: Stop, clock: Clock) -> None:
        self._within, self._stop, self._clock = within, stop, clock
        self.pid = os.getpid()  # of the process that made the call
        self._glances = 0

    @property
    def forked(self) -> bool:
        """Return whether this is a child of the process that made the call."""
        return os.getpid() != self.pid

    def refuse_child(self) -> None:
        """Raise ClosedError in a forked child: the workers are gone, and any lock may be held by
        one of them."""
        if self.forked:
            raise ClosedError("the process forked in the middle of this call; call again here")

    def seconds(self) -> float:
        """Return how long to wait before the next look."""
        within = self._within
        return _GLANCE if within is None else within.cut(_GLANCE, self._clock.now())

    def look(self) -> CosyError | None:
        """Return the error with which the call gives up, None where waiting still makes sense."""
        within = self._within
        if within is not None and within.expired(self._clock.now()):
            return within.error("speaking the texts of this call")
        if self._stop.is_set():
            self._glances += 1
            if self._glances > _LAST_GLANCES:
                return ClosedError("the client was closed in the middle of this call")
        return None
