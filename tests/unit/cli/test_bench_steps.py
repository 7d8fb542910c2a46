"""What follows from a bench's figures: pure decisions, with made-up numbers."""

import math
from dataclasses import replace

import pytest

from cosy_sync import (
    AuthError,
    BadAudioError,
    BadRequestError,
    ConnectError,
    CosyError,
    CutError,
    PoolConfig,
    ReplyTimeout,
    TextError,
    ThrottledError,
    UnavailableError,
)
from cosy_sync.cli.bench_steps import (
    Advice,
    Call,
    End,
    Notes,
    Speech,
    Step,
    advise,
    is_refusal,
    knee,
    ladder,
    measure,
    too_many,
    verdict,
)

RATE = 1000.0


def step(in_flight: int, rate: float, **changes: object) -> Step:
    made = Step(
        in_flight=in_flight,
        batch_size=1,
        seconds=2.0,
        requests=int(2 * rate),
        requests_per_second=rate,
        texts_per_second=rate,
        speech_per_second=4 * rate,
        latency=in_flight / rate if rate else 0.0,
        p50=0.2,
        p99=0.3,
        errors=0,
        throttled=0,
        cpu=0.1,
        whole=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def sweep(*rates: float) -> list[Step]:
    return [step(2**n, rate) for n, rate in enumerate(rates)]


# -- the steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "steps"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [1, 2, 4]),
        (5, [1, 2, 4, 5]),
        (9, [1, 2, 4, 9]),
        (10, [1, 2, 4, 8, 10]),
        (50, [1, 2, 4, 8, 16, 32, 50]),
        (64, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_steps_double_up_to_the_top_which_none_comes_near(top: int, steps: list[int]) -> None:
    assert ladder(top) == steps


# -- when to stop -------------------------------------------------------------------------------


def test_it_goes_on_while_throughput_grows() -> None:
    assert verdict(sweep(5), RATE, 8) is None
    assert verdict(sweep(5, 10), RATE, 8) is None
    # A tenth of what a doubling could bring is enough.
    assert verdict(sweep(50, 55.1), RATE, 8) is None


@pytest.mark.parametrize(
    ("last", "words"),
    [(54.9, "10 % more"), (50.3, "1 % more"), (50.2, "no more"), (40.0, "no more"), (0.0, "no")],
)
def test_it_stops_when_a_doubling_brings_less_than_a_tenth(last: float, words: str) -> None:
    end = verdict(sweep(25, 50, last), RATE, 64)
    assert end is not None and end.kind == "knee"
    assert end.words.startswith(f"2 to 4 in flight brought {words}")


def test_a_smaller_step_need_bring_less() -> None:
    # 32 to 40 is a quarter of a doubling.
    assert verdict([step(32, 100), step(40, 102.6)], RATE, 50) is None
    end = verdict([step(32, 100), step(40, 102.4)], RATE, 50)
    assert end is not None and end.kind == "knee"


def test_a_rate_limit_that_is_reached_is_named() -> None:
    end = verdict(sweep(45, 89.5), 100, 8)
    assert end == End(
        "rate", "the rate limit of 100 requests/s is reached; only a higher one brings more"
    )
    assert verdict(sweep(45, 89.4), 100, 8) is None


def test_a_first_step_may_reach_the_rate_limit() -> None:
    end = verdict(sweep(95), 100, 8)
    assert end is not None and end.kind == "rate"


def test_the_top_ends_it() -> None:
    assert verdict(sweep(5, 10, 20), RATE, 5) is None
    end = verdict(sweep(5, 10, 20), RATE, 4)
    assert end is not None and end.kind == "top"
    assert end.words == "4 in flight is all that it was allowed; throughput was still growing"
    end = verdict(sweep(5), RATE, 1)
    assert end is not None and end.words == "1 in flight is all that it was allowed"


def test_steps_without_a_good_call_do_not_break_it() -> None:
    assert verdict(sweep(0, 0), RATE, 8) is None
    assert knee(sweep(0, 0)) is None


# -- the knee -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "in_flight"),
    [
        ((5,), 1),
        ((5, 10, 20, 40), 8),
        ((5, 10, 20, 21), 4),
        ((5, 10, 19, 20), 4),
        ((5, 10, 18.9, 20), 8),
        ((20, 20, 20), 1),
        ((5, 10, 40, 30, 41), 4),
    ],
)
def test_the_knee_is_the_first_step_as_good_as_the_best(
    rates: tuple[float, ...], in_flight: int
) -> None:
    found = knee(sweep(*rates))
    assert found is not None and found.in_flight == in_flight


def test_a_step_that_was_cut_short_is_no_knee() -> None:
    steps = [*sweep(5, 10), step(4, 20, whole=False)]
    found = knee(steps)
    assert found is not None and found.in_flight == 2
    assert knee([step(1, 5, whole=False)]) is None and knee([]) is None


def test_of_steps_as_good_that_with_the_fewest_texts_in_flight_is_the_knee() -> None:
    large = [step(4, 25, batch_size=64, texts_per_second=1600.0)]
    small = step(8, 100, batch_size=16, texts_per_second=1530.0)
    worse = step(50, 200, batch_size=1, texts_per_second=200.0)
    assert knee([*large, small, worse]) is small
    assert knee([*large, replace(small, texts_per_second=1519.0)]) is large[0]


# -- signs of trouble ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (ThrottledError("429", status=429), True),
        (UnavailableError("503", status=503), True),
        (UnavailableError("502", status=502), True),
        (ConnectError("refused"), True),
        (AuthError("401", status=401), True),
        (ReplyTimeout("late"), False),
        (CutError("cut"), False),
        (BadAudioError("silent"), False),
        (BadRequestError("400", status=400), False),
        (TextError("bad text"), False),
    ],
)
def test_only_a_service_that_will_not_work_refuses(error: CosyError, refusal: bool) -> None:
    assert is_refusal(error) is refusal


