"""An endpoint's own limit and the one of all endpoints together: both must agree."""

from __future__ import annotations

from .limiter import EndpointLimiter, SlotWaiter

__all__ = ["JointLimiter"]


class JointLimiter:
    """Two queues, one behind the other; used as one. Only a request whose slot has come in the
    endpoint's own joins the common one, so that an endpoint that pauses delays no other.

    Pauses and lowered rates are the endpoint's own.
    """

    def __init__(self, own: EndpointLimiter, common: EndpointLimiter) -> None:
        self._own = own
        self._common = common

    def go(self, now: float, urgent: bool) -> bool:
        """Let a request leave now that was never queued; return whether it may."""
        own, common = self._own, self._common
        if own.next_free(now, urgent) > now or not common.go(now, urgent):
            return False
        if own.go(now, urgent):
            return True
        common.give_back()
        return False

    def join(self, waiter: SlotWaiter, now: float) -> float:
        """Queue up; return the seconds until its own endpoint's slot, as things are."""
        return self._own.join(waiter, now)

    def take(self, waiter: SlotWaiter, now: float) -> float:
        """Take both slots, leave the queues, and return 0; else stay, and return the seconds until
        they are there."""
        own, common = self._own, self._common
        wait = own.ready(waiter, now)
        if wait > 0.0:
            self._leave_second(waiter, now)
            return wait
        second = waiter.second
        if second is None:
            second = waiter.second = waiter.twin()
            common.join(second, now)
        wait = common.take(second, now)
        if wait > 0.0:
            return wait
        waiter.second = None
        wait = own.take(waiter, now)
        if wait > 0.0:  # somebody came between
            common.give_back()
        return wait

    def leave(self, waiter: SlotWaiter, now: float) -> None:
        """Leave the queues, where it is still queued."""
        self._leave_second(waiter, now)
        self._own.leave(waiter, now)

    def next_free(self, now: float, urgent: bool = False) -> float:
        """Return when a request that comes now would leave; an estimate, and without a lock."""
        return max(self._own.next_free(now, urgent), self._common.next_free(now, urgent))

    @property
    def paused_until(self) -> float:
        """Return the end of the endpoint's latest pause."""
        return self._own.paused_until

    def correct(self, went: float, left: float) -> None:
        """Note that the request which went at that instant left later."""
        self._own.correct(went, left)
        self._common.correct(went, left)

    def pause(self, until: float) -> None:
        """Let nothing leave for this endpoint before that instant."""
        self._own.pause(until)

    def _leave_second(self, waiter: SlotWaiter, now: float) -> None:
        second = waiter.second
        if second is not None:
            self._common.leave(second, now)
            waiter.second = None  # last: Ctrl-C may come before
