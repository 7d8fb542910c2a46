"""Whose fault a failure is: the endpoint's, the text's, or that of a kind of request."""

from __future__ import annotations

import pytest

from cosy_sync.errors import ConnectError, CosyError, CutError, ReplyTimeout, UnavailableError
from cosy_sync.policies import Blame, Call, FirstTry

START = 1_000.0
GOOD, BAD, OTHER = 1, 2, 3  # kinds of requests
CUT = CutError("cut")
REFUSED = ConnectError("refused", phase="connect")
BROKEN = UnavailableError("broken", status=500)
GATEWAY = UnavailableError("bad gateway", status=502)


def again(kind: int, sent: float, failed: float) -> Call:
    return Call(kind, again=True, first=FirstTry(sent, failed))


# Texts


def test_a_text_that_fails_for_the_first_time_counts_against_the_endpoint():
    subject = Blame()
    subject.succeed(Call(GOOD), START, START + 1)
    assert not subject.fail(Call(GOOD), START + 2)


def test_a_repetition_does_not_count_once_something_that_was_sent_later_succeeded():
    subject = Blame()
    subject.fail(Call(GOOD), START)
    subject.succeed(Call(GOOD), START + 0.1, START + 0.2)
    assert subject.fail(again(GOOD, START - 1, START), START + 1)


def test_a_repetition_counts_while_nothing_that_was_sent_later_succeeded():
    subject = Blame()
    subject.fail(Call(GOOD), START)
    subject.succeed(Call(GOOD), START - 0.1, START + 0.2)  # it was in flight when the text failed
    assert not subject.fail(again(GOOD, START - 1, START), START + 1)


def test_a_repetition_does_not_count_while_others_succeed_however_few_are_in_flight():
    subject = Blame()
    subject.succeed(Call(GOOD), START, START + 0.1)
    subject.fail(Call(GOOD), START + 0.2)
    # Too early for one that was sent meanwhile to have succeeded.
    assert subject.fail(again(GOOD, START, START + 0.2), START + 0.4)
    assert not subject.fail(again(GOOD, START, START + 0.2), START + 1)


def test_texts_that_fail_here_and_there_all_count():
    subject = Blame()
    counted = 0
    for number in range(100):
        now = START + number / 10
        if number % 5 < 2:
            subject.succeed(Call(GOOD), now - 0.05, now)
        else:
            counted += not subject.fail(Call(GOOD), now)
    assert counted == 60


# Kinds


def test_of_a_kind_that_only_fails_while_others_succeed_the_first_few_count():
    subject = Blame()
    counted = 0
    for number in range(200):
        now = START + number / 10
        subject.succeed(Call(GOOD), now - 0.05, now)
        counted += not subject.fail(Call(BAD), now + 0.01)
    assert counted == 4


def test_a_kind_is_not_blamed_when_nothing_else_succeeds():
    subject = Blame()
    assert not any(subject.fail(Call(BAD), START + number) for number in range(100))


def test_a_kind_is_not_blamed_by_its_own_successes():
    subject = Blame()
    subject.succeed(Call(BAD), START, START)
    assert not any(subject.fail(Call(BAD), START + number) for number in range(100))


def test_a_new_kind_waits_for_evidence_before_it_counts():
    subject = Blame()
    subject.succeed(Call(GOOD), START - 1, START)
    verdicts = [subject.fail(Call(BAD), START + number / 100) for number in range(140)]
    assert verdicts == [False] * 4 + [True] * 136
    assert not subject.fail(Call(BAD), START + 1.6)  # nobody else was heard of meanwhile


def test_a_kind_that_succeeded_lately_counts_at_once():
    subject = Blame()
    subject.succeed(Call(GOOD), START - 1, START)
    subject.succeed(Call(OTHER), START - 1, START)
    assert not any(subject.fail(Call(GOOD), START + number / 100) for number in range(100))


