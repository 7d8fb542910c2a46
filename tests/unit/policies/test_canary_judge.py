"""The sequential test of a canary: false alarms, power, and texts that stay where they are."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.canary import Case, run
from cosy_sync.policies.canary import (
    CanaryState,
    Evidence,
    Judge,
    Rate,
    log_pair_ratio,
    log_ratio,
    place_of,
)


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_the_share_is_kept_and_a_text_stays_where_it_is(share: float) -> None:
    places = [place_of("v3", f"第{number}句") for number in range(4_000)]
    assert sum(place < share for place in places) / 4_000 == pytest.approx(share, abs=0.02)
    assert places == [place_of("v3", f"第{number}句") for number in range(4_000)]
    assert places[:20] != [place_of("v4", f"第{number}句") for number in range(20)]


rates = st.integers(0, 10_000).flatmap(
    lambda count: st.builds(Rate, st.integers(0, count), st.just(count))
)


@settings(max_examples=30)
@given(rates, rates, st.sampled_from([0.0, 0.002, 0.15]))
def test_the_evidence_is_against_the_best_that_the_assumption_can_say(
    new: Rate, old: Rate, spare: float
) -> None:
    ratio = log_ratio(new, old, spare)
    mixed = new.mixture + old.mixture
    for share in (0.0, 0.01, 0.1, 0.5, min(old.share, 1 - spare), max(0.0, new.share - spare)):
        assert ratio <= mixed - new.likelihood(share + spare) - old.likelihood(share) + 0.01


@pytest.mark.parametrize(("chance", "prior"), [(0.01, 12.0), (0.3, 0.5)])
def test_alike_ones_are_called_unlike_no_more_often_than_is_allowed(
    chance: float, prior: float
) -> None:
    wrong = 0
    for seed in range(40):
        draw, bad, found = random.Random(seed), [0, 0], False
        for count in range(1, 151):
            for place in (0, 1):
                bad[place] += draw.random() < chance
            new, old = Rate(bad[0], count, prior), Rate(bad[1], count, prior)
            found = found or (new.share > old.share and log_ratio(new, old, 0.0) > math.log(20))
        wrong += found
    assert wrong <= 2  # 5 % of 40


WORSE = [
    Case(name="fails", failed=(0.04, 0.01)),
    Case(name="refused", refused=(0.04, 0.0)),
    Case(name="slow", slower=2.0, texts=300),
    Case(name="long", longer=1.5, texts=300),
    Case(name="short", longer=0.6, texts=300),
]


@pytest.mark.parametrize("case", WORSE, ids=lambda case: case.name)
def test_a_worse_one_is_rolled_back_within_its_texts(case: Case) -> None:
    assert all(run(case, seed) is not None for seed in range(3))


@pytest.mark.parametrize("failed", [0.0, 0.01, 0.3])
def test_one_that_is_as_good_is_not(failed: float) -> None:
    case = Case(name="equal", failed=(failed, failed), refused=(0.02, 0.02), texts=300)
    assert all(run(case, seed) is None for seed in range(4))


def test_one_that_is_a_little_slower_is_within_the_tolerance() -> None:
    assert all(run(Case(name="10 %", slower=1.1, texts=300), seed) is None for seed in range(4))


def test_one_that_fails_at_once_is_rolled_back_after_a_few_texts() -> None:
    end = run(Case(name="dead", failed=(1.0, 0.0)), 0)
    assert end is not None and end <= 10


def test_the_canarys_times_are_compared_with_those_of_the_control_alone() -> None:
    evidence = Evidence(1.25, 1.15)
    for _ in range(100):
        evidence.measure("stable", "slow", 0.01, 10)
        evidence.measure("canary", "slow", 12.0, 10)
    assert not evidence.counts
    evidence.measure("control", "slow", 10.0, 10)
    evidence.measure("canary", "slow", 12.0, 10)
    assert evidence.counts == {"pair.slow": 0, "pair.slow.of": 1}


@pytest.mark.parametrize("first", ["control", "canary"])
def test_a_load_that_grows_is_not_always_the_same_ones(first: str) -> None:
    # Each request takes longer than the one before it; the two always come in the same order.
    evidence, seconds = Evidence(1.0, 1.15), 1.0
    for _ in range(300):
        for arm in (first, "canary" if first == "control" else "control"):
            evidence.measure(arm, "slow", seconds, 10)
            seconds *= 1.01
    assert evidence.counts["pair.slow.of"] == 200 and evidence.counts["pair.slow"] == 100


def test_requests_of_one_length_are_no_pair_with_those_of_another_nor_with_streams() -> None:
    evidence = Evidence(1.25, 1.15)
    evidence.measure("control", "slow", 1.0, 10)
    for chars, texts in ((5, 1), (40, 4), (10, 0)):
        evidence.measure("canary", "slow", 3.0, chars, texts)
    assert not evidence.counts


LOADS = {
    "that stays": lambda count, _: 1.0,
    "that grows after the first texts": lambda count, _: 1.0 if count < 20 else 4.0,
    "that was large for the first texts": lambda count, _: 5.0 if count < 10 else 1.0,
    "that comes and goes": lambda count, _: 4.0 if count // 40 % 2 else 1.0,
    "that meets a request now and then": lambda _, draw: 3.0 if draw.random() < 0.2 else 1.0,
}


@pytest.mark.parametrize("load", LOADS.values(), ids=list(LOADS))
def test_one_that_is_twice_as_slow_is_found_whatever_the_load_and_an_equal_one_is_not(
    load: Callable[[int, random.Random], float],
) -> None:
    judge = Judge(0.01, 0.001)
    for slower, seed in [(2.0, 0), (2.0, 1), (2.0, 2), (1.0, 0), (1.0, 1), (1.1, 2), (1.1, 3)]:
        draw, evidence = random.Random(seed), Evidence(1.25, 1.15)
        for count in range(300):
            weight = load(count, draw)
            for arm in draw.sample(["control", "canary"], 2):
                own = slower if arm == "canary" else 1.0
                evidence.measure(arm, "slow", draw.lognormvariate(-3, 0.3) * weight * own, 9)
        assert judge.worse(evidence.counts) == ("slow" if slower == 2 else None)


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_the_evidence_of_pairs_exceeds_a_bound_as_seldom_as_it_may(share: float) -> None:
    # Each step multiplies what is in the mean at most 1, whatever the past: it is a martingale.
    for bad, count in ((0, 0), (3, 5), (30, 40)):
        for above in (True, False):
            now = math.exp(log_pair_ratio(Rate(bad, count), share, above=above))
            worse = math.exp(log_pair_ratio(Rate(bad + 1, count + 1), share, above=above))
            better = math.exp(log_pair_ratio(Rate(bad, count + 1), share, above=above))
            assert share * worse + (1 - share) * better == pytest.approx(now)
            other = 0.9 * share if above else share + 0.05
            assert other * worse + (1 - other) * better < now


def test_each_length_of_text_has_a_bound_of_its_own() -> None:
    # Each has half a second of silence; one model sends its short texts first, the other its long.
    evidence, judge = Evidence(1.25, 1.15), Judge(0.01, 0.001)
    lengths = [*range(2, 60)] * 12
    for old, new in zip(sorted(lengths), sorted(lengths, reverse=True), strict=True):
        for metric in ("slow", "long", "short"):
            evidence.measure("control", metric, 0.5 + 0.2 * old, old)
            evidence.measure("canary", metric, 0.5 + 0.2 * new, new)
        assert judge.worse(evidence.counts) is None
    assert evidence.counts["canary.long.of"] > 50


def test_one_that_is_as_good_for_long_is_known_to_be() -> None:
    judge, counts = Judge(0.01, 0.001), {}
    for arm, count in (("canary", 6_000), ("control", 6_000), ("stable", 60_000)):
        for metric in ("failed", "refused", "long", "short"):
            counts[f"{arm}.{metric}"] = 0.002 * count
            counts[f"{arm}.{metric}.of"] = count
    assert not judge.as_good(counts)  # nothing is known of how long its requests take
    counts |= {"pair.slow": 1_500, "pair.slow.of": 4_000}
    assert judge.as_good(counts) and judge.worse(counts) is None
    counts["canary.failed"] *= 20
    assert judge.worse(counts) == "failed" and not judge.as_good(counts)
    assert judge.explain(counts, "failed").endswith(
        "240 of 6000 (4.0%) against 132 of 66000 (0.2%)"
    )


def test_pairs_are_told_as_such() -> None:
    counts = {"pair.slow": 60.0, "pair.slow.of": 63.0}
    assert Judge(0.01, 0.001).worse(counts) == "slow"
    words = Judge(0.01, 0.001).explain(counts, "slow")
    assert words == "requests that took too long for their characters: in 60 of 63 pairs (95.2%)"
    counts["pair.slow"] = 30.0  # as even as can be
    assert Judge(0.01, 0.001).worse(counts) is None


def test_nothing_is_known_of_nothing() -> None:
    judge = Judge(0.01, 0.001)
    assert judge.worse({}) is None and not judge.as_good({})
    assert log_ratio(Rate(0, 0), Rate(0, 0), 0.0) == pytest.approx(0)


def test_each_change_is_an_epoch_of_its_own() -> None:
    state = CanaryState().promoted(0.25).promoted(1.0)
    assert (state.epoch, state.state, state.share) == (2, "promoted", 1.0)
    assert state.rolled_back("why") == CanaryState(3, "rolled back", 0.0, "why")
