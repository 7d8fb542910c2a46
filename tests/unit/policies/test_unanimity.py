"""Whether a call is refused as a whole: few refusals tell it, and none too early."""

from cosy_sync.errors import BadRequestError
from cosy_sync.policies import Unanimity


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