def test_a_kind_that_succeeded_before_is_not_blamed_by_a_success_of_long_ago():
    subject = Blame()
    subject.succeed(Call(BAD), START - 1, START - 1)
    subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 0.1, START + 0.1)
    verdicts = [subject.fail(Call(BAD), START + 0.2 + number) for number in range(20)]
    assert verdicts == [False] * 3 + [True] * 7 + [False] * 10


def test_a_kind_that_never_succeeded_stays_blamed_once_another_did():
    subject = Blame()
    for _ in range(5):
        subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 0.1, START + 0.1)
    assert all(subject.fail(Call(BAD), START + number) for number in range(1, 100))


def test_no_request_is_blamed_for_a_connection_that_was_not_made():
    subject = Blame()
    for _ in range(5):
        subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 0.1, START + 0.1)
    assert not subject.fail(Call(BAD), START + 1, sent=False)
    assert not subject.fail(again(GOOD, START - 1, START), START + 1, sent=False)


def test_a_success_of_its_own_clears_a_kind():
    subject = Blame()
    for _ in range(20):
        subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 1, START + 1)
    assert subject.fail(Call(BAD), START + 2)
    subject.succeed(Call(BAD), START + 2, START + 2)
    assert not subject.fail(Call(BAD), START + 3)


def test_any_number_of_kinds_takes_little_memory():
    subject = Blame()
    for kind in range(10_000):
        subject.fail(Call(kind), START)
        subject.succeed(Call(kind + 20_000), START, START)
    assert len(subject.failing) <= 256 and len(subject._good) <= 256


def test_the_failing_kind_is_the_only_kind_that_failed_lately():
    subject = Blame()
    assert subject.failing_kind(START) is None
    subject.fail(Call(BAD), START)
    assert subject.failing_kind(START) == BAD
    subject.fail(Call(OTHER), START + 1)
    assert subject.failing_kind(START + 1) is None
    subject.succeed(Call(OTHER), START + 2, START + 2)
    assert subject.failing_kind(START + 2) == BAD
    assert subject.failing_kind(START + 11) is None


def test_others_are_acquitted_only_by_a_kind_that_is_to_blame():
    subject = Blame()
    subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 1, START + 1)
    assert subject.only_others_fail(GOOD, START + 1)  # it succeeded lately itself
    for _ in range(4):
        subject.fail(Call(BAD), START + 1)
    assert subject.only_others_fail(GOOD, START + 1) and not subject.only_others_fail(
        BAD, START + 1
    )
    subject.fail(Call(OTHER), START + 2)
    assert not subject.only_others_fail(GOOD, START + 2)


# Outages


@pytest.mark.parametrize("error", [CUT, REFUSED, BROKEN, GATEWAY])
def test_it_is_an_outage_while_nothing_ever_succeeded(error: CosyError):
    subject = Blame()
    subject.fail(Call(), START)
    assert subject.is_outage(GOOD, error, FirstTry(START, START), START + 3_600)


@pytest.mark.parametrize("error", [CUT, REFUSED, GATEWAY])
def test_it_is_an_outage_while_nothing_succeeded_since_the_text_was_sent(error: CosyError):
    subject = Blame()
    subject.succeed(Call(), START - 2, START - 1)
    subject.fail(Call(), START)
    assert subject.is_outage(GOOD, error, FirstTry(START - 0.5, START), START + 3_600)


@pytest.mark.parametrize("error", [CUT, BROKEN, GATEWAY])
def test_it_is_none_once_something_succeeded_that_was_sent_after_the_text_failed(error: CosyError):
    subject = Blame()
    subject.fail(Call(), START)
    subject.succeed(Call(), START + 0.1, START + 0.2)
    assert not subject.is_outage(GOOD, error, FirstTry(START - 1, START), START + 1)


def test_no_text_is_to_blame_for_a_connection_that_was_not_made():
    subject = Blame()
    subject.fail(Call(), START)
    subject.succeed(Call(), START + 1, START + 2)
    assert subject.is_outage(GOOD, REFUSED, FirstTry(START - 1, START), START + 100)


