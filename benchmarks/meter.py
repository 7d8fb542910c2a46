"""Measuring inside a worker: a window of a closed loop, or a whole piece of work."""

from __future__ import annotations

import math
import resource
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Meter", "cpu_seconds", "resident_bytes"]


def cpu_seconds() -> float:
    """Return the processor time of this process, in user and kernel mode."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def _thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@dataclass(frozen=True)
class _Instant:
    at: float
    cpu: float
    kernel: float


def _now() -> _Instant:
    kernel = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    return _Instant(time.monotonic(), cpu_seconds(), kernel)


class Meter:
    """Notes when calls ended and how long they took; `over` tells loops to stop.

    Noting is one append per call, the same for every peer.
    """

    def __init__(self, warm: float, seconds: float) -> None:
        self._warm = warm
        self._seconds = seconds
        # Each finished call: when it ended, how long it took.
        self._calls: list[tuple[float, float]] = []
        self._errors: Counter[str] = Counter()
        self._begin = self._end = _now()
        self._threads = 0
        self._in_waves = False
        self._closed = threading.Event()
        self.over = False
        # Units of a span, where they are not calls.
        self.units = 0
        # Numbers of a benchmark's own, reported as they are.
        self.extra: dict[str, Any] = {}

    # -- what peers call --------------------------------------------------------------------------

    def open_window(self) -> None:
        """Start the clock: the window opens after the warm-up, on a thread of its own."""
        self._in_waves = True
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def wait(self) -> None:
        """Wait until the window is closed."""
        self._closed.wait()

    @contextmanager
    def span(self) -> Iterator[None]:
        """Measure a whole piece of work."""
        self._begin = _now()
        try:
            yield
        finally:
            self._end = _now()
            self._count_threads()

    def note(self, started: float) -> None:
        """Note a call that ended well right now."""
        ended = time.monotonic()
        self._calls.append((ended, ended - started))

    def note_call(self, ended: float, latency: float) -> None:
        """Note a call that ended well at an instant of time.monotonic()."""
        self._calls.append((ended, latency))

    def note_error(self, error: BaseException) -> None:
        """Note a call that failed."""
        self._errors[type(error).__name__] += 1

    # -- what the worker prints -------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Return the numbers: rates per second, seconds, micro- and milliseconds, megabytes."""
        begin, end = self._begin.at, self._end.at
        latencies = sorted(took for at, took in self._calls if begin <= at < end)
        units = self.units or len(latencies)
        cpu = self._end.cpu - self._begin.cpu
        rate = self._smooth_rate() if self._in_waves else units / max(end - begin, 1e-9)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "rate": rate,
            "wall_s": end - begin,
            "cpu_us": cpu / units * 1e6 if units else math.nan,
            "kernel_share": (self._end.kernel - self._begin.kernel) / cpu if cpu else math.nan,
            "p50_ms": _quantile(latencies, 0.5) * 1e3,
            "p99_ms": _quantile(latencies, 0.99) * 1e3,
            "mean_ms": statistics.fmean(latencies) * 1e3 if latencies else math.nan,
            "rss_mb": peak / 1024,
            "threads": self._threads,
            "busy": cpu / max(end - begin, 1e-9),
            "units": units,
            "errors": sum(self._errors.values()),
            "error_kinds": dict(self._errors),
            **self.extra,
        }

    def _smooth_rate(self) -> float:
        """Weigh each call by a Hann window over the interval.

        Replies come in waves one latency apart. Counted between two edges, a wave more or less
        would be worth several per cent; a Hann window makes the edges count nothing.
        """
        begin, length = self._begin.at, self._end.at - self._begin.at
        phases = ((at - begin) / length for at, _ in self._calls)
        weights = (1 - math.cos(2 * math.pi * phase) for phase in phases if 0 <= phase < 1)
        return math.fsum(weights) / length

    def _watch(self) -> None:
        time.sleep(self._warm)
        self._begin = _now()
        self._count_threads()
        time.sleep(self._seconds)
        self._count_threads()
        self._end = _now()
        self.over = True
        self._closed.set()

    def _count_threads(self) -> None:
        self._threads = max(self._threads, _thread_count())


def _quantile(ordered: list[float], share: float) -> float:
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
