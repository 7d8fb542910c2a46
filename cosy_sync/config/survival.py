"""What the client does when the service fails: retries, breaker, ejection, overload, checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checks import Rule, check, count, flag, not_negative, positive, whole
from ..errors import ConfigError
from ..fields import tells_fields
from ..models import Audio

__all__ = ["BreakerConfig", "EjectionConfig", "OverloadConfig", "RetryConfig", "VerifyConfig"]


@tells_fields
@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """When a failed call is sent again: 200 ms, 400 ms, 800 ms, each with jitter."""

    # Repetitions after the first attempt.
    max_retries: int = 3
    # Seconds before the first repetition; doubled each time.
    base: float = 0.2
    # The longest wait in seconds. A longer Retry-After from the service is obeyed all the same.
    max_wait: float = 10.0
    # Repetitions after audio that was wrong or missing.
    max_bad_audio: int = 2
    # Seconds after its first failure for which a bulk text waits, beyond its repetitions, for an
    # endpoint that is away; None: as long as its deadline allows. Shorter ends a call sooner where
    # nothing is at the address, and loses texts to longer outages.
    outlast: float | None = None
    # Seconds for which a bulk call waits for an endpoint that is away and has answered nothing yet:
    # so a wrong address shows sooner. None: as `outlast` says.
    first_contact: float | None = None

    def __post_init__(self) -> None:
        check(
            self,
            whole("max_retries", "max_bad_audio")
            + positive("base", "max_wait")
            + (not_negative("outlast") if self.outlast is not None else ())
            + (not_negative("first_contact") if self.first_contact is not None else ()),
        )


_RATIO_RULES: tuple[Rule, ...] = (("failure_ratio", lambda v: v <= 1, "at most 1"),)
_BREAKER_RULES: tuple[Rule, ...] = (
    *_RATIO_RULES,
    ("slow_ratio", lambda v: v <= 1, "at most 1"),
    ("jitter", lambda v: v < 1, "below 1"),
    ("storage", lambda v: v is None or callable(v), "a function (endpoint) -> pybreaker storage"),
)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """When an endpoint is left alone for a while."""

    # Share of failures that opens the breaker.
    failure_ratio: float = 0.5
    # Seconds from which on a call counts as slow, whether it succeeds or fails; None never.
    slow_call: float | None = None
    # Share of slow calls that opens the breaker.
    slow_ratio: float = 0.5
    # Seconds over which the shares are counted.
    window: float = 10.0
    # Calls in the window below which it never opens.
    min_calls: int = 20
    # Seconds of nothing but failures, `min_calls` of them, that open it whatever came before: a
    # service that has died is left alone long before its failures are half of the window.
    dead_after: float = 1.5
    # Seconds that it stays open; `jitter` is a share of them, so that clients do not return as one.
    # While bulk work waits, single probes go earlier: after a 60th of it, then at most every 30th.
    open_for: float = 30.0
    jitter: float = 0.1
    # Calls let through afterwards; all of them must succeed, and none be slow, to close it.
    probes: int = 5
    # Seconds after which a probe that never reported gives its place to another.
    probe_lease: float = 60.0
    # pybreaker listeners, told of changes and of calls on the threads where they happen: be quick.
    listeners: Sequence[Any] = field(default=(), repr=False)
    # Makes the pybreaker storage for an endpoint, given its address, in which the state is shared
    # with others. Called and used on a thread of its own, two or three times a second.
    storage: Callable[[str], Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "listeners", _listeners(self.listeners))
        check(
            self,
            positive("failure_ratio", "slow_ratio", "window", "open_for", "probe_lease")
            + positive("dead_after")
            + (positive("slow_call") if self.slow_call is not None else ())
            + count("min_calls", "probes")
            + not_negative("jitter")
            + _BREAKER_RULES,
        )


_OVERLOAD_RULES: tuple[Rule, ...] = (
    ("retry_share", lambda v: v <= 1, "at most 1"),
    ("throttle_factor", lambda v: v >= 1, "1 or more"),
    ("throttle_cap", lambda v: v < 1, "below 1"),
    ("decrease", lambda v: v < 1, "below 1"),
)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class OverloadConfig:
    """How the client holds back when the service has too much to do."""

    # Requests in flight at an endpoint at first, or a twelfth of its `max_connections` where that
    # is more; more as soon as replies show that it bears them. More fills a fast service earlier,
    # by a round trip or two, and gives a slow one more texts than it can speak before their
    # deadline.
    start: int = 4
    # Retries of interactive calls, as a share of the interactive texts sent in the latest seconds,
    # `retry_window`. More saves more calls from single failures, and adds as much traffic when
    # everything fails; a longer window lets more of it come at once.
    retry_share: float = 0.1
    retry_window: float = 10.0
    # Retries per second that are allowed in any case: a quiet client has no texts to take a
    # share of.
    retry_floor: float = 1.0
    # Calls are held back once the service accepts less than one in so many, in the latest
    # seconds, `throttle_window`. A longer window is steadier; one that is not much shorter than
    # the breaker's leaves nothing to do before the breaker opens.
    throttle_factor: float = 2.0
    throttle_window: float = 3.0
    # The largest share that is held back; 0 for none. The rest finds out when the service is back.
    throttle_cap: float = 0.8
    # Calls in the window below which none is held back.
    throttle_min_calls: int = 20
    # What the rate (after 429s) and the requests in flight (after 429, 503 and time-outs) are
    # multiplied with, at most once in a round trip. Smaller gives way faster and wastes more.
    decrease: float = 0.7
    # Seconds in which the rate is back after one decrease. Shorter probes the limit more often.
    recovery: float = 5.0
    # Seconds that an interactive call waits for a slot while the rate is lowered, and a tenth of
    # them (or four slots) once a queue has lasted for a second; bulk work waits as long as its
    # deadline allows. More serves more calls, later, and their line is sent on top of the new
    # calls once the service has recovered.
    patience: float = 0.5

    def __post_init__(self) -> None:
        check(
            self,
            positive("retry_window", "throttle_factor", "throttle_window", "decrease", "recovery")
            + not_negative("retry_share", "retry_floor", "throttle_cap", "patience")
            + count("start", "throttle_min_calls")
            + _OVERLOAD_RULES,
        )


def _listeners(given: Any) -> tuple[Any, ...]:
    # Classes of pybreaker's own, which is not imported here.
    calls = ("state_change", "success", "failure")
    good = isinstance(given, (list, tuple)) and all(
        callable(getattr(each, name, None)) and not isinstance(each, type)
        for each in given
        for name in calls
    )
    if not good:
        raise ConfigError("listeners: must be a list of pybreaker listeners (objects, not classes)")
    return tuple(given)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class EjectionConfig:
    """When one of several endpoints is left out because its calls fail. Never over half of them."""

    # Share of its latest calls that failed, wrong audio included, at which an endpoint is left out.
    failure_ratio: float = 0.6
    # Calls that the share is a moving average over. Fewer is quicker: of 32, 15 failures in a row
    # suffice; but chance then also ejects an endpoint when all of them fail now and then.
    calls: int = 32
    # Seconds of the first ejection; twice as many each time that the probe after it fails or the
    # endpoint is soon left out again, up to `longest`.
    base: float = 5.0
    longest: float = 300.0
    # Seconds after which a probe that never reported gives its place to another.
    probe_lease: float = 60.0

    def __post_init__(self) -> None:
        check(
            self,
            positive("failure_ratio", "base", "longest", "probe_lease")
            + count("calls")
            + _RATIO_RULES,
        )


@tells_fields
@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What audio must be like to count as a success."""

    # False accepts any well-formed audio; missing or doubled items are refused all the same.
    enabled: bool = True
    # Seconds of speech per character: the widest plausible bounds. Of the least, silence counts for
    # nothing.
    min_seconds_per_char: float = 0.02
    max_seconds_per_char: float = 2.0
    # Seconds that every text may last longer: pauses at both ends.
    slack: float = 2.0
    # The caller's own check, (text, audio) -> bool, on a worker thread; False refuses the audio.
    # Nothing of the service's is held meanwhile. It may call the client, on that very thread.
    # Not part of the hash, so that any object may be given.
    check: Callable[[str, Audio], bool] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check(
            self,
            (
                *flag("enabled"),
                ("check", lambda v: v is None or callable(v), "a function (text, audio) -> bool"),
                *positive("max_seconds_per_char"),
                *not_negative("min_seconds_per_char", "slack"),
            ),
        )
