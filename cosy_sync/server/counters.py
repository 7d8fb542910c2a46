"""What the server counts, for GET /stats."""

from __future__ import annotations

from collections import Counter, deque


class PeakMeter:
    """Remembers the largest number of events in any sliding second."""

    def __init__(self) -> None:
        self.peak = 0
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        """Count one event at this time (seconds, monotonic)."""
        times = self._times
        times.append(now)
        while times[0] + 1.0 <= now:
            times.popleft()
        self.peak = max(self.peak, len(times))


class Counters:
    """Plain numbers; changed by the event loop alone, readable from any thread."""

    def __init__(self) -> None:
        self.requests = 0
        self.batches = 0
        self.texts = 0
        self.audio_bytes = 0
        self.connections_now = 0
        self.connections_peak = 0
        self.refused_connections = 0
        self.overrun = 0
        # Keys that came with requests for files, which want none.
        self.keys_leaked = 0
        self.posts = PeakMeter()
        self._status: dict[int, int] = Counter()
        self._faults: dict[str, int] = Counter()

    def count_reply(self, status: int) -> None:
        """Count one answered request."""
        self._status[status] += 1

    def count_fault(self, name: str) -> None:
        """Count one injected fault."""
        self._faults[name] += 1

    def snapshot(self) -> dict[str, object]:
        """Give all numbers, ready for JSON."""
        # dict() copies in one step of the interpreter: the loop cannot change it meanwhile.
        status, faults = dict(self._status), dict(self._faults)
        return {
            "requests": self.requests,
            "batches": self.batches,
            "texts": self.texts,
            "audio_bytes": self.audio_bytes,
            "connections_now": self.connections_now,
            "connections_peak": self.connections_peak,
            "peak_requests_per_second": self.posts.peak,
            "status": {str(code): status[code] for code in sorted(status)},
            "throttled": status.get(429, 0),
            "refused": self.refused_connections,
            "overrun": self.overrun,
            "keys_leaked": self.keys_leaked,
            "faults": {name: faults[name] for name in sorted(faults)},
        }
