"""How many texts a call may have: learned from what was too large, and tried again later."""

import pytest

from cosy_sync.policies import BatchSize


@pytest.fixture
def sizes() -> BatchSize:
    made = BatchSize()
    made.learn(48, 16, 0.0)
    return made


def test_nothing_is_limited_before_something_was_too_large() -> None:
    sizes = BatchSize()
    sizes.fail(64, 0.0)
    assert sizes.limit is None and sizes.most(64, 1.0) == 64


def test_what_passed_is_the_limit_for_a_while(sizes: BatchSize) -> None:
    assert sizes.most(64, 59.0) == 16
    assert sizes.most(10, 59.0) == 10


def test_later_twice_as_many_are_tried_once(sizes: BatchSize) -> None:
    assert [sizes.most(64, at) for at in (60.0, 61.0, 119.0)] == [32, 16, 16]


def test_small_batches_use_up_no_trial(sizes: BatchSize) -> None:
    assert sizes.most(16, 60.0) == 16
    assert sizes.most(20, 60.0) == 20


def test_many_full_calls_bring_the_trial_forward(sizes: BatchSize) -> None:
    for _ in range(16):
        assert sizes.most(64, 1.0) == 16
        sizes.succeed(7, 1.0)
        sizes.succeed(16, 1.0)
    assert sizes.most(64, 1.0) == 32


def test_a_trial_that_passed_is_followed_by_the_next_until_nothing_is_known_to_fail(
    sizes: BatchSize,
) -> None:
    assert sizes.most(64, 60.0) == 32
    sizes.succeed(32, 61.0)
    assert sizes.limit == 32 and sizes.most(64, 61.0) == 64
    sizes.succeed(64, 62.0)
    assert sizes.limit is None


def test_a_trial_that_failed_doubles_the_time_until_the_next(sizes: BatchSize) -> None:
    assert sizes.most(64, 60.0) == 32
    sizes.fail(32, 60.0)
    assert [sizes.most(64, at) for at in (60.0, 179.0, 180.0)] == [16, 16, 32]
    for _ in range(10):
        sizes.fail(32, 200.0)
    assert [sizes.most(64, at) for at in (799.0, 800.0)] == [16, 32]


def test_a_failure_at_the_limit_is_no_trial(sizes: BatchSize) -> None:
    sizes.fail(16, 0.0)
    assert sizes.most(64, 60.0) == 32


def test_a_smaller_size_is_only_learned_where_the_limit_itself_failed(sizes: BatchSize) -> None:
    sizes.learn(44, 11, 0.0)
    assert sizes.limit == 16
    sizes.learn(16, 4, 0.0)
    assert sizes.limit == 4
    sizes.learn(48, 12, 0.0)
    assert sizes.limit == 12


def test_what_may_have_been_chance_is_learned_the_second_time() -> None:
    sizes = BatchSize()
    sizes.succeed(48, 0.0)
    sizes.doubt(64, 48, 0.0)
    assert sizes.limit is None
    sizes.doubt(64, 48, 0.0)
    assert sizes.limit == 48
    sizes.doubt(48, 12, 0.0)
    assert sizes.limit == 48


def test_a_size_that_passes_between_two_failures_leaves_no_doubt() -> None:
    sizes = BatchSize()
    sizes.doubt(64, 48, 0.0)
    sizes.succeed(64, 0.0)
    for _ in range(3):
        sizes.doubt(64, 48, 0.0)
    assert sizes.limit is None


def test_after_many_failures_one_call_finds_out_for_all_whether_a_size_passes() -> None:
    sizes = BatchSize()
    assert sizes.may_try(48, 0.0) and sizes.may_try(48, 0.0)
    for _ in range(4):
        sizes.fail(64, 0.0)
    sizes.succeed(16, 0.0)
    assert [sizes.may_try(48, at) for at in (0.0, 0.0, 29.0, 30.0)] == [True, False, False, True]
    assert sizes.may_try(16, 0.0)
    sizes.doubt(64, 48, 31.0)  # it passed: the others follow
    assert [sizes.may_try(48, at) for at in (31.0, 32.0)] == [True, True]


def test_the_failure_after_many_others_is_no_chance() -> None:
    sizes = BatchSize()
    sizes.succeed(16, 0.0)
    for sure in (False, False, False, True):
        sizes.fail(64, 0.0)
        assert sizes.sure is sure
    sizes.learn(48, 16, 0.0)
    assert not sizes.sure and sizes.limit == 16


def test_failures_of_a_size_that_has_passed_say_nothing_of_it() -> None:
    sizes = BatchSize()
    sizes.succeed(64, 0.0)
    for _ in range(10):
        sizes.fail(64, 0.0)
    assert not sizes.sure and sizes.may_try(64, 0.0) and sizes.may_try(64, 0.0)


def test_calls_of_a_size_that_only_failed_may_be_too_large() -> None:
    sizes = BatchSize()
    for _ in range(3):
        assert not sizes.may_be_too_many(64)
        sizes.fail(64, 0.0)
    assert sizes.may_be_too_many(64)
    sizes.succeed(16, 0.0)
    assert sizes.may_be_too_many(64) and not sizes.may_be_too_many(16)
    sizes.succeed(64, 0.0)
    assert not sizes.may_be_too_many(64)


def test_the_smallest_call_that_failed_is_known_until_one_is_answered() -> None:
    sizes = BatchSize()
    for texts in (64, 16, 64):
        sizes.fail(texts, 0.0)
    assert sizes.least_failed == 16
    sizes.succeed(4, 0.0)
    assert sizes.least_failed > 64
