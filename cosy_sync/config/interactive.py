"""How calls of one text share requests, and when a late one is sent a second time."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import Rule, check, count, flag, not_negative, positive
from ..fields import tells_fields

__all__ = ["CoalesceConfig", "HedgeConfig"]


@tells_fields
@dataclass(frozen=True, kw_only=True)
class CoalesceConfig:
    """How concurrent calls of `synth`, `submit` and `synth_many` of few texts share requests."""

    enabled: bool = True
    """Send texts of callers with the same settings together, as many as a batch takes. Callers
    in one request get their audio at the same time: the longest text decides."""
    linger: float = 0.005
    """Seconds that a text waits for others to join its batch while some are in flight, twice as
    long at bulk priority; 0 never. It is added to the latency. A text that finds nothing in
    flight is sent at once."""
    single_flight: bool = True
    """Send a text once that several callers want at the same time; all of them get the same
    audio. Turn it off for a voice whose takes should differ."""

    def __post_init__(self) -> None:
        check(self, flag("enabled", "single_flight") + not_negative("linger") + _COALESCE_RULES)


_COALESCE_RULES: tuple[Rule, ...] = (("linger", lambda v: v <= 1, "at most 1 second"),)
_HEDGE_RULES: tuple[Rule, ...] = (("quantile", lambda v: v < 1, "below 1"),)


@tells_fields
@dataclass(frozen=True, kw_only=True)
class HedgeConfig:
    """When a call that is late is sent a second time, to another endpoint."""

    enabled: bool = False
    """Costs the service up to 1 - `quantile` more calls, paid from the retry budget. Needs two
    endpoints or more; for `interactive` calls only."""
    quantile: float = 0.95
    """A call is late when it takes longer for each character of its longest text than this
    share of the latest calls."""
    min_samples: int = 50
    """Calls in the window below which nothing counts as late."""
    window: float = 60.0
    """Seconds over which calls are looked at."""

    def __post_init__(self) -> None:
        check(
            self,
            flag("enabled") + positive("quantile", "window") + count("min_samples") + _HEDGE_RULES,
        )
