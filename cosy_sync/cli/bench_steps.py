"""What a step of a bench has shown, and what follows from several: pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cosy_sync import (
    AuthError,
    BillingError,
    ConnectError,
    CosyError,
    PoolConfig,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.cli.report.figures import quantile

__all__ = [
    "Advice",
    "Call",
    "End",
    "Notes",
    "Speech",
    "Step",
    "advise",
    "is_refusal",
    "knee",
    "ladder",
    "measure",
    "too_many",
    "verdict",
]

# Share of the best throughput that is as good as the best.
FULL = 0.95
# Share of what a step could have gained that it must gain for the sweep to go on.
_GAIN = 0.1
# Share of the rate limit from which more connections cannot bring much.
_AT_RATE = 0.9
# The sweep's last doubling is left out when it is nearly the end itself.
_APART = 1.25
# Failed texts that are believed to be a rise, and the share of all that they must exceed.
_FEW, _SHARE = 3, 0.05

_REFUSALS = (AuthError, BillingError, ConnectError, ThrottledError, UnavailableError)


# -- what is noted -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One call that ended. Seconds; instants on the clock of time.monotonic()."""

    started: float
    total: float
    connect: float
    error: CosyError | None


@dataclass(frozen=True, slots=True)
class Speech:
    """One text that was spoken: when and how long its call took, and the seconds of speech."""

    started: float
    total: float
    seconds: float


@dataclass(kw_only=True)
class Notes:
    """What is noted while a step runs. `whole`: it had its time, and nothing cut it short.

    `started` is when it begins to count: calls may have begun before.
    """

    in_flight: int
    # Texts in a call.
    batch_size: int
    started: float
    ended: float = 0.0
    calls: Sequence[Call] = ()
    spoken: list[Speech] = field(default_factory=list)
    failed: int = 0
    # Seconds of this process's processor time.
    cpu: float = 0.0
    whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Step:
    """The figures of one step.

    Rates are per second, times in seconds. A call's time does not contain connecting: a client
    that goes on keeps its connections. `cpu` is the share of one core that the client used.
    """

    in_flight: int
    batch_size: int
    seconds: float
    requests: int
    requests_per_second: float
    texts_per_second: float
    speech_per_second: float
    latency: float
    p50: float
    p99: float
    errors: int
    throttled: int
    cpu: float
    whole: bool


def measure(notes: Notes) -> Step:
    """Work out a step's figures.

    A call counts with the share of its time that lies within the step, so what is in flight at
    the step's end neither counts in full nor is lost.
    """
    seconds = max(notes.ended - notes.started, 1e-9)
    good = [call for call in notes.calls if call.error is None]
    late = (call for call in good if call.started + call.total >= notes.started)
    times = sorted(call.total - call.connect for call in late)
    shares = [_inside(notes, each.started, each.total) for each in notes.spoken]
    spoken = zip(shares, notes.spoken, strict=True)
    return Step(
        in_flight=notes.in_flight,
        batch_size=notes.batch_size,
        seconds=seconds,
        requests=len(notes.calls),
        requests_per_second=sum(_inside(notes, c.started, c.total) for c in good) / seconds,
        texts_per_second=sum(shares) / seconds,
        speech_per_second=sum(share * each.seconds for share, each in spoken) / seconds,
        latency=sum(times) / len(times) if times else 0.0,
        p50=quantile(times, 0.5),
        p99=quantile(times, 0.99),
        errors=notes.failed,
        throttled=sum(isinstance(call.error, ThrottledError) for call in notes.calls),
        cpu=notes.cpu / seconds,
        whole=notes.whole,
    )


def _inside(notes: Notes, started: float, total: float) -> float:
    inside = min(started + total, notes.ended) - max(started, notes.started)
    return max(0.0, inside) / total if total > 0 else 1.0


# -- how far to go -------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """Why a sweep ended: one word for programs, and the words for people."""

    kind: str
    words: str


def ladder(top: int) -> list[int]:
    """Return the steps of a sweep: 1, 2, 4, 8 ... and `top` itself."""
    steps = [1]
    while steps[-1] * 2 * _APART <= top:
        steps.append(steps[-1] * 2)
    return steps if top == 1 else [*steps, top]


def verdict(steps: Sequence[Step], rate: float, top: int) -> End | None:
    """Say whether the sweep ends after its latest step, and why; None to go on.

    Args:
        rate: requests per second that the endpoint is allowed.
        top: the last step of the sweep.
    """
    now = steps[-1]
    # One call more or less is chance.
    if now.requests_per_second + 1 / now.seconds >= _AT_RATE * rate:
        words = f"the rate limit of {rate:g} requests/s is reached; only a higher one brings more"
        return End("rate", words)
    if len(steps) > 1 and not _grows(steps[-2], now):
        gain = now.requests_per_second / max(steps[-2].requests_per_second, 1e-9) - 1
        more = f"{100 * gain:.0f} % more" if gain >= 0.005 else "no more"
        words = f"{steps[-2].in_flight} to {now.in_flight} in flight brought {more} requests/s"
        return End("knee", words)
    if now.in_flight >= top:
        grew = "; throughput was still growing" if len(steps) > 1 else ""
        return End("top", f"{top} in flight is all that it was allowed{grew}")
    return None


def _grows(before: Step, now: Step) -> bool:
    wanted = 1 + _GAIN * (now.in_flight / before.in_flight - 1)
    return now.requests_per_second >= before.requests_per_second * wanted


def knee(steps: Sequence[Step]) -> Step | None:
    """Return the step that brought as good as the best throughput with the fewest texts in flight.

    By Little's law they wait least there. Returns None if no step was measured in full.
    """
    whole = [step for step in steps if step.whole and step.texts_per_second > 0]
    best = max((step.texts_per_second for step in whole), default=0.0)
    good = (step for step in whole if step.texts_per_second >= FULL * best)
    return min(good, key=lambda step: step.in_flight * step.batch_size, default=None)


def is_refusal(error: CosyError) -> bool:
    """Tell whether a service that answers so has had enough, or does not want us at all."""
    return isinstance(error, _REFUSALS)


def too_many(failed: int, texts: int) -> bool:
    """Tell whether so many failures among so many texts are more than single bad texts."""
    return failed >= _FEW and failed > _SHARE * texts


# -- what to configure ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The settings that fit what was measured; rate and latency as they are to be written."""

    max_connections: int
    rate: float
    requests_per_second: float
    latency: float


def advise(steps: Sequence[Step], end: End, rate: float, allowed: int) -> Advice | None:
    """Return settings for the knee; None when nothing was measured.

    The connections are those of the load, by Little's law with head-room: not more than were
    tried, or than were allowed where only the rate limit ended it. Where calls were throttled the
    rate is what was served; other refusals are of connections, which bound the rate themselves.

    Args:
        rate: requests per second that the endpoint was allowed.
        allowed: its connections.
    """
    best = knee(steps)
    if best is None:
        return None
    served, latency = _rounded(best.requests_per_second), _rounded(best.latency)
    most = allowed if end.kind == "rate" else best.in_flight
    return Advice(
        max_connections=min(most, PoolConfig.for_load(served, latency).max_connections),
        rate=min(rate, served) if any(step.throttled for step in steps) else rate,
        requests_per_second=served,
        latency=latency,
    )


def _rounded(value: float) -> float:
    """Round to three digits, so that what is shown is what was reckoned with."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return max(round(value, digits), 1e-6)
