"""Which refusals end a call, which a text, and which only say that the batch was too large; on a
fake clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import httpx
import pytest

import cosy_sync
from cosy_sync import (
    AuthError,
    BadRequestError,
    BatchConfig,
    BillingError,
    BreakerConfig,
    CosyClient,
    CosyError,
    Outcome,
    RetryConfig,
    TextError,
    UnavailableError,
)
from cosy_sync.events import BreakerChanged
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"
NEVER_OPEN = BreakerConfig(min_calls=10**9)
TEXTS = [f"第{number:03d}句" for number in range(300)]
BAD = "DROP TABLE 学生"
Choice = Callable[[Sequence[str]], "httpx.Response | Exception | None"]


class Rig(httpx.BaseTransport):
    """A client whose service speaks what a function of the texts does not refuse."""

    def __init__(self, choose: Choice, **settings: object) -> None:
        self.choose, self.calls, self.clock = choose, list[list[str]](), FakeClock()
        self.began = self.clock.now()
        settings = {"serial": True, "breaker": NEVER_OPEN, **settings}
        self.client = CosyClient(
            URL,
            http_client=httpx.Client(transport=self),
            clock=self.clock,
            **settings,  # type: ignore[arg-type]
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.read())["texts"]
        self.calls.append(texts)
        chosen = self.choose(texts)
        if isinstance(chosen, Exception):
            raise chosen
        return FakeService.speak(texts) if chosen is None else chosen

    def speak(self, texts: Sequence[str]) -> list[Outcome]:
        self.calls.clear()
        outcomes = self.client.synth_many(texts, on_error="return")
        for outcome, text in zip(outcomes, texts, strict=True):
            assert outcome.text == text
            assert outcome.audio is None or outcome.audio.data == FakeService.wav(text)
        return outcomes

    def take(self, seconds: float) -> Rig:
        """Let each call take so many seconds; return itself."""
        choose = self.choose
        self.choose = lambda texts: (self.clock.advance(seconds), choose(texts))[1]
        return self

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]


def refuse(status: int, body: object = None, **headers: str) -> httpx.Response:
    if body is None:
        page = "<html><title>Request blocked</title></html>"
        return httpx.Response(status, html=page, headers=headers)
    return httpx.Response(status, json=body, headers=headers)


def disliking(words: str, status: int, body: object = None) -> Choice:
    return lambda texts: refuse(status, body) if any(words in text for text in texts) else None


def larger_than(most: int, failure: Callable[[], httpx.Response | Exception]) -> Choice:
    return lambda texts: failure() if len(texts) > most else None


def always(failure: Callable[[], httpx.Response | Exception]) -> Choice:
    return lambda texts: failure()


def with_bad(at: int, count: int = 300) -> list[str]:
    return [BAD if number == at else text for number, text in enumerate(TEXTS[:count])]


def errors_of(outcomes: Sequence[Outcome]) -> list[CosyError]:
    return [outcome.error for outcome in outcomes if outcome.error is not None]


# -- one text that is refused ---------------------------------------------------------------------

FIREWALLS = [400, 403, 405, 406, 418, 422, 451]


@pytest.mark.parametrize("status", FIREWALLS)
@pytest.mark.parametrize("batch_size", [64, 1])
def test_a_text_that_a_firewall_refuses_costs_no_other(status: int, batch_size: int) -> None:
    rig = Rig(disliking("DROP", status), batch_size=batch_size)
    outcomes = rig.speak(with_bad(41, 64))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [41]
    [error] = errors_of(outcomes)
    assert error.status == status and not error.hopeless  # type: ignore[attr-defined]
    assert len(rig.calls) == (1 + 2 * 6 if batch_size == 64 else 64)


@pytest.mark.parametrize("status", [302, 401, 404])
@pytest.mark.parametrize("batch_size", [64, 1])
def test_what_looks_like_a_wrong_key_or_address_is_one_text_where_others_were_spoken(
    status: int, batch_size: int
) -> None:
    rig = Rig(disliking("DROP", status), batch_size=batch_size)
    rig.client.synth("早上好")
    outcomes = rig.speak(with_bad(41, 100))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [41]
    [error] = errors_of(outcomes)
    assert type(error) is TextError and error.status == status
    assert "with the same key" in str(error) and "check api_key" not in str(error)


def test_a_firewall_that_dislikes_the_first_text_of_all_ends_no_call() -> None:
    for batch_size in (64, 1):
        rig = Rig(disliking("DROP", 403), batch_size=batch_size)
        assert [o.index for o in rig.speak(with_bad(0, 100)) if not o.ok] == [0]


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("every", [3, 20])
def test_however_many_texts_are_refused_the_others_are_spoken(status: int, every: int) -> None:
    for batch_size in (64, 1):
        texts = [BAD + text if n % every == 1 else text for n, text in enumerate(TEXTS[:100])]
        outcomes = Rig(disliking("DROP", status), batch_size=batch_size).speak(texts)
        assert [o.ok for o in outcomes] == [n % every != 1 for n in range(100)]


def test_the_last_word_on_a_text_alone_depends_on_what_the_key_has_done() -> None:
    rig = Rig(disliking("DROP", 403))
    with pytest.raises(AuthError) as unknown:
        rig.client.synth(BAD)
    assert not unknown.value.hopeless
    rig.client.synth("早上好")
    with pytest.raises(TextError, match="refuses: change or drop it"):
        rig.client.synth(BAD)
    stranger = rig.client.with_options(api_key="another")
    with pytest.raises(AuthError):
        stranger.synth(BAD)


# -- a key that is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (403, 6)])
def test_a_key_that_is_refused_from_the_start_ends_the_call(status: int, calls: int) -> None:
    rig = Rig(always(lambda: refuse(status)))
    errors = errors_of(rig.speak(TEXTS))
    assert {type(error) for error in errors} == {AuthError} and len(errors) == 300
    assert errors[-1].hopeless and "HTTP" in str(errors[-1])
    assert len(rig.calls) <= calls


def test_a_key_that_is_refused_with_one_text_a_call_ends_it_as_well() -> None:
    rig = Rig(always(lambda: refuse(403)), batch_size=1)
    assert {type(error) for error in errors_of(rig.speak(TEXTS))} == {AuthError}
    assert len(rig.calls) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 422])
@pytest.mark.parametrize("batch_size", [64, 1])
def test_a_key_that_was_revoked_between_two_calls_ends_the_second(
    status: int, batch_size: int
) -> None:
    rig = Rig(lambda texts: None, batch_size=batch_size)
    rig.speak(TEXTS[:64])
    rig.choose = always(lambda: refuse(status))
    outcomes = rig.speak(TEXTS)
    assert errors_of(outcomes)[-1].hopeless and not any(o.ok for o in outcomes)
    assert len(rig.calls) <= 26


def test_a_key_that_is_revoked_in_the_middle_ends_the_call() -> None:
    calls = iter(range(10_000))
    rig = Rig(lambda texts: refuse(401) if next(calls) >= 30 else None, batch_size=1)
    outcomes = rig.speak(TEXTS)
    assert sum(o.ok for o in outcomes) == 30
    assert type(outcomes[-1].error) is AuthError
    assert len(rig.calls) == 30 + 20


# -- what every text is refused for ---------------------------------------------------------------

SETTINGS = [
    (400, {"code": 20052, "message": "voice missing"}, "check voice"),
    (422, {"detail": [{"loc": ["body", "voice"], "msg": "field required"}]}, "check voice"),
    (404, {"error": {"message": "model 'x' does not exist"}}, "check model"),
    (400, {"code": "InvalidParameter", "message": "[tts:]Engine return error code: 418"}, "voice"),
    (400, {"code": "InvalidParameter", "message": "Engine return error code: 428"}, "voice"),
    (400, {"message": "instruct_text is too long"}, r"check Voice\(instruction=\.\.\.\)"),
    (400, {"message": "no"}, "check voice, model and extra"),
]


@pytest.mark.parametrize(("status", "body", "words"), SETTINGS)
@pytest.mark.parametrize("batch_size", [64, 1])
def test_a_setting_that_is_refused_for_every_text_ends_the_call_and_is_named(
    status: int, body: object, words: str, batch_size: int
) -> None:
    rig = Rig(always(lambda: refuse(status, body)), batch_size=batch_size)
    with pytest.raises(cosy_sync.BatchError) as caught:
        rig.client.synth_many(TEXTS)
    last = caught.value.outcomes[-1].error
    assert type(last) is BadRequestError and last.status == status and last.hopeless
    with pytest.raises(CosyError, match=words):
        raise last
    assert len(rig.calls) <= 23


@pytest.mark.parametrize("batch_size", [64, 1])
def test_a_call_that_begins_with_many_refused_texts_goes_on(batch_size: int) -> None:
    rig = Rig(
        lambda texts: refuse(400, {"message": "no"}) if min(texts) < TEXTS[18] else None,
        batch_size=batch_size,
    )
    outcomes = rig.speak(TEXTS)
    assert [outcome.index for outcome in outcomes if outcome.error] == list(range(18))


def test_the_numbers_of_the_texts_in_what_a_service_says_make_no_difference() -> None:
    def numbered(texts: Sequence[str]) -> httpx.Response:
        return refuse(400, {"message": f"request 7f{len(rig.calls)}: bad voice for '{texts[0]}'"})

    rig = Rig(numbered, batch_size=1)
    assert len(errors_of(rig.speak(TEXTS))) == 300
    assert len(rig.calls) == 20


def test_texts_that_are_refused_for_reasons_of_their_own_are_each_asked() -> None:
    reasons = ("one", "two", "three", "four")
    calls = iter(range(1_000))
    rig = Rig(lambda _: refuse(400, {"message": reasons[next(calls) % 4]}), batch_size=1)
    assert len(errors_of(rig.speak(TEXTS[:100]))) == 100
    assert len(rig.calls) == 100


def test_an_empty_account_ends_the_call_at_the_first_refusal() -> None:
    body = {"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}}
    for batch_size in (64, 1):
        rig = Rig(always(lambda: refuse(429, body)), batch_size=batch_size)
        assert {type(error) for error in errors_of(rig.speak(TEXTS))} == {BillingError}
        assert len(rig.calls) == 1


def test_an_account_that_runs_empty_in_the_middle_ends_the_call() -> None:
    calls = iter(range(1_000))
    body = {"code": 30001, "message": "balance is insufficient"}
    rig = Rig(lambda _: refuse(403, body) if next(calls) >= 2 else None)
    outcomes = rig.speak(TEXTS)
    assert len(rig.calls) == 3
    assert {type(error) for error in errors_of(outcomes)} == {BillingError}
    assert sum(o.ok for o in outcomes) == 128


# -- batches that are too large -------------------------------------------------------------------

TOO_LARGE: list[Callable[[], httpx.Response | Exception]] = [
    *(lambda status=status: refuse(status) for status in (413, 502, 504, 524)),  # type: ignore[misc]
    lambda: httpx.ReadTimeout("late"),
    lambda: httpx.ReadError("reset"),
]


@pytest.mark.parametrize("failure", TOO_LARGE)
@pytest.mark.parametrize("most", [16, 32])
def test_a_size_that_works_is_found_and_remembered(
    failure: Callable[[], httpx.Response | Exception], most: int
) -> None:
    rig = Rig(larger_than(most, failure))
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    assert len(rig.calls) <= 8
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    assert len(rig.calls) <= 5 and max(rig.sizes) <= most


def test_a_size_that_nearly_works_is_learned_the_second_time() -> None:
    rig = Rig(larger_than(60, lambda: refuse(504)))
    for expected in ([64, 16, 48], [64, 16, 48], [16, 48]):
        assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
        assert sorted(rig.sizes) == sorted(expected)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_a_very_small_size_is_found_as_well(most: int) -> None:
    rig = Rig(larger_than(most, lambda: refuse(504)))
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    assert len(rig.calls) <= 6 + 64 / (most / 2)


def test_a_larger_size_is_tried_again_later_and_kept_where_it_works() -> None:
    rig = Rig(larger_than(16, lambda: refuse(504)))
    rig.speak(TEXTS[:64])
    rig.choose = lambda texts: None
    rig.clock.advance(61.0)
    rig.speak(TEXTS)
    assert rig.sizes[0] == 32 and max(rig.sizes) == 64


def test_a_trial_that_fails_costs_one_request_and_no_attempt() -> None:
    rig = Rig(larger_than(16, lambda: refuse(504)))
    rig.speak(TEXTS[:64])
    rig.clock.advance(61.0)
    outcomes = rig.speak(TEXTS[:64])
    assert sorted(rig.sizes) == [16, 16, 16, 16, 32]
    assert all(o.audio is not None and o.audio.timing.attempts == 1 for o in outcomes)  # type: ignore[union-attr]


@pytest.mark.parametrize("failure", TOO_LARGE[1:])
def test_an_outage_costs_one_request_an_attempt(
    failure: Callable[[], httpx.Response | Exception],
) -> None:
    once = RetryConfig(outlast=0)  # else a bulk text waits for the service until its deadline
    rig = Rig(always(failure), retry=once)
    assert len(errors_of(rig.speak(TEXTS[:64]))) == 64
    assert len(rig.calls) == 4
    good = Rig(lambda texts: None, retry=once)
    good.speak(TEXTS[:64])
    good.choose = always(failure)
    assert len(errors_of(good.speak(TEXTS[:64]))) == 64
    assert len(good.calls) == 4


def test_a_single_failure_of_a_size_that_has_passed_is_chance() -> None:
    rig = Rig(lambda texts: None)
    rig.speak(TEXTS[:64])
    answers = iter([refuse(502)])
    rig.choose = lambda texts: next(answers, None)
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    assert rig.sizes == [64, 64]


def test_an_outage_that_ends_teaches_no_size() -> None:
    answers = iter([refuse(502), refuse(502)])
    rig = Rig(lambda texts: next(answers, None))
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    assert rig.sizes == [64, 16, 4, 60]
    rig.speak(TEXTS[:64])
    assert rig.sizes == [64]


def test_batches_are_not_cut_where_that_is_declined() -> None:
    whole = BatchConfig(halve_refused=False)
    for failure in (refuse(504), refuse(413), refuse(403)):
        refused = always(lambda failure=failure: failure)  # type: ignore[misc]
        rig = Rig(refused, batch=whole, retry=RetryConfig(outlast=0))
        assert len(errors_of(rig.speak(TEXTS[:64]))) == 64
        assert set(rig.sizes) == {64}


def test_a_reply_that_is_too_large_is_asked_for_in_parts() -> None:
    small = cosy_sync.LimitConfig(max_reply_bytes=3_000_000)
    rig = Rig(lambda texts: None, limits=small)
    assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
    rig.speak(TEXTS[:64])
    assert len(rig.calls) <= 5


@pytest.mark.parametrize("at", [0, 20, 63])
def test_a_text_that_breaks_every_batch_is_found(at: int) -> None:
    rig = Rig(disliking("DROP", 502))
    outcomes = rig.speak(with_bad(at, 64))
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [at]
    assert isinstance(outcomes[at].error, UnavailableError)
    assert len(rig.calls) <= 30


def test_a_single_text_that_is_too_large_teaches_no_size() -> None:
    rig = Rig(disliking("DROP", 413))
    assert [o.index for o in rig.speak(with_bad(41, 64)) if not o.ok] == [41]
    rig.speak(TEXTS[:64])
    assert rig.sizes == [64]


def test_a_batch_that_is_refused_and_passes_in_halves_was_too_large() -> None:
    said = {"error": {"message": "Batch contains 64 items, exceeding the maximum of 32"}}
    rig = Rig(larger_than(32, lambda: refuse(400, said)))
    for expected in ([64, 32, 32], [32, 32]):
        assert all(outcome.ok for outcome in rig.speak(TEXTS[:64]))
        assert rig.sizes == expected


@pytest.mark.parametrize("priority", ["bulk", "interactive"])
@pytest.mark.parametrize("at", [0, 10, 63])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_text_that_breaks_the_only_batch_costs_no_other(
    status: int, at: int, priority: str
) -> None:
    rig = Rig(disliking(BAD, status), priority=priority)
    outcomes = rig.speak(with_bad(at, 64))
    assert [index for index, outcome in enumerate(outcomes) if not outcome.ok] == [at]
    assert len(rig.calls) < 30


@pytest.mark.parametrize(
    ("priority", "status", "every"),
    [
        *((priority, 500, every) for priority in ("bulk", "interactive") for every in (3, 5, 20)),
        *(("bulk", status, every) for status in (502, 504) for every in (3, 5, 20)),
        *(("interactive", status, 20) for status in (502, 504)),
    ],
)
def test_however_many_texts_break_their_batches_the_others_are_spoken(
    priority: str, status: int, every: int
) -> None:
    rig = Rig(disliking("坏", status), priority=priority, breaker=BreakerConfig()).take(0.02)
    texts = [text.replace("第", "坏" if n % every == 1 else "第") for n, text in enumerate(TEXTS)]
    texts = texts[:128]
    outcomes = rig.speak(texts)
    assert [o.index for o in outcomes if not o.ok] == [n for n in range(128) if n % every == 1]
    assert len(rig.calls) < 420
    assert rig.clock.now() - rig.began < 20.0


def test_a_text_that_broke_its_batches_and_fails_alone_is_asked_once_more() -> None:
    rig = Rig(disliking(BAD, 500)).take(0.02)
    rig.speak(with_bad(41, 64))
    assert sum(call == [BAD] for call in rig.calls) == 2


def test_texts_that_break_batches_do_not_use_up_the_retry_budget() -> None:
    rig = Rig(disliking(BAD, 500), priority="interactive")
    rig.client.synth("早上好")
    before = rig.client.stats().retry_budget
    rig.speak([BAD + text if n % 5 == 1 else text for n, text in enumerate(TEXTS[:64])])
    assert before is not None and rig.client.stats().retry_budget >= before - 4


@pytest.mark.parametrize("priority", ["bulk", "interactive"])
def test_a_service_that_breaks_every_call_costs_no_request_more(priority: str) -> None:
    rig = Rig(always(lambda: refuse(500)), priority=priority, retry=RetryConfig(outlast=0))
    assert len(errors_of(rig.speak(TEXTS[:64]))) == 64
    assert len(rig.calls) <= 4
    good = Rig(lambda texts: None, priority=priority, retry=RetryConfig(outlast=0))
    good.speak(TEXTS[:64])
    good.clock.advance(11.0)
    good.choose = always(lambda: refuse(500))
    assert len(errors_of(good.speak(TEXTS[:64]))) == 64
    assert len(good.calls) <= 4


def test_calls_that_all_fail_open_the_breaker_as_soon_with_many_texts_as_with_one() -> None:
    for batch_size in (64, 1):
        opened: list[int] = []

        class Watch:
            def on_event(self, event: object) -> None:
                if isinstance(event, BreakerChanged) and event.new == "open":
                    opened.append(len(rig.calls))  # noqa: B023

        rig = Rig(
            always(lambda: refuse(500)),
            batch_size=batch_size,
            breaker=BreakerConfig(),
            retry=RetryConfig(max_retries=0),
            observers=[Watch()],
            deadline=5.0,
        )
        rig.speak([f"第{number}句" for number in range(25 * batch_size)])
        assert 20 <= opened[0] <= 20 + rig.client.config.overload.start


@pytest.mark.parametrize("batch_size", [64, 1])
def test_a_service_that_breaks_most_texts_opens_the_breaker(batch_size: int) -> None:
    changes: list[str] = []

    class Watch:
        def on_event(self, event: object) -> None:
            if isinstance(event, BreakerChanged):
                changes.append(event.new)

    rig = Rig(
        disliking(BAD, 500),
        batch_size=batch_size,
        breaker=BreakerConfig(),
        retry=RetryConfig(max_retries=0 if batch_size == 1 else 3),
        observers=[Watch()],
    )
    good = "好" * len(BAD)  # equally long, or all texts of a batch would be bad ones
    rig.take(0.02).speak([(BAD if n % 5 < 3 else good) + t for n, t in enumerate(TEXTS)])
    assert "open" in changes


def test_without_retries_a_batch_that_breaks_is_sent_once() -> None:
    rig = Rig(disliking(BAD, 500), retry=RetryConfig(max_retries=0)).take(0.02)
    rig.speak(with_bad(200))
    assert sorted(rig.sizes) == [44, 64, 64, 64, 64]