@pytest.mark.parametrize(
    ("failed", "texts", "rise"),
    [(0, 0, False), (2, 2, False), (3, 3, True), (3, 59, True), (3, 60, False), (50, 1000, False)],
)
def test_single_bad_texts_are_no_rise_of_errors(failed: int, texts: int, rise: bool) -> None:
    assert too_many(failed, texts) is rise


# -- measuring ----------------------------------------------------------------------------------


def notes(**changes: object) -> Notes:
    return Notes(**{"in_flight": 2, "batch_size": 1, "started": 100.0, "ended": 102.0, **changes})  # type: ignore[arg-type]


def test_a_call_counts_with_its_share_within_the_step() -> None:
    calls = [
        Call(100.0, 1.0, 0.0, None),
        Call(101.0, 1.0, 0.0, None),
        Call(101.5, 1.0, 0.0, None),  # half of it
        Call(102.5, 1.0, 0.0, None),  # began too late
        Call(101.0, 0.0, 0.0, None),  # took no time at all
    ]
    assert measure(notes(calls=calls)).requests_per_second == 3.5 / 2
    assert measure(notes(calls=calls)).requests == 5


def test_a_constant_load_is_measured_without_bias() -> None:
    # Two in flight of 0.7 s each, over a time that is no multiple of it: 2 / 0.7 by Little's law.
    calls = [Call(100.0 + n * 0.7, 0.7, 0.0, None) for n in range(3) for _ in range(2)]
    assert measure(notes(calls=calls)).requests_per_second == pytest.approx(2 / 0.7)


def test_a_service_that_queues_gives_no_more_than_it_works_off() -> None:
    # 50 in flight at 5 a second: each call waits for those before it, 10 s from the 51st on.
    first = [Call(100.0, n / 5, 0.0, None) for n in range(1, 51)]
    later = [Call(100 + n / 5, 10.0, 0.0, None) for n in range(1, 60)]
    found = measure(notes(in_flight=50, started=110.0, ended=111.0, calls=[*first, *later]))
    assert found.requests_per_second == pytest.approx(5, rel=0.05)
    # Those that were answered while the queue grew say nothing of how long one waits in it.
    assert (found.p50, found.requests) == (10.0, 109)
    assert found.latency * found.requests_per_second == pytest.approx(50, rel=0.05)


