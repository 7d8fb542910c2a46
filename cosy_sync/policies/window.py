"""Two counts over the last seconds: what came in, and what became of it."""

from __future__ import annotations

__all__ = ["Window"]

# It moves on in so many steps: with ten it covers between 90 % and 100 % of its length.
_BUCKETS = 10


class Window:
    """A ring of buckets. It has no lock: that of its owner guards it.

    Args:
        seconds: Its length.
    """

    __slots__ = ("_per_second", "_ring", "_tick", "all", "some")

    def __init__(self, seconds: float) -> None:
        self._per_second = _BUCKETS / seconds
        self._ring = [[0, 0] for _ in range(_BUCKETS)]
        self._tick = 0
        self.all = 0
        self.some = 0

    def add(self, now: float, count: int, some: int) -> None:
        """Add to both counts. An instant that has passed already counts as the latest."""
        tick = int(now * self._per_second)
        if tick > self._tick:
            self._turn(tick)
        bucket = self._ring[self._tick % _BUCKETS]
        bucket[0] += count
        bucket[1] += some
        self.all += count
        self.some += some

    def forget(self, now: float) -> None:
        """Leave behind what is too old by now."""
        tick = int(now * self._per_second)
        if tick > self._tick:
            self._turn(tick)

    def _turn(self, tick: int) -> None:
        for passed in range(max(self._tick, tick - _BUCKETS) + 1, tick + 1):
            bucket = self._ring[passed % _BUCKETS]
            self.all -= bucket[0]
            self.some -= bucket[1]
            bucket[0] = bucket[1] = 0
        self._tick = tick
