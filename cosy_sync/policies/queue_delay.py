"""How long a call may queue for a slot of the rate limit while the rate is lowered."""

from __future__ import annotations

__all__ = ["QueueDelay"]

# Seconds after which a queue counts as lasting; and seconds without a queue after which that is
# forgotten.
_STANDING = 1.0
# Share of the patience that is left while the queue lasts.
_SHORTER = 0.1
# Turns that a call may wait for even then, so that none is left unused.
_TURNS = 4


class QueueDelay:
    """Lets the calls of a short burst wait, and keeps a queue from lasting.

    After a burst the queue is soon empty. Where more calls come than the rate allows, the queue
    lasts however long anybody waits; it delays every call, and is sent on top of the new calls as
    soon as the rate has recovered. CoDel (RFC 8289) tells the two apart by time: when no call has
    found a short queue for a second, the queue lasts, and calls wait only for the next few slots.

    It has no lock: that of its owner guards it.

    Args:
        most: Seconds that a call waits in a burst.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._since = float("-inf")  # the first of the long waits that follow each other
        self._latest = float("-inf")  # the last of them

    def bears(self, wait: float, rate: float, now: float) -> bool:
        """Return whether a call may wait so many seconds, at so many requests per second."""
        short = min(self._most, max(_SHORTER * self._most, _TURNS / rate))
        if wait <= short:
            return True
        if now - self._latest > _STANDING:
            self._since = now
        self._latest = now
        return wait <= self._most and now - self._since < _STANDING