def test_a_name_that_was_never_found_may_be_misspelt():
    subject, unknown = Blame(), ConnectError("no address", phase="dns")
    assert not subject.is_outage(GOOD, unknown, FirstTry(START, START), START)
    subject.succeed(Call(), START + 1, START + 1)
    assert subject.is_outage(GOOD, unknown, FirstTry(START + 2, START + 2), START + 3)


def test_a_late_reply_is_no_sign_of_an_outage():
    assert not Blame().is_outage(GOOD, ReplyTimeout("late"), FirstTry(START, START), START)


@pytest.mark.parametrize("error", [CUT, GATEWAY])
def test_replies_that_were_in_flight_when_the_service_died_prove_nothing_for_a_while(error):
    subject = Blame()
    subject.fail(Call(), START)
    subject.succeed(Call(), START - 0.1, START + 0.1)
    first = FirstTry(START - 0.2, START)
    assert subject.is_outage(GOOD, error, first, START + 9)
    assert not subject.is_outage(GOOD, error, first, START + 11)


def test_a_single_text_that_a_working_service_refuses_is_no_outage():
    subject = Blame()
    subject.succeed(Call(), START - 0.1, START + 0.1)
    subject.fail(Call(), START + 0.2)
    assert not subject.is_outage(GOOD, BROKEN, FirstTry(START, START + 0.2), START + 0.3)


def test_a_single_text_may_meet_an_outage_of_a_service_that_answers_for_a_while():
    subject = Blame()
    subject.succeed(Call(), START - 0.2, START - 0.1)
    subject.fail(Call(), START + 0.2)
    first = FirstTry(START, START + 0.2)
    assert subject.is_outage(GOOD, BROKEN, first, START + 9)
    assert not subject.is_outage(GOOD, BROKEN, first, START + 11)


def test_a_kind_that_was_found_to_fail_alone_meets_no_outage_afterwards():
    subject = Blame()
    for _ in range(5):
        subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 1, START + 1)
    first = FirstTry(START + 60, START + 60)
    assert not subject.is_outage(BAD, CUT, first, START + 61)
    assert subject.is_outage(BAD, REFUSED, first, START + 61)
    assert subject.is_outage(GOOD, CUT, first, START + 61)


def test_a_kind_that_succeeded_before_the_others_may_meet_an_outage():
    subject = Blame()
    subject.succeed(Call(BAD), START - 1, START - 1)
    for _ in range(5):
        subject.fail(Call(BAD), START)
    subject.succeed(Call(GOOD), START + 1, START + 1)
    assert subject.is_outage(BAD, CUT, FirstTry(START + 60, START + 60), START + 61)


def test_two_texts_that_a_service_refuses_alike_are_an_outage():
    subject = Blame()
    subject.succeed(Call(), START - 0.2, START - 0.1)
    subject.fail(Call(), START + 0.2)
    subject.fail(Call(), START + 0.2)
    assert subject.is_outage(GOOD, BROKEN, FirstTry(START, START + 0.2), START + 100)


# Texts that are to blame


def with_bad_texts(count: int, good: int = 4) -> Blame:
    """Return where each of so many texts failed twice, and so many others succeeded after each."""
    subject = Blame()
    for number in range(count):
        now = START + number
        subject.fail(Call(GOOD), now)
        for _ in range(good):
            subject.succeed(Call(GOOD), now + 0.1, now + 0.2)
        assert subject.fail(again(GOOD, now, now), now + 0.3)
    return subject


@pytest.mark.parametrize("error", [CUT, BROKEN, GATEWAY])
def test_the_last_text_fails_by_itself_where_others_did_lately(error: CosyError):
    subject = with_bad_texts(5)
    subject.fail(Call(GOOD), START + 10)
    first = FirstTry(START + 10, START + 10)
    assert not subject.is_outage(GOOD, error, first, START + 11)
    assert all(subject.fail(again(GOOD, *first), START + 11 + n) for n in range(20))


