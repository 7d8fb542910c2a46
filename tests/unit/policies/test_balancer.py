"""The balancer: two drawn by weight among those that may be sent to, and the better off of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from cosy_sync.policies import LatencyEwma, pick

NOW = 1000.0


@dataclass(eq=False)
class Place:
    weight: float = 1.0
    busy: int = 0
    places: int = 50
    seconds: float = 0.0
    per_char: float | None = None

    def wait(self, now: float) -> float:
        assert now == NOW
        return self.seconds

    def pace(self, now: float) -> float | None:
        assert now == NOW
        return self.per_char


def draws(*numbers: float) -> Callable[[], float]:
    rest = iter(numbers)
    return lambda: next(rest)


def choose(*places: Place, avoid: Iterable[Place] = (), order: Iterable[float] = ()) -> Place:
    """Pick; the draws come in the order of the places, the least is first unless told."""
    numbers = list(order) or [0.1 + 0.05 * number for number in range(len(places))]
    return pick(places, list(avoid), NOW, draws(*numbers, *numbers, *numbers))


def shares(*places: Place, count: int = 4000) -> list[float]:
    source = random.Random(7).random
    counts = Counter(id(pick(places, [], NOW, source)) for _ in range(count))
    return [counts[id(place)] / count for place in places]


# -- who is drawn ---------------------------------------------------------------------------------


def test_without_load_the_traffic_follows_the_weights() -> None:
    assert shares(Place(9), Place(1)) == pytest.approx([0.9, 0.1], abs=0.02)
    assert shares(Place(5), Place(3), Place(2)) == pytest.approx([0.5, 0.3, 0.2], abs=0.025)


def test_the_least_draw_comes_first_and_weight_divides_it() -> None:
    one, two = Place(), Place()
    assert choose(one, two, order=[0.3, 0.2]) is two
    # -ln(1 - 0.2) / 1 = 0.223, -ln(1 - 0.35) / 2 = 0.215, -ln(1 - 0.37) / 2 = 0.231
    heavy = Place(2)
    assert choose(one, heavy, order=[0.2, 0.35]) is heavy
    assert choose(one, heavy, order=[0.2, 0.37]) is one


def test_a_draw_of_nought_is_as_good_as_any() -> None:
    one, two = Place(), Place()
    assert choose(one, two, order=[0.5, 0.0]) is two


def test_only_two_are_compared() -> None:
    one, two, idle = Place(busy=4), Place(busy=3), Place(busy=0)
    assert choose(one, two, idle) is two
    assert choose(one, two, idle, order=[0.3, 0.2, 0.1]) is idle


# -- who may be drawn -----------------------------------------------------------------------------


def test_one_that_takes_requests_within_a_second_counts_and_no_later_one() -> None:
    late, soon, failed = Place(seconds=1.001), Place(seconds=1.0), Place(seconds=0.9)
    assert choose(late, soon, failed, avoid=[failed]) is soon


def test_one_that_is_to_be_avoided_does_not_count_while_there_is_another() -> None:
    failed, other = Place(), Place(busy=40)
    assert choose(failed, other, avoid=[failed]) is other


def test_all_that_are_to_be_avoided_are() -> None:
    failed, latest, other = Place(), Place(), Place(busy=40)
    assert choose(failed, latest, other, avoid=[failed, latest]) is other


def test_when_all_are_to_be_avoided_only_the_latest_is() -> None:
    first, second, latest = Place(busy=41), Place(busy=40), Place()
    order = [0.2, 0.3, 0.1]
    assert choose(first, second, latest, avoid=[first, second, latest], order=order) is second


def test_one_that_waits_long_is_not_taken_for_the_sake_of_avoiding() -> None:
    failed, late = Place(), Place(seconds=5)
    assert choose(failed, late, avoid=[failed]) is failed


def test_when_none_is_soon_the_shortest_wait_decides() -> None:
    long, short, longer = Place(seconds=5), Place(seconds=4), Place(seconds=6)
    assert choose(long, short, longer, avoid=[short]) is short


def test_a_single_one_is_taken_whatever_its_state() -> None:
    only = Place(seconds=100, busy=50)
    assert choose(only, avoid=[only]) is only


# -- which of two ---------------------------------------------------------------------------------


def test_the_second_is_taken_only_when_it_would_be_no_busier() -> None:
    assert shares(Place(busy=3), Place(busy=4))[0] == 1.0
    assert shares(Place(busy=4), Place(busy=4))[0] == pytest.approx(0.5, abs=0.03)
    first, second = Place(busy=5), Place(busy=4)
    assert choose(first, second) is second


def versus(first: Place, second: Place) -> Place:
    """Pick from two, of which one is drawn first whatever the weights."""
    return choose(first, second, order=[1e-9, 0.999])


def test_busy_counts_for_the_weight() -> None:
    light = Place(1, busy=2)
    heavy = Place(4, busy=7)
    assert versus(light, heavy) is heavy  # (7 + 1) / 4 <= 2
    heavy.busy = 8
    assert versus(light, heavy) is light
    light.busy = 1
    assert versus(heavy, light) is light  # 1 + 1 <= 8 / 4
    heavy.busy = 7
    assert versus(heavy, light) is heavy


def test_the_last_free_place_is_found_among_any_number_of_full_ones() -> None:
    full = [Place(busy=2, places=2) for _ in range(15)]
    free = Place(busy=1, places=2)
    assert choose(*full, free) is free
    # Not where it must not be sent to, nor where it would have to wait.
    assert choose(*full, free, avoid=[free]) is full[0]
    free.seconds = 60.0
    assert choose(*full, free) is full[0]


def test_a_full_one_comes_last_however_light_its_load() -> None:
    full, free = Place(busy=2, places=2), Place(busy=49, places=50)
    assert choose(full, free) is free
    assert choose(free, full) is free
    # Both full: the load decides again.
    fuller = Place(busy=9, places=2)
    assert choose(fuller, full) is full


def test_a_notably_shorter_wait_decides_before_the_load() -> None:
    waits, ready = Place(seconds=0.05, busy=0), Place(seconds=0.0, busy=30)
    assert choose(waits, ready) is ready
    assert choose(ready, waits) is ready
    alike = Place(seconds=0.049, busy=0)
    assert choose(ready, alike) is alike


def test_the_faster_is_taken_when_that_is_no_chance() -> None:
    slow, fast = Place(per_char=3.1), Place(per_char=2.0)
    assert choose(slow, fast) is fast
    assert choose(fast, slow) is fast
    alike = Place(per_char=3.0)
    assert choose(alike, fast) is alike
    assert choose(fast, alike) is fast


def test_pace_times_load_decides_between_fast_and_slow() -> None:
    slow = Place(per_char=10.0, busy=0)
    assert choose(slow, Place(per_char=1.0, busy=8)) is not slow  # 9 < 10
    assert choose(slow, Place(per_char=1.0, busy=9)) is slow  # 10 < 10 is not true
    assert choose(Place(per_char=1.0, busy=10), slow) is slow  # 10 < 11


def test_pace_times_load_counts_for_the_weight() -> None:
    slow, heavy = Place(1, per_char=10.0), Place(3, per_char=1.0, busy=28)
    assert versus(slow, heavy) is heavy  # 29 / 3 < 10
    heavy.busy = 29
    assert versus(slow, heavy) is slow
    heavy, fast = Place(4, per_char=10.0, busy=3), Place(per_char=1.0, busy=8)
    assert versus(heavy, fast) is fast  # 9 < 40 / 4
    fast.busy = 9
    assert versus(heavy, fast) is heavy


@pytest.mark.parametrize(("one", "other"), [(1.0, 1.2), (1.2, 1.0)])
def test_alike_paces_leave_the_traffic_to_the_weights(one: float, other: float) -> None:
    light, heavy = Place(1, per_char=one), Place(4, busy=2, per_char=other)
    assert versus(light, heavy) is light


def test_paces_are_alike_up_to_half_as_much_again() -> None:
    fast = Place(per_char=2.0, busy=2)
    assert versus(fast, alike := Place(per_char=3.0, busy=1)) is alike  # not: 2 * 3 < 3 * 2
    assert versus(fast, Place(per_char=3.001, busy=1)) is fast


@pytest.mark.parametrize("unknown", [0, 1])
def test_a_pace_that_is_not_known_leaves_the_choice_to_the_load(unknown: int) -> None:
    pair = [Place(per_char=1.0, busy=3), Place(per_char=100.0, busy=2)]
    assert choose(*pair) is pair[0]
    pair[unknown].per_char = None
    assert choose(*pair) is pair[1]


# -- pace -----------------------------------------------------------------------------------------


def test_a_pace_is_unknown_until_a_call_was_seen() -> None:
    pace = LatencyEwma()
    assert pace.per_char(NOW, 0) is None
    assert pace.per_char(NOW, 5) is None
    pace.add(0.2, 100, NOW)
    assert pace.per_char(NOW, 0) == pytest.approx(0.002)


def test_a_pace_is_the_mean_over_characters_not_over_calls() -> None:
    pace = LatencyEwma()
    pace.add(0.2, 1000, NOW)
    pace.add(0.2, 20, NOW)
    assert pace.per_char(NOW, 0) == pytest.approx(0.4 / 1020)


def test_a_call_counts_half_after_ten_seconds() -> None:
    pace = LatencyEwma()
    pace.add(1.0, 100, NOW)
    pace.add(4.0, 100, NOW + 10)
    assert pace.per_char(NOW + 10, 0) == pytest.approx(4.5 / 150)


def test_a_late_report_moves_no_clock_back() -> None:
    pace = LatencyEwma()
    pace.add(1.0, 100, NOW)
    pace.add(1.0, 100, NOW - 10)
    pace.add(4.0, 100, NOW)
    assert pace.per_char(NOW, 0) == pytest.approx(6.0 / 300)


def test_one_that_is_left_alone_becomes_unknown() -> None:
    pace = LatencyEwma()
    pace.add(5.0, 10, NOW)
    pace.add(5.0, 10, NOW)
    assert pace.per_char(NOW + 10, 0) == pytest.approx(0.5)
    assert pace.per_char(NOW + 10.01, 0) is None
    assert pace.per_char(NOW + 1e9, 0) is None
    pace.add(1.0, 10, NOW + 1e9)
    assert pace.per_char(NOW + 1e9, 0) == pytest.approx(0.1)


def test_silence_while_busy_counts_as_slowness() -> None:
    pace = LatencyEwma()
    for _ in range(8):
        pace.add(0.2, 100, NOW)
    pace.progress = NOW
    assert pace.per_char(NOW + 0.2, 3) == pytest.approx(0.002)
    assert pace.per_char(NOW + 2.0, 3) == pytest.approx(0.02)
    assert pace.per_char(NOW + 2.0, 0) == pytest.approx(0.002)
    pace.progress = NOW + 2.0
    assert pace.per_char(NOW + 2.0, 3) == pytest.approx(0.002)


def test_silence_counts_also_where_the_pace_was_forgotten() -> None:
    pace = LatencyEwma()
    pace.add(0.2, 100, NOW)
    pace.progress = NOW + 100
    assert pace.per_char(NOW + 100.1, 1) is None
    assert pace.per_char(NOW + 101, 1) == pytest.approx(0.01)
