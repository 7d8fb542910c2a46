"""What the service grants to one client address: connections, and calls a second.

Pure decisions: the caller brings the time (seconds, monotonic).
"""

from __future__ import annotations

from collections import Counter, deque

# Addresses remembered before those that went quiet are forgotten.
_FORGET_ABOVE = 1024


class SlidingWindow:
    """Grants so many events in any sliding second."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: deque[float] = deque()

    def admit(self, now: float, share: float = 1.0) -> float:
        """Count the event and give 0, or refuse it and give the seconds until one is free.

        Args:
            now: seconds, monotonic.
            share: of the limit that is granted now, above 0; one event always is.
        """
        self._forget(now)
        limit = max(1, round(self._limit * share))
        if len(self._times) < limit:
            self._times.append(now)
            return 0.0
        return self._times[-limit] + 1.0 - now

    def is_quiet(self, now: float) -> bool:
        """Tell whether no event lies within the last second."""
        self._forget(now)
        return not self._times

    def _forget(self, now: float) -> None:
        # An event leaves exactly one second after it came. The same sum as in admit(): rounded
        # otherwise, a refusal could report a wait of 0, which means admitted.
        while self._times and self._times[0] + 1.0 <= now:
            self._times.popleft()


class CallLimit:
    """A sliding window for each address; a limit of 0 admits all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._windows: dict[str, SlidingWindow] = {}

    def admit(self, address: str, now: float, share: float = 1.0) -> float:
        """Give 0 when admitted, otherwise the seconds to wait; `share` as in SlidingWindow."""
        if not self._limit:
            return 0.0
        window = self._windows.get(address)
        if window is None:
            self._prune(now)
            window = self._windows[address] = SlidingWindow(self._limit)
        return window.admit(now, share)

    def _prune(self, now: float) -> None:
        if len(self._windows) >= _FORGET_ABOVE:
            self._windows = {a: w for a, w in self._windows.items() if not w.is_quiet(now)}


class ConnectionLimit:
    """Counts the connections of each address; a limit of 0 admits all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """Count one more."""
        self._open[address] += 1

    def leave(self, address: str) -> None:
        """Count one less."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def is_exceeded(self, address: str) -> bool:
        """Tell whether this address holds more than it may."""
        return bool(self._limit) and self._open[address] > self._limit