@pytest.mark.parametrize("error", [CUT, BROKEN, GATEWAY])
def test_more_texts_in_a_row_than_chance_brings_are_an_outage_though_others_failed_lately(error):
    subject = with_bad_texts(5)
    for _ in range(4):
        subject.fail(Call(GOOD), START + 10)
    first = FirstTry(START + 9.9, START + 10)
    assert subject.is_outage(GOOD, error, first, START + 11)
    assert not subject.fail(again(GOOD, *first), START + 11)


def test_where_half_of_the_texts_fail_the_service_is_to_blame():
    subject = with_bad_texts(12, good=1)
    subject.fail(Call(GOOD), START + 20)
    first = FirstTry(START + 20, START + 20)
    assert subject.is_outage(GOOD, CUT, first, START + 21)
    assert not subject.fail(again(GOOD, *first), START + 21)


def test_texts_that_were_to_blame_long_ago_prove_nothing():
    subject = with_bad_texts(5)
    subject.fail(Call(GOOD), START + 60)
    assert subject.is_outage(GOOD, BROKEN, FirstTry(START + 60, START + 60), START + 61)


def with_ended_texts(succeeds: Call, sent: float) -> Blame:
    """Return where each of three texts failed twice, and then such a call succeeded, and others."""
    subject = Blame()
    for now in (START, START + 3, START + 6):
        subject.fail(Call(GOOD), now)
        subject.fail(again(GOOD, now, now), now + 1)
        subject.succeed(succeeds, now + sent, now + 2)
        for _ in range(4):
            subject.succeed(Call(GOOD), now + 2, now + 2.1)
    subject.fail(Call(GOOD), START + 9)
    return subject


@pytest.mark.parametrize(
    ("succeeds", "sent", "outage"),
    [
        (Call(GOOD), 1.5, False),
        (again(GOOD, START, START), 1.5, True),  # the very text
    ],
)
def test_a_text_is_to_blame_where_another_succeeds_that_was_sent_after_its_last_attempt(
    succeeds: Call, sent: float, outage: bool
):
    subject = with_ended_texts(succeeds, sent)
    first = FirstTry(START + 9, START + 9)
    assert subject.is_outage(GOOD, BROKEN, first, START + 9) is outage


@pytest.mark.parametrize("error", [CUT, GATEWAY])
def test_a_few_replies_do_not_show_that_texts_are_to_blame(error: CosyError):
    subject = with_bad_texts(2, good=1)
    subject.fail(Call(GOOD), START + 3)
    assert subject.is_outage(GOOD, error, FirstTry(START + 3, START + 3), START + 3)


def test_of_a_single_text_a_few_repetitions_count_shortly_after_a_success():
    subject = Blame()
    subject.succeed(Call(GOOD), START, START)
    subject.fail(Call(GOOD), START + 1)
    verdicts = [subject.fail(again(GOOD, START, START + 1), START + 2 + n) for n in range(12)]
    assert verdicts == [False] * 3 + [True] * 5 + [False] * 4


def test_of_two_texts_all_repetitions_count():
    subject = Blame()
    subject.succeed(Call(GOOD), START, START)
    subject.fail(Call(GOOD), START + 1)
    subject.fail(Call(GOOD), START + 1)
    assert not any(subject.fail(again(GOOD, START, START + 1), START + 2 + n) for n in range(7))


def test_so_many_refusals_in_a_row_are_chance_as_the_share_of_refused_texts_allows():
    subject = with_bad_texts(5)  # a fifth of the texts
    assert subject.is_chance(5, START + 6)
    assert not subject.is_chance(8, START + 6)


def test_refusals_are_chance_while_every_text_is_refused():
    subject = Blame()
    for number in range(50):
        subject.fail(Call(GOOD), START + number / 10)
    assert subject.is_chance(100, START + 6)
