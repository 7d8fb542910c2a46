"""Whether a new model speaks worse than the old one: counts of both, and a sequential test.

What is compared are shares: of requests that failed, of texts whose audio was refused, of requests
that took longer than a bound, of recordings that are longer or shorter than one. Each share lies in
a confidence sequence, an interval that holds at every look at once, so that one may look after each
text and stop whenever it suffices. For `k` bad ones of `n` it is all `p` with

    log B(k + 1/2, n - k + 1/2) - log B(1/2, 1/2) - k log p - (n - k) log(1 - p) < log(1 / alpha)

where B is the beta function. The left side's exponential is a likelihood ratio of a Beta(1/2, 1/2)
mixture to `p` (H. Robbins, Ann. Math. Stat. 41, 1970), a martingale under `p` that by Ville's
inequality ever reaches 1 / alpha with a probability of at most alpha; see also S. Howard et al.,
Ann. Stat. 49, 2021. The new one is worse where its interval lies wholly above the old one's. Five
comparisons of two intervals share the false-alarm rate evenly (union bound).

The bounds of seconds are found from the first observations of the old model, which are not used any
more after that: so shares above them are alike where the two models are, whatever is distributed
how. Requests are counted as such, and not by their texts, which fail together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CanaryState", "Evidence", "Judge", "Rate", "place_of"]

# Arms: the new model, "canary"; those texts of the old one that are packed as sparsely as the new
# one's, so that the times of requests may be compared, "control"; its other texts, "stable".
# What is compared; of all but "slow", all of the old model's texts count.
WORDS = {
    "failed": "requests that failed",
    "refused": "texts whose audio was refused",
    "slow": "requests that took too long for their characters",
    "long": "recordings that are too long",
    "short": "recordings that are too short",
}
METRICS = tuple(WORDS)
# First observations of the old model that a bound is found from, and their share below it.
_FIRST, _QUANTILE = 12, 0.9
# What the new one may be worse by, at most, to get more texts: a share of failures, or of others.
_AS_GOOD = {"failed": 0.01, "refused": 0.01, "slow": 0.15, "long": 0.15, "short": 0.15}


def place_of(name: str, text: str) -> float:
    """Return the place of a text in a canary's order, from 0 to 1: the first ones are the canary's,
    and stay so while its share grows."""
    data = f"{name}\n{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=7).digest(), "big") / 2**56


@dataclass(frozen=True)
class Rate:
    """So many bad ones of so many."""

    bad: float
    count: float

    @property
    def share(self) -> float:
        """Return the share of bad ones, 0 of nothing."""
        return self.bad / self.count if self.count else 0.0

    def low(self, alpha: float) -> float:
        """Return the lower end of the confidence sequence."""
        return self._end(alpha, 0.0) if self.bad else 0.0

    def high(self, alpha: float) -> float:
        """Return its upper end."""
        return self._end(alpha, 1.0) if self.bad < self.count else 1.0

    def _end(self, alpha: float, outside: float) -> float:
        bad, good = self.bad, self.count - self.bad
        mixed = math.lgamma(bad + 0.5) + math.lgamma(good + 0.5) - math.lgamma(bad + good + 1)
        limit = mixed - math.log(math.pi) + math.log(alpha)
        inside = self.share
        for _ in range(30):
            p = (inside + outside) / 2
            if _likelihood(bad, good, p) > limit:
                inside = p
            else:
                outside = p
        return outside


def _likelihood(bad: float, good: float, p: float) -> float:
    return (bad * math.log(p) if bad else 0.0) + (good * math.log1p(-p) if good else 0.0)


class Evidence:
    """What was counted of each arm. It has no lock: whoever uses it holds one.

    `counts` are numbers by "arm.metric" (bad ones) and "arm.metric.of" (all); `bounds` those in
    seconds for each character, by metric.

    Args:
        slower: How many times the old one's seconds the new one may take.
        pace: How many times longer or shorter than the old one's its speech may be.
    """

    def __init__(self, slower: float, pace: float) -> None:
        self._factors = {"slow": slower, "long": pace, "short": 1 / pace}
        self.counts: dict[str, float] = {}
        self.bounds: dict[str, float] = {}
        self._first: dict[str, list[float]] = {}

    def count(self, arm: str, metric: str, bad: float, of: float = 1) -> None:
        """Count bad ones among some."""
        key = f"{arm}.{metric}"
        self.counts[key] = self.counts.get(key, 0) + bad
        self.counts[f"{key}.of"] = self.counts.get(f"{key}.of", 0) + of

    def measure(self, arm: str, metric: str, seconds: float) -> None:
        """Count seconds for each character as above their bound, or below it for "short"."""
        bound = self.bounds.get(metric)
        if bound is None:
            self._find_bound(arm, metric, seconds)
            return
        # The old one's seconds are stretched: the new one may be worse by as much.
        seconds *= 1.0 if arm == "canary" else self._factors[metric]
        self.count(arm, metric, seconds < bound if metric == "short" else seconds > bound)

    def _find_bound(self, arm: str, metric: str, seconds: float) -> None:
        if arm == "canary" or (arm == "stable" and metric == "slow"):
            return
        first = self._first.setdefault(metric, [])
        first.append(seconds * self._factors[metric])
        if len(first) == _FIRST:
            first.sort(reverse=metric == "short")
            self.bounds[metric] = first[int(_QUANTILE * _FIRST)]


@dataclass(frozen=True)
class Judge:
    """Compares what was counted, with a probability of at most `alarms` to call alike ones unlike.

    `tolerance`: the share of failures that the new one may have more.
    """

    alarms: float
    tolerance: float

    @property
    def alpha(self) -> float:
        """Return what each interval may be wrong with."""
        return self.alarms / (2 * len(METRICS))

    def rates(self, counts: Mapping[str, float], metric: str) -> tuple[Rate, Rate]:
        """Return the new model's rate, and the old one's."""

        def rate(*arms: str) -> Rate:
            keys = [f"{arm}.{metric}" for arm in arms]
            sums = [sum([counts.get(key + end, 0) for key in keys]) for end in ("", ".of")]
            return Rate(*sums)

        return rate("canary"), rate("control", *(() if metric == "slow" else ("stable",)))

    def worse(self, counts: Mapping[str, float]) -> str | None:
        """Return the metric in which the new one is worse, None while that is not known."""
        for metric in METRICS:
            new, old = self.rates(counts, metric)
            spare = self.tolerance if metric in ("failed", "refused") else 0.0
            if new.share <= old.share + spare or not old.count:
                continue
            if new.low(self.alpha) > old.high(self.alpha) + spare:
                return metric
        return None

    def explain(self, counts: Mapping[str, float], metric: str) -> str:
        """Return what both have shown, in words."""
        new, old = self.rates(counts, metric)
        figures = [f"{rate.bad:g} of {rate.count:g} ({rate.share:.1%})" for rate in (new, old)]
        return f"{WORDS[metric]}: {figures[0]} against {figures[1]}"

    def as_good(self, counts: Mapping[str, float]) -> bool:
        """Return whether the new one is known to be as good as the old one, or nearly so."""
        for metric, spare in _AS_GOOD.items():
            new, old = self.rates(counts, metric)
            if not old.count or new.high(self.alpha) > old.low(self.alpha) + spare:
                return False
        return True


@dataclass(frozen=True)
class CanaryState:
    """What became of a canary: "running", "rolled back" or "promoted", with its share of the texts.

    `epoch` grows with each change, and what was counted before does not count after it. A share of
    None is the configured one. `reason` says what the new model was worse in.
    """

    epoch: int = 0
    state: str = "running"
    share: float | None = None
    reason: str = ""

    def rolled_back(self, reason: str) -> CanaryState:
        """Return the state after it was found to be worse: there is no way back but by hand."""
        return CanaryState(self.epoch + 1, "rolled back", 0.0, reason)

    def promoted(self, share: float) -> CanaryState:
        """Return the state with more texts."""
        return CanaryState(self.epoch + 1, "promoted" if share >= 1 else "running", share)
