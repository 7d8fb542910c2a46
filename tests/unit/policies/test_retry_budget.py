from __future__ import annotations

from cosy_sync.config import OverloadConfig
from cosy_sync.policies import RetryBudget

START = 1_000.0


def budget(**settings) -> RetryBudget:
    return RetryBudget(OverloadConfig(**settings))


def failing(chosen: RetryBudget, texts: int, now: float) -> RetryBudget:
    """Note so many failed texts, which were sent."""
    for _ in range(texts):
        chosen.note_failure(now)
    return chosen


def spend(chosen: RetryBudget, now: float) -> int:
    """Withdraw single texts until nothing is left; return how many."""
    count = 0
    while chosen.withdraw(1, now):
        count += 1
        assert count < 10_000
    return count


def test_a_quiet_client_may_repeat_one_text_a_second_ten_seconds_together():
    chosen = budget()
    assert chosen.balance(START) == 10.0
    assert spend(chosen, START) == 10
    assert chosen.balance(START) == 0.0
    assert spend(chosen, START + 9.9) == 0
    assert spend(chosen, START + 10.0) == 10


def test_a_busy_client_may_repeat_a_tenth_of_what_it_sends_where_much_of_it_fails():
    chosen = budget()
    chosen.deposit(1_000, START)
    failing(chosen, 201, START)
    assert chosen.balance(START) == 100.0
    assert spend(chosen, START + 1) == 100


def test_a_busy_client_may_repeat_a_fifth_while_no_more_than_that_fails():
    chosen = failing(budget(), 200, START)
    chosen.deposit(1_000, START)
    assert chosen.balance(START) == 200.0
    assert spend(chosen, START + 1) == 200


def test_a_tenth_that_fails_is_repeated_to_the_last_text_however_long_that_lasts():
    chosen = budget()
    for step in range(600):  # 50 texts a second for a minute, of which 55 in 500 attempts fail
        now = START + step / 10
        chosen.deposit(5, now)
        if step % 2 == 0:
            chosen.note_failure(now)
            assert chosen.withdraw(1, now)
        if step % 20 == 0:  # and one in ten again
            assert chosen.withdraw(1, now)


def test_an_outage_of_a_service_that_was_well_gets_no_more_than_the_tenth():
    chosen, repeated = budget(), 0
    for step in range(100):
        chosen.deposit(5, START + step / 10)
    for step in range(100, 140):
        for _ in range(5):
            chosen.deposit(1, START + step / 10)
            chosen.note_failure(START + step / 10)
            repeated += chosen.withdraw(1, START + step / 10)
        sent = min(step + 1, 100) * 5
        assert repeated <= 0.1 * sent
    assert repeated == 50


def test_where_a_tenth_failed_before_an_outage_it_gets_the_rest_of_the_fifth_for_a_moment():
    chosen, repeated = budget(), 0
    for step in range(200):
        chosen.deposit(5, START + step / 10)
        if step % 2 == 0:
            chosen.note_failure(START + step / 10)
            assert chosen.withdraw(1, START + step / 10)
    for step in range(200, 230):
        chosen.deposit(5, START + step / 10)
        for _ in range(5):
            chosen.note_failure(START + step / 10)
            repeated += chosen.withdraw(1, START + step / 10)
    assert repeated <= 15  # in 3 s in which 150 texts failed


def test_a_share_of_a_fifth_or_more_is_the_most_there_is():
    for share in (0.2, 0.5, 1.0):
        chosen = budget(retry_share=share)
        chosen.deposit(1_000, START)
        assert chosen.balance(START) == 1_000 * share
    chosen = budget(retry_share=0.03)
    chosen.deposit(1_000, START)
    assert chosen.balance(START) == 60.0


def test_hedges_get_the_tenth_only():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert chosen.withdraw(100, START, hedge=True)
    assert not chosen.withdraw(1, START, hedge=True)
    assert chosen.withdraw(100, START)


def test_failures_count_for_a_fifth_of_the_window():
    chosen = failing(budget(), 1_000, START)
    chosen.deposit(1_000, START)
    assert chosen.balance(START + 1.9) == 100.0
    assert chosen.balance(START + 2.0) == 200.0


def test_the_floor_and_the_share_do_not_add_up():
    chosen = budget()
    chosen.deposit(50, START)
    assert chosen.balance(START) == 10.0
    chosen.deposit(5, START)
    assert chosen.balance(START) == 11.0


def test_texts_are_forgotten_after_the_window():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert chosen.balance(START + 9.9) == 200.0
    assert chosen.balance(START + 10.0) == 10.0


def test_repetitions_are_paid_from_what_was_sent_in_the_same_window():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert spend(chosen, START + 5) == 200
    chosen.deposit(300, START + 11)  # allows 60, and 200 were repeated within the last 10 s
    assert chosen.balance(START + 11) == 0.0
    assert not chosen.withdraw(1, START + 11)
    assert spend(chosen, START + 15.0) == 60


def test_texts_are_paid_all_or_none():
    chosen = budget(retry_floor=0.5)
    assert not chosen.withdraw(6, START)
    assert chosen.balance(START) == 5.0
    assert chosen.withdraw(5, START)
    assert chosen.balance(START) == 0.0


def test_what_was_spent_long_ago_is_forgotten_by_a_withdrawal_alone():
    chosen = budget(retry_floor=0.1)
    assert chosen.withdraw(1, START)
    assert not chosen.withdraw(1, START + 9)
    assert chosen.withdraw(1, START + 10)


def test_share_floor_and_window_are_settings():
    chosen = budget(retry_share=0.5, retry_floor=2.0, retry_window=4.0)
    assert chosen.balance(START) == 8.0
    chosen.deposit(100, START)
    assert chosen.balance(START) == 50.0
    assert chosen.balance(START + 4) == 8.0


def test_without_share_and_floor_nothing_is_repeated():
    chosen = budget(retry_share=0.0, retry_floor=0.0)
    chosen.deposit(1_000, START)
    assert not chosen.withdraw(1, START)


def test_what_is_given_back_may_be_spent_again():
    chosen = budget()
    assert spend(chosen, START) == 10
    chosen.refund(3, START + 1)
    assert chosen.balance(START + 1) == 3.0
    assert chosen.balance(START + 9.9) == 3.0


def test_texts_count_for_the_budget_however_many_were_sent_before_somebody_asks():
    for sent in (1, 63, 64, 65, 1_000):
        chosen = budget(retry_floor=0.0)
        for _ in range(sent):
            chosen.deposit(10, START)
        assert chosen.balance(START) == 2 * sent
        assert chosen.balance(START + 60.0) == 0.0


def test_deposits_of_a_moment_are_counted_together_and_each_moment_by_itself():
    chosen = budget(retry_window=10.0, retry_floor=0.0)
    for seconds, texts in [(0.0, 100), (0.05, 30), (0.1, 20), (6.0, 200), (6.05, 10)]:
        chosen.deposit(texts, START + seconds)
    assert chosen.balance(START + 6.1) == 72.0
    assert chosen.balance(START + 9.9) == 72.0
    assert chosen.balance(START + 10.0) == 42.0
    assert chosen.balance(START + 16.0) == 0.0


def test_sixty_four_deposits_are_counted_without_being_asked_for():
    chosen = budget(retry_window=10.0)
    for _ in range(64):
        chosen.deposit(5, START)
    assert not chosen._fresh and chosen.balance(START) == 64.0
