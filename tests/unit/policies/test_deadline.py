from __future__ import annotations

import math
import pickle

import pytest

from cosy_sync.errors import CosyError, DeadlineError
from cosy_sync.policies import Deadline


def test_an_error_says_what_the_caller_gave_the_number_as():
    error = Deadline(100.0, 2.0, "within").error("speaking")
    assert str(error) == "not done within 2 s (within): speaking"


def test_remaining_counts_down_to_0_and_not_below():
    deadline = Deadline(100.0, 2.0)
    assert (deadline.started, deadline.at) == (100.0, 102.0)
    assert deadline.remaining(100.0) == 2.0
    assert deadline.remaining(101.5) == 0.5
    assert deadline.remaining(102.0) == 0.0
    assert deadline.remaining(200.0) == 0.0


def test_it_has_expired_exactly_when_nothing_remains():
    deadline = Deadline(1e6 + 0.1, 0.3)
    just_before = math.nextafter(deadline.at, 0.0)
    assert not deadline.expired(just_before)
    assert deadline.remaining(just_before) > 0.0
    assert deadline.expired(deadline.at)
    assert deadline.remaining(deadline.at) == 0.0


def test_cut_shortens_a_timeout_to_what_is_left():
    deadline = Deadline(0.0, 10.0)
    assert deadline.cut(3.0, now=1.0) == 3.0
    assert deadline.cut(3.0, now=8.0) == 2.0
    assert deadline.cut(3.0, now=11.0) == 0.0


def test_an_endless_deadline_never_expires():
    deadline = Deadline(5.0, math.inf)
    assert not deadline.expired(1e12)
    assert deadline.cut(3.0, now=1e12) == 3.0


@pytest.mark.parametrize(("seconds", "number"), [(2.0, "2 s"), (0.1 + 0.2, "0.3 s")])
def test_the_error_reports_the_callers_number_and_the_phase(seconds, number):
    error = Deadline(1e6, seconds).error("waiting for a permit")
    assert str(error) == f"not done within {number} (deadline): waiting for a permit"
    assert (error.deadline, error.phase) == (seconds, "waiting for a permit")
    assert isinstance(error, CosyError) and isinstance(error, TimeoutError)
    assert not error.retryable


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(Deadline(0.0, 2.0).error("sending")))
    assert type(error) is DeadlineError
    assert (error.deadline, error.phase) == (2.0, "sending")


def test_it_holds_no_dictionary_and_shows_itself():
    deadline = Deadline(100.0, 2.0)
    assert not hasattr(deadline, "__dict__")
    assert repr(deadline) == "<Deadline 2 s, at 102.000>"


def test_a_later_deadline_has_the_same_length_and_name() -> None:
    later = Deadline(10.0, 5.0, "within").later(2.5)
    assert (later.started, later.seconds, later.at) == (12.5, 5.0, 17.5)
    assert "within" in str(later.error("waiting"))
