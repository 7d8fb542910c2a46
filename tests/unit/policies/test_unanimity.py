"""Whether a call is refused as a whole: few refusals tell it, and none too early."""

from cosy_sync.errors import BadRequestError
from cosy_sync.policies import SharedRefusals, Unanimity


def refuse(
    record: Unanimity, begun: int = 0, texts: int = 1, kind: str = "no", later: int | None = None
) -> bool:
    return record.refuse(begun, texts, kind, enough=3, later=later)


def test_single_texts_refused_alike_are_enough_after_a_few() -> None:
    record = Unanimity()
    assert [refuse(record) for _ in range(3)] == [False, False, True]
    assert record.refusals == 3


def test_a_batch_refused_says_little_but_that_single_texts_should_be_asked() -> None:
    record = Unanimity()
    assert not any(refuse(record, texts=64) for _ in range(20))
    assert record.doubtful
    record.accept()
    assert not record.doubtful


def test_refusals_of_different_kinds_are_counted_apart() -> None:
    record = Unanimity()
    assert not any(refuse(record, kind=kind) for kind in ("a", "b", "a", "b", "a", "b"))


def test_what_was_sent_before_the_first_refusal_is_waited_for() -> None:
    record = Unanimity()
    early = record.begin()
    begun = record.end(record.begin())
    late = record.begin()
    assert [refuse(record, begun) for _ in range(3)] == [False] * 3
    assert record.awaits(begun)
    record.end(early)
    assert not record.awaits(begun)
    assert refuse(record, begun)  # what was sent afterwards knows no more than what was refused
    assert record.end(late) == 3


def test_a_request_that_never_ends_does_not_hold_up_the_verdict_for_ever() -> None:
    record = Unanimity()
    record.begin()
    begun = record.end(record.begin())
    answers = [refuse(record, begun) for _ in range(40)]
    assert answers == [False] * 39 + [True]


def test_a_call_in_which_something_was_accepted_is_not_refused_as_a_whole() -> None:
    record = Unanimity()
    record.accept()
    assert not any(refuse(record) for _ in range(1_000))
    assert record.begin() == 0 and record.end(5) == 0 and not record.awaits(5)


def test_a_key_that_was_revoked_is_found_by_a_long_run() -> None:
    record = Unanimity()
    for _ in range(20):
        record.accept()
        assert not any(refuse(record, later=20) for _ in range(19))
    assert refuse(record, later=20)


def test_a_verdict_ends_all_waiting() -> None:
    record = Unanimity()
    number = record.begin()
    assert record.awaits(number)
    record.verdict = BadRequestError("no")
    assert not record.awaits(number)


def test_many_batches_refused_in_a_row_raise_doubts_again() -> None:
    record = Unanimity()
    record.accept()
    for count in range(1, 21):
        assert not refuse(record, texts=2, later=100)
        assert record.doubtful == (count >= 20)


# -- in doubt -------------------------------------------------------------------------------------


def test_before_any_refusal_and_after_any_sound_nothing_waits() -> None:
    record = Unanimity()
    assert not record.in_doubt
    record.doubt(alone=False)
    assert record.in_doubt
    record.accept()
    assert not record.in_doubt
    record.doubt(alone=True)
    assert not record.in_doubt


def test_in_doubt_a_few_requests_are_in_flight_at_once_or_one() -> None:
    record = Unanimity()
    record.doubt(alone=False)
    numbers = [record.begin_in_doubt() for _ in range(5)]
    assert numbers == [1, 2, 3, 4, 0]
    record.end(2)
    assert record.begin_in_doubt() == 5
    record.doubt(alone=True)
    for number in (1, 3, 4):
        record.end(number)
    assert record.begin_in_doubt() == 0
    record.end(5)
    assert record.begin_in_doubt() == 6


def test_what_was_in_flight_before_the_doubt_counts_as_well() -> None:
    record = Unanimity()
    early = record.begin()
    record.doubt(alone=True)
    assert record.begin_in_doubt() == 0
    record.end(early)
    assert record.begin_in_doubt() == 2


def test_a_refusal_keeps_its_place_until_it_is_known_what_it_means() -> None:
    record = Unanimity()
    number = record.begin()
    record.doubt(alone=True)
    record.judging(1)
    record.end(number)
    assert record.begin_in_doubt() == 0
    record.judging(-1)
    assert record.begin_in_doubt() == 2


def test_many_refusals_without_a_verdict_are_no_doubt_any_more() -> None:
    record = Unanimity()
    for count in range(1, 42):
        record.doubt(alone=True)
        assert record.in_doubt == (count <= 40)


def test_a_verdict_ends_the_doubt() -> None:
    record = Unanimity()
    record.doubt(alone=True)
    record.verdict = BadRequestError("no")
    assert not record.in_doubt


# -- every text of a reply ------------------------------------------------------------------------


def test_replies_that_refuse_each_text_alike_are_enough_after_three_with_twenty_texts() -> None:
    record = Unanimity()
    assert [record.refuse_each(0, 32, "no") for _ in range(3)] == [False, False, True]
    assert not record.doubtful and record.refusals == 3
    small = Unanimity()
    assert [small.refuse_each(0, 2, "no") for _ in range(10)] == [False] * 9 + [True]


def test_they_are_counted_anew_after_another_kind_and_after_sound() -> None:
    record = Unanimity()
    for kind in ("a", "a", "b", "b", "a", "a"):
        assert not record.refuse_each(0, 32, kind)
    record.accept()
    assert not any(record.refuse_each(0, 32, "a") for _ in range(100))


def test_they_wait_for_what_was_sent_before_the_first_but_not_for_ever() -> None:
    record = Unanimity()
    record.begin()
    begun = record.end(record.begin())
    assert [record.refuse_each(begun, 32, "no") for _ in range(8)] == [False] * 7 + [True]


# -- strangers ------------------------------------------------------------------------------------


def test_batches_that_are_refused_at_about_the_same_time_are_judged_together() -> None:
    strangers = SharedRefusals()
    record = strangers.record("no", 100.0)
    assert strangers.record("other", 105.0) is record
    assert record.shared_batches == 2
    assert strangers.record("no", 110.1) is not record


def test_a_verdict_on_strangers_holds_for_refusals_alike_and_a_short_while() -> None:
    strangers = SharedRefusals()
    record = strangers.record("no", 100.0)
    refuse(record)
    record.verdict = BadRequestError("no")
    assert strangers.record("no", 103.0) is record
    assert strangers.record("no", 105.0) is record
    assert strangers.record("no", 105.1) is not record


def test_a_refusal_of_another_kind_begins_anew_after_a_verdict() -> None:
    strangers = SharedRefusals()
    record = strangers.record("no", 100.0)
    refuse(record)
    record.verdict = BadRequestError("no")
    assert strangers.record("other", 100.0) is not record


def test_once_something_was_spoken_strangers_are_judged_anew() -> None:
    strangers = SharedRefusals()
    strangers.accept()
    record = strangers.record("no", 100.0)
    strangers.accept()
    assert record.accepted and strangers.record("no", 100.0) is not record
