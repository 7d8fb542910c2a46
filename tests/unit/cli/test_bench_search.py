"""`bench`: which batch sizes are tried after the usual one, and which end is told."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cosy_sync import ClientConfig, ConnectError, Endpoint
from cosy_sync.cli import bench_search
from cosy_sync.cli.bench_search import Search, sizes_below
from cosy_sync.cli.bench_steps import End, Step
from cosy_sync.cli.bench_sweep import Plan

PLAN = Plan(
    texts=["x"], batch_size=64, ladder=[1, 2, 4, 8], seconds=1.0, rate=100.0, max_texts=50_000
)
Searched = Callable[..., tuple[Search, list[Plan]]]
KNEE = End("knee", "2 to 4 in flight brought no more requests/s")


def step(size: int, in_flight: int, texts: float, **changes: object) -> Step:
    made = Step(
        in_flight=in_flight,
        batch_size=size,
        seconds=1.0,
        requests=9,
        requests_per_second=texts / size,
        texts_per_second=texts,
        speech_per_second=texts,
        latency=0.1,
        p50=0.1,
        p99=0.1,
        errors=0,
        throttled=0,
        cpu=0.1,
        whole=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Sweeps:
    """Stands for the class Sweep: gives steps and ends by batch size, and notes the plans."""

    def __init__(self, found: dict[int, tuple[Sequence[Step], End | BaseException]]) -> None:
        self.found = found
        self.plans: list[Plan] = []

    def __call__(
        self, endpoint: Endpoint, config: ClientConfig, plan: Plan, on_step: Callable[..., None]
    ) -> "Sweeps.One":
        self.plans.append(plan)
        return self.One(plan, *self.found[plan.batch_size])

    class One:
        def __init__(self, plan: Plan, steps: Sequence[Step], end: End | BaseException) -> None:
            self.steps: list[Step] = []
            self.end: End | None = None
            self.requests, self.texts = 10, 10 * plan.batch_size
            self._found = steps, end

        def run(self) -> None:
            steps, end = self._found
            self.steps = [*steps]
            if isinstance(end, BaseException):
                raise end
            self.end = end


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def run(
        *found: tuple[int, Sequence[Step], End | BaseException], plan: Plan = PLAN
    ) -> tuple[Search, list[Plan]]:
        sweeps = Sweeps({size: (steps, end) for size, steps, end in found})
        monkeypatch.setattr(bench_search, "Sweep", sweeps)
        search = Search(Endpoint("http://tts.test/batch"), ClientConfig(), plan, sizes_below(64))
        search.run()
        return search, sweeps.plans

    return run


def test_each_size_is_a_quarter_of_the_last_down_to_one() -> None:
    assert sizes_below(64) == [16, 4, 1]
    assert sizes_below(25) == [6, 1] and sizes_below(2) == [1] and sizes_below(1) == []


def test_smaller_calls_are_tried_while_they_bring_as_much(searched: Searched) -> None:
    search, plans = searched(
        (64, [step(64, 1, 300), step(64, 2, 400)], KNEE),
        (16, [step(16, 2, 200), step(16, 4, 390)], End("top", "all it was allowed")),
        (4, [step(4, 4, 100)], End("knee", "no more")),
    )
    assert [plan.batch_size for plan in plans] == [64, 16, 4]
    # What carried the best so far is where the next one begins.
    assert [list(plan.ladder) for plan in plans] == [[1, 2, 4, 8], [2, 4, 8], [4, 8]]
    assert [plan.max_texts for plan in plans] == [50_000, 50_000 - 640, 50_000 - 800]
    assert search.notes == ["requests of 1 text were not tried: those of 4 texts brought 25 %"]
    assert (search.requests, search.texts, len(search.steps)) == (30, 840, 5)
    # The end is that of the sweep that has the best step.
    assert search.end == End("top", "all it was allowed")


def test_what_the_rate_forbids_is_not_tried(searched: Searched) -> None:
    search, plans = searched((64, [step(64, 4, 1700)], KNEE))
    assert len(plans) == 1 and search.end == KNEE
    assert search.notes == [
        "requests of 16 texts were not tried: at 100 requests/s they could not bring as much"
    ]


def test_what_the_texts_do_not_suffice_for_is_not_tried(searched: Searched) -> None:
    few = replace(PLAN, max_texts=640 + 9 * 16 - 1)
    search, plans = searched((64, [step(64, 4, 400)], KNEE), plan=few)
    assert len(plans) == 1 and "--max-texts do not suffice" in search.notes[0]


@pytest.mark.parametrize("kind", ["refused", "errors", "texts", "interrupted"])
def test_after_a_sweep_that_was_cut_short_nothing_more_is_sent(
    kind: str, searched: Searched
) -> None:
    search, plans = searched((64, [step(64, 4, 400)], End(kind, "so it was")))
    assert len(plans) == 1 and search.end == End(kind, "so it was") and not search.notes
    search, plans = searched(
        (64, [step(64, 4, 400)], KNEE), (16, [step(16, 4, 390)], End(kind, "so it was"))
    )
    assert len(plans) == 2 and search.end == End(kind, "so it was, with 16 texts a request")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ConnectError("cannot connect"), "refused"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_goes_wrong_before_a_later_sweep_loses_nothing(
    error: BaseException, kind: str, searched: Searched
) -> None:
    search, _ = searched((64, [step(64, 4, 400)], KNEE), (16, [], error))
    assert search.end is not None
    assert search.end.kind == kind and "requests of 16 texts" in search.end.words
    assert len(search.steps) == 1


def test_the_first_sweeps_error_is_raised(searched: Searched) -> None:
    with pytest.raises(ConnectError):
        searched((64, [], ConnectError("cannot connect")))


def test_what_it_may_send_is_the_sum_of_all_sizes() -> None:
    endpoint = Endpoint("http://tts.test/batch")
    alone, all_ = (Search(endpoint, ClientConfig(), PLAN, sizes) for sizes in ([], [16, 4, 1]))
    assert alone.most_requests == PLAN.requests == 1 + 4 * 100 + 15
    assert alone.most_texts == 64 * PLAN.requests
    assert all_.most_requests == 4 * PLAN.requests and all_.most_texts == (64 + 16 + 4 + 1) * 416
