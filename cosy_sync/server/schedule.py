"""Trouble by the clock: outages, and times of lesser capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .faults import REFUSE, check_fault


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A span in which every call meets the same fault. Seconds count from the server's start."""

    start: float
    seconds: float
    # A fault's name; or `refuse`: nobody listens, and open connections are reset.
    fault: str = REFUSE

    def __post_init__(self) -> None:
        _check_span("outages", self.start, self.seconds)
        if self.fault != REFUSE:
            check_fault(self.fault)


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """A span in which only a share of the `rate` is granted. Seconds count from the start."""

    start: float
    seconds: float
    # Above 0, at most 1.
    share: float

    def __post_init__(self) -> None:
        _check_span("shortages", self.start, self.seconds)
        if not 0 < self.share <= 1:
            raise ValueError(
                f"shortages: the share is {self.share}: use a number above 0, at most 1"
            )


class Schedule:
    """Says what holds at an instant; of several spans the first in the list decides.

    Pure decisions: the caller brings the time (seconds since the start).
    """

    def __init__(self, outages: Sequence[Outage], shortages: Sequence[Shortage]) -> None:
        self._outages = tuple(outages)
        self._dips = tuple(shortages)

    def fault(self, now: float) -> str:
        """Give the outage's fault, or nothing: an empty name."""
        for outage in self._outages:
            if 0 <= now - outage.start < outage.seconds:
                return outage.fault
        return ""

    def share(self, now: float) -> float:
        """Give the share of the capacity that there is."""
        for shortage in self._dips:
            if 0 <= now - shortage.start < shortage.seconds:
                return shortage.share
        return 1.0

    def closures(self) -> list[float]:
        """Give the instants at which listening may end or begin again, in order."""
        if all(outage.fault != REFUSE for outage in self._outages):
            return []
        # Those of other faults may begin or end within one that refuses.
        return sorted({edge for o in self._outages for edge in (o.start, o.start + o.seconds)})


def _check_span(name: str, start: float, seconds: float) -> None:
    if not (0 <= start < math.inf and 0 < seconds < math.inf):
        raise ValueError(
            f"{name}: from {start} for {seconds}: use seconds from 0 on, and a length above 0"
        )
