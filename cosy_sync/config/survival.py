"""What the client does when the service fails: retries, breaker, ejection, verification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..checks import Rule, check, count, flag, not_negative, positive, whole
from ..models import Audio

__all__ = ["BreakerConfig", "EjectionConfig", "RetryConfig", "VerifyConfig"]


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

    def __post_init__(self) -> None:
        check(self, whole("max_retries", "max_bad_audio") + positive("base", "max_wait"))


_RATIO_RULES: tuple[Rule, ...] = (("failure_ratio", lambda v: v <= 1, "at most 1"),)
_BREAKER_RULES: tuple[Rule, ...] = (
    *_RATIO_RULES,
    ("jitter", lambda v: v < 1, "below 1"),
)


@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """When an endpoint is left alone for a while."""

    # Share of failures that opens the breaker.
    failure_ratio: float = 0.5
    # Seconds over which the share is counted.
    window: float = 10.0
    # Calls in the window below which it never opens.
    min_calls: int = 20
    # Seconds that it stays open; `jitter` is a share of them, so that clients do not return as one.
    open_for: float = 30.0
    jitter: float = 0.1
    # Calls let through afterwards; all of them must succeed to close it.
    probes: int = 5
    # Seconds after which a probe that never reported gives its place to another.
    probe_lease: float = 60.0

    def __post_init__(self) -> None:
        check(
            self,
            positive("failure_ratio", "window", "open_for", "probe_lease")
            + count("min_calls", "probes")
            + not_negative("jitter")
            + _BREAKER_RULES,
        )


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


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What audio must be like to count as a success."""

    # False accepts any well-formed audio; missing or doubled items are refused all the same.
    enabled: bool = True
    # Seconds of speech per character: the widest plausible bounds.
    min_seconds_per_char: float = 0.02
    max_seconds_per_char: float = 2.0
    # Seconds that every text may last longer: pauses at both ends.
    slack: float = 2.0
    # The caller's own check, (text, audio) -> bool, on a worker thread; False refuses the audio.
    check: Callable[[str, Audio], bool] | None = None

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
