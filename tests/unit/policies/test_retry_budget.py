from __future__ import annotations

from cosy_sync.config import OverloadConfig
from cosy_sync.policies import RetryBudget

START = 1_000.0


def budget(**settings) -> RetryBudget:
    return RetryBudget(OverloadConfig(**settings))


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


def test_a_busy_client_may_repeat_a_tenth_of_what_it_sends():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert chosen.balance(START) == 100.0
    assert spend(chosen, START + 1) == 100


def test_the_floor_and_the_share_do_not_add_up():
    chosen = budget()
    chosen.deposit(100, START)
    assert chosen.balance(START) == 10.0
    chosen.deposit(10, START)
    assert chosen.balance(START) == 11.0


def test_texts_are_forgotten_after_the_window():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert chosen.balance(START + 9.9) == 100.0
    assert chosen.balance(START + 10.0) == 10.0


def test_repetitions_are_paid_from_what_was_sent_in_the_same_window():
    chosen = budget()
    chosen.deposit(1_000, START)
    assert spend(chosen, START + 5) == 100
    chosen.deposit(300, START + 11)  # allows 30, and 100 were repeated within the last 10 s
    assert chosen.balance(START + 11) == 0.0
    assert not chosen.withdraw(1, START + 11)
    assert spend(chosen, START + 15.0) == 30


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
        assert chosen.balance(START) == sent
        assert chosen.balance(START + 60.0) == 0.0


def test_deposits_of_a_moment_are_counted_together_and_each_moment_by_itself():
    chosen = budget(retry_window=10.0, retry_floor=0.0)
    for seconds, texts in [(0.0, 100), (0.05, 30), (0.1, 20), (6.0, 200), (6.05, 10)]:
        chosen.deposit(texts, START + seconds)
    assert chosen.balance(START + 6.1) == 36.0
    assert chosen.balance(START + 9.9) == 36.0
    assert chosen.balance(START + 10.0) == 21.0
    assert chosen.balance(START + 16.0) == 0.0


def test_sixty_four_deposits_are_counted_without_being_asked_for():
    chosen = budget(retry_window=10.0)
    for _ in range(64):
        chosen.deposit(5, START)
    assert not chosen._fresh and chosen.balance(START) == 32.0
