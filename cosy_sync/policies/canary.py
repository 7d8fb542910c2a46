"""Whether a new model speaks worse than the old one: counts of both, and a sequential test.

What is compared are shares: of requests that failed, of texts whose audio was refused, of
recordings that are longer or shorter than a bound. For `k` bad ones of `n` of the new model, and
`l` of `m` of the old one, the evidence against "the new one's share `p` is at most the old one's
`q` and a tolerance" is the likelihood ratio

    M = f(k, n) f(l, m) / max over p = q + tolerance of p^k (1 - p)^(n - k) q^l (1 - q)^(m - l)
    f(k, n) = B(k + 1/2, n - k + b) / B(1/2, b)

where B is the beta function, and b is 12 for failures, which are rare, else 1/2: a mixture over all
shares, to the best that the assumption can say. Whatever the true shares are, if they keep to it, M
is at most a ratio of a mixture to them, which is a martingale with mean 1; by Ville's inequality M
ever reaches 1 / alpha with a probability of at most alpha. So one may look after each text, and
stop whenever it suffices. (H. Robbins, Ann. Math. Stat. 41, 1970; L. Wasserman, A. Ramdas, S.
Balakrishnan, PNAS 117, 2020.) Of what is allowed, failed requests have 40 %, and each of the four
other comparisons 15 % (union bound).

The bounds of recordings, in seconds for each character, are found from the first observations of
the old model, which are not used any more after that: so shares above them are alike where the two
models are, whatever is distributed how. Each length of text has a bound of its own, as calls of
many texts send the short ones first, and these have more silence for each character. Requests are
counted as such, and not by their texts, which fail together.

How long requests take changes with the service's load, by the minute, and with it any bound would
have to. So a request of the new model is compared with the one of the control that came just before
it or just after it, in turn, of texts that are about as long. Of two alike ones, whatever the load,
the new one takes more than `slower` times as long in at most half of such pairs. The evidence
against that is the mean, over shares p above 1/2, of (2 p)^k (2 - 2 p)^(n - k) for k of n pairs: as
p is above 1/2, its mean never grows while the chance of each pair is at most 1/2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CanaryState", "Evidence", "Judge", "Rate", "log_pair_ratio", "log_ratio", "place_of"]

# Arms: the new model, "canary"; those texts of the old one that are packed as sparsely as the new
# one's, so that the times of requests may be compared, "control"; its other texts, "stable".
# "pair": one request of the first and one of the second.
# What is compared; of all but "slow", all of the old model's texts count.
WORDS = {
    "failed": "requests that failed",
    "refused": "texts whose audio was refused",
    "slow": "requests that took too long for their characters",
    "long": "recordings that are too long",
    "short": "recordings that are too short",
}
METRICS, FAILURES = tuple(WORDS), ("failed", "refused")
# `b` of failures; the parts of what is allowed.
_RARE, _OF_FAILED, _OF_OTHERS = 12.0, 0.4, 0.15
# Shares that are not told from 0 and 1, and the steps after which a maximum is found.
_LEAST, _STEPS = 1e-9, 40
# Of the shares on one side of another: where they are, between that and the end.
_PARTS = (0.1, 0.3, 0.5, 0.7, 0.9)
# Share of the pairs in which the new one may be slower where nothing tells the two apart; and one
# that it must be known to stay below, to get more texts.
_EVEN, _NEARLY_EVEN = 0.5, 0.6
# First observations of the old model that a bound is found from: their largest.
_FIRST = 6
# Characters up to which each length is a class of its own.
_SHORT = 16
# What the new one may be worse by, at most, to get more texts: a share of failures, or of others.
_AS_GOOD = {"failed": 0.01, "refused": 0.01, "long": 0.15, "short": 0.15}


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
    # Of its mixture: the larger, the rarer bad ones are expected to be.
    prior: float = 0.5

    @property
    def share(self) -> float:
        """Return the share of bad ones, 0 of nothing."""
        return self.bad / self.count if self.count else 0.0

    @property
    def mixture(self) -> float:
        """Return the logarithm of the likelihood under a mixture of shares, Beta(1/2, prior)."""
        bad, good = self.bad + 0.5, self.count - self.bad + self.prior
        return _log_beta(bad, good) - _log_beta(0.5, self.prior)

    def likelihood(self, share: float) -> float:
        """Return the logarithm of the likelihood if this is the true share."""
        bad, good = self.bad, self.count - self.bad
        share = min(max(share, _LEAST), 1 - _LEAST)
        return bad * math.log(share) + good * math.log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_ratio(new: Rate, old: Rate, spare: float, enough: float = -math.inf) -> float:
    """Return the logarithm of the evidence that the new rate is not `spare` above the old one:
    that it is more, or less, as the counts say. Where it is less than `enough`, what is returned
    may be too large, but not by as much."""

    def likelihood(share: float) -> float:
        return new.likelihood(share + spare) + old.likelihood(share)

    low, high, mixed = max(0.0, -spare), min(1.0, 1.0 - spare), new.mixture + old.mixture
    pooled = (new.bad + old.bad - spare * new.count) / max(1, new.count + old.count)
    most = mixed - likelihood(min(max(pooled, low), high))
    if most < enough:  # mostly: all else takes fifty times as long
        return most
    for _ in range(_STEPS):  # the likelihood has one maximum
        third = (high - low) / 3
        if likelihood(low + third) < likelihood(high - third):
            low += third
        else:
            high -= third
    return min(most, mixed - likelihood(low))


def log_pair_ratio(rate: Rate, share: float, *, above: bool) -> float:
    """Return the logarithm of the evidence that a rate of pairs is above a share, or below it."""
    bad, good, odds = rate.bad, rate.count - rate.bad, []
    for part in _PARTS:
        other = share + (1 - share) * part if above else share * part
        odds.append(bad * math.log(other / share) + good * math.log((1 - other) / (1 - share)))
    most = max(odds)
    return most + math.log(sum([math.exp(each - most) for each in odds]) / len(odds))


class Evidence:
    """What was counted of each arm. It has no lock: whoever uses it holds one.

    `counts` are numbers by "arm.metric" (bad ones) and "arm.metric.of" (all); `bounds` those in
    seconds for each character, by metric and class of lengths.

    Args:
        slower: How many times the old one's seconds the new one may take.
        pace: How many times longer or shorter than the old one's its speech may be.
    """

    def __init__(self, slower: float, pace: float) -> None:
        self._factors = {"slow": slower, "long": pace, "short": 1 / pace}
        self.counts: dict[str, float] = {}
        self.bounds: dict[str, float] = {}
        self._first: dict[str, list[float]] = {}
        # By class of lengths: which arm is the first of the next pair, and its latest request.
        self._leads: dict[str, str] = {}
        self._alone: dict[str, float] = {}

    def count(self, arm: str, metric: str, bad: float, of: float = 1) -> None:
        """Count bad ones among some."""
        key = f"{arm}.{metric}"
        self.counts[key] = self.counts.get(key, 0) + bad
        self.counts[f"{key}.of"] = self.counts.get(f"{key}.of", 0) + of

    def measure(self, arm: str, metric: str, seconds: float, chars: int, texts: int = 1) -> None:
        """Count what so many characters took, of one text or several: as above their bound, or
        below it for "short"; for "slow", which is the requests', beside one of the other model.

        Args:
            texts: 0 for the first sound of a stream.
        """
        kind, seconds = _class_of(chars, texts), seconds / chars
        if metric == "slow":
            self._compare(arm, kind, seconds)
            return
        key = f"{metric}.{kind}"
        bound = self.bounds.get(key)
        if bound is None:
            self._find_bound(arm, metric, key, seconds)
            return
        # The old one's seconds are stretched: the new one may be worse by as much.
        seconds *= 1.0 if arm == "canary" else self._factors[metric]
        self.count(arm, metric, seconds < bound if metric == "short" else seconds > bound)

    def _compare(self, arm: str, kind: str, seconds: float) -> None:
        """Make a pair of a request and the latest one of the other model. Each model begins every
        other pair, or a load that grows would always be the same one's."""
        if arm == "stable":
            return
        lead = self._leads.get(kind)
        if lead is None:
            lead = self._leads[kind] = ("control", "canary")[len(self._leads) % 2]
        if arm == lead:
            self._alone[kind] = seconds
        elif kind in self._alone:
            first = self._alone.pop(kind)
            new, old = (seconds, first) if arm == "canary" else (first, seconds)
            self.count("pair", "slow", new > old * self._factors["slow"])
            self._leads[kind] = arm

    def _find_bound(self, arm: str, metric: str, key: str, seconds: float) -> None:
        if arm == "canary":
            return
        first = self._first.setdefault(key, [])
        first.append(seconds * self._factors[metric])
        if len(first) == _FIRST:
            self.bounds[key] = min(first) if metric == "short" else max(first)
            del self._first[key]


