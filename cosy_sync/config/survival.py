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

    max_retries: int = 3
    """Repetitions after the first attempt."""
    base: float = 0.2
    """Seconds before the first repetition; doubled each time."""
    max_wait: float = 10.0
    """The longest wait in seconds. A longer Retry-After from the service is obeyed all the same."""
    max_bad_audio: int = 2
    """Repetitions after audio that was wrong or missing."""
    outlast: float | None = None
    """Seconds after its first failure for which a bulk text waits, beyond its repetitions, for
    an endpoint that is away; None: as long as its deadline allows. Shorter ends a call sooner
    where nothing is at the address, and loses texts to longer outages."""
    first_contact: float | None = None
    """Seconds for which a bulk call waits for an endpoint that is away and has answered nothing
    yet: so a wrong address shows sooner. None: as `outlast` says."""

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

    failure_ratio: float = 0.5
    """Share of failures that opens the breaker."""
    slow_call: float | None = None
    """Seconds from which on a call counts as slow, whether it succeeds or fails; None never."""
    slow_ratio: float = 0.5
    """Share of slow calls that opens the breaker."""
    window: float = 10.0
    """Seconds over which the shares are counted."""
    min_calls: int = 20
    """Calls in the window below which it never opens."""
    dead_after: float = 1.5
    """Seconds of nothing but failures, `min_calls` of them, that open it whatever came before:
    a service that has died is left alone long before its failures are half of the window."""
    open_for: float = 30.0
    """Seconds that it stays open. While bulk work waits, single probes go earlier: after a 60th of
    it, then at most every 30th."""
    jitter: float = 0.1
    """Share of `open_for` that is added or taken away at random, so that clients do not all return
    at the same moment."""
    probes: int = 5
    """Calls let through afterwards; all of them must succeed, and none be slow, to close it."""
    probe_lease: float = 60.0
    """Seconds after which a probe that never reported gives its place to another."""
    listeners: Sequence[Any] = field(default=(), repr=False)
    """pybreaker listeners, told of changes and of calls on the threads where they happen: be
    quick."""
    storage: Callable[[str], Any] | None = field(default=None, repr=False)
    """Makes the pybreaker storage for an endpoint, given its address, in which the state is
    shared with others. Called and used on a thread of its own, two or three times a second."""

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

    start: int = 4
    """Requests in flight at an endpoint at first, or a twelfth of its `max_connections` where
    that is more; more as soon as replies show that it bears them. More fills a fast service
    earlier, by a round trip or two, and gives a slow one more texts than it can speak before
    their deadline."""
    retry_share: float = 0.1
    """Retries of interactive calls, as a share of the interactive texts sent in the last
    `retry_window` seconds; up to twice as many, a fifth at most, while no more than a fifth of
    what was sent lately fails. More saves more calls, and adds as much traffic when everything
    fails."""
    retry_window: float = 10.0
    """Seconds over which `retry_share` is counted. A longer window lets more retries come at
    once."""
    retry_floor: float = 1.0
    """Retries per second that are always allowed: a quiet client has no texts to share out."""
    throttle_factor: float = 2.0
    """Calls are held back once the service accepts less than one in this many of those in the last
    `throttle_window` seconds."""
    throttle_window: float = 3.0
    """Seconds over which `throttle_factor` is counted. A longer window is steadier; one that is
    not much shorter than the breaker's leaves nothing to do before the breaker opens."""
    throttle_cap: float = 0.8
    """The largest share that is held back; 0 for none. The rest finds out when the service is
    back."""
    throttle_min_calls: int = 20
    """Calls in the window below which none is held back."""
    decrease: float = 0.7
    """What the rate (after 429s) and the requests in flight (after 429, 503 and time-outs) are
    multiplied with, at most once in a round trip. Smaller gives way faster and wastes more."""
    recovery: float = 5.0
    """Seconds in which the rate is back after one decrease. Shorter probes the limit more often."""
    patience: float = 0.5
    """Seconds that an interactive call waits for a slot while the rate is lowered, and a tenth
    of them (or four slots) once a queue has lasted for a second; bulk work waits as long as its
    deadline allows. More serves more calls, later, and those that waited are sent on top of the
    new calls once the service has recovered."""

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

    failure_ratio: float = 0.6
    """Share of its latest calls that failed, wrong audio included, at which an endpoint is left
    out."""
    calls: int = 32
    """Calls that the share is a moving average over. Fewer is quicker: of 32, 15 failures in a
    row suffice; but chance then also ejects an endpoint when all of them fail now and then."""
    base: float = 5.0
    """Seconds of the first ejection. Doubled each time that the probe after it fails or the
    endpoint is soon left out again, up to `longest`."""
    longest: float = 300.0
    """The longest ejection in seconds."""
    probe_lease: float = 60.0
    """Seconds after which a probe that never reported gives its place to another."""

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

    enabled: bool = True
    """False accepts any well-formed audio; missing or doubled items are refused all the same."""
    min_seconds_per_char: float = 0.02
    """The fewest plausible seconds of speech per character. Silence does not count as speech."""
    max_seconds_per_char: float = 2.0
    """The most plausible seconds of audio per character."""
    slack: float = 2.0
    """Seconds that every text may last longer: pauses at both ends."""
    # Not part of the hash, so that any object may be given.
    check: Callable[[str, Audio], bool] | None = field(default=None, hash=False)
    """Your own check, (text, audio) -> bool, called on a worker thread; False refuses the audio.
    No connection or permit is held meanwhile, so it may call the client on that same thread."""

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