def test_speech_counts_by_the_same_share() -> None:
    spoken = [Speech(100.0, 1.0, 3.0), Speech(101.5, 1.0, 4.0)]
    found = measure(notes(spoken=spoken))
    assert (found.texts_per_second, found.speech_per_second) == (0.75, 2.5)


def test_latency_leaves_connecting_and_failures_out() -> None:
    late = ThrottledError("429", status=429)
    calls = [Call(100.0, 0.5, 0.3, None), Call(100.5, 0.4, 0.0, None), Call(100.0, 9.0, 0.0, late)]
    found = measure(notes(calls=calls, failed=1, cpu=0.5))
    assert (found.p50, found.p99) == (0.4, 0.4)
    assert found.latency == pytest.approx(0.3)
    assert (found.errors, found.throttled, found.cpu, found.seconds) == (1, 1, 0.25, 2.0)
    assert measure(notes(calls=calls, whole=False)).whole is False


def test_quantiles_are_those_of_the_sorted_times() -> None:
    calls = [Call(100.0, time / 100, 0.0, None) for time in range(100, 0, -1)]
    found = measure(notes(calls=calls))
    assert (found.p50, found.p99) == (0.51, 1.0)


def test_a_step_of_nothing_is_nothing() -> None:
    found = measure(notes(ended=100.0))
    assert (found.requests_per_second, found.latency, found.p99) == (0.0, 0.0, 0.0)


# -- what to configure --------------------------------------------------------------------------


def test_the_knees_connections_are_not_exceeded() -> None:
    steps = sweep(5, 10, 20, 21)
    assert advise(steps, End("knee", ""), 100, 50) == Advice(
        max_connections=4, rate=100, requests_per_second=20.0, latency=0.2
    )
    assert PoolConfig.for_load(20.0, 0.2).max_connections == 8


def test_where_the_rate_ends_it_the_load_decides() -> None:
    steps = [step(16, 78), step(32, 94.6789, latency=0.2001)]
    found = advise(steps, End("rate", ""), 100, 50)
    assert found == Advice(max_connections=28, rate=100, requests_per_second=94.7, latency=0.2)
    quick = [step(1, 95, latency=0.002)]
    found = advise(quick, End("rate", ""), 100, 50)
    assert (
        found is not None
        and found.max_connections == PoolConfig.for_load(95, 0.002).max_connections == 2
    )
    found = advise(quick, End("rate", ""), 100, 1)
    assert found is not None and found.max_connections == 1


def test_a_refusal_of_connections_says_nothing_of_the_rate() -> None:
    steps = [*sweep(5, 10), step(4, 20, whole=False)]
    found = advise(steps, End("refused", ""), 100, 50)
    assert found is not None and (found.max_connections, found.rate) == (2, 100)


def test_where_calls_were_throttled_the_rate_is_what_was_served() -> None:
    steps = [*sweep(5, 10), step(4, 20, throttled=1, whole=False)]
    found = advise(steps, End("refused", ""), 100, 50)
    assert found is not None and (found.max_connections, found.rate) == (2, 10)
    found = advise(steps, End("refused", ""), 8, 50)
    assert found is not None and found.rate == 8


def test_without_a_whole_step_there_is_no_advice() -> None:
    assert advise([step(1, 5, whole=False)], End("errors", ""), 100, 50) is None


@pytest.mark.parametrize("latency", [0.0, 1e-9])
def test_a_latency_of_next_to_nothing_can_be_written(latency: float) -> None:
    found = advise([step(1, 5, latency=latency)], End("top", ""), 100, 50)
    assert found is not None and found.latency > 0 and math.isfinite(found.latency)