def _class_of(chars: int, texts: int) -> str:
    """Return a name for texts that are about equally long, within a ninth; several of them in one
    request, of which there are fewer, within a half."""
    if texts == 0:
        return f"stream.{round(2 * math.log2(chars))}"
    if texts > 1:
        return f"several.{round(2 * math.log2(chars))}"
    return str(chars if chars <= _SHORT else round(_SHORT + 6 * math.log2(chars / _SHORT)))


@dataclass(frozen=True)
class Judge:
    """Compares what was counted, with a probability of at most `alarms` to call alike ones unlike.

    `tolerance`: the share of failures that the new one may have more.
    """

    alarms: float
    tolerance: float

    def enough(self, metric: str) -> float:
        """Return the logarithm of the evidence that suffices."""
        return -math.log(self.alarms * (_OF_FAILED if metric == "failed" else _OF_OTHERS))

    def rates(self, counts: Mapping[str, float], metric: str) -> tuple[Rate, Rate]:
        """Return the new model's rate, and the old one's. For "slow": of pairs, in how many the
        new one was slower, and nothing."""

        def rate(*arms: str) -> Rate:
            keys = [f"{arm}.{metric}" for arm in arms]
            sums = [sum([counts.get(key + end, 0) for key in keys]) for end in ("", ".of")]
            return Rate(sums[0], sums[1], _RARE if metric in FAILURES else 0.5)

        if metric == "slow":
            return rate("pair"), Rate(0, 0)
        return rate("canary"), rate("control", "stable")

    def worse(self, counts: Mapping[str, float]) -> str | None:
        """Return the metric in which the new one is worse, None while that is not known."""
        for metric in METRICS:
            new, old = self.rates(counts, metric)
            enough = self.enough(metric)
            if metric == "slow":
                found = log_pair_ratio(new, _EVEN, above=True)
            else:
                spare = self.tolerance if metric in FAILURES else 0.0
                if not (old.count and new.share > old.share + spare):
                    continue
                found = log_ratio(new, old, spare, enough)
            if found >= enough:
                return metric
        return None

    def explain(self, counts: Mapping[str, float], metric: str) -> str:
        """Return what both have shown, in words."""
        new, old = self.rates(counts, metric)
        if metric == "slow":
            return f"{WORDS[metric]}: in {new.bad:g} of {new.count:g} pairs ({new.share:.1%})"
        figures = [f"{rate.bad:g} of {rate.count:g} ({rate.share:.1%})" for rate in (new, old)]
        return f"{WORDS[metric]}: {figures[0]} against {figures[1]}"

    def as_good(self, counts: Mapping[str, float]) -> bool:
        """Return whether the new one is known to be as good as the old one, or nearly so."""
        for metric, spare in _AS_GOOD.items():
            new, old = self.rates(counts, metric)
            below = new.count and old.count and new.share < old.share + spare
            enough = self.enough(metric)
            if not below or log_ratio(new, old, spare, enough) < enough:
                return False
        pairs, _ = self.rates(counts, "slow")
        return log_pair_ratio(pairs, _NEARLY_EVEN, above=False) >= self.enough("slow")


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
