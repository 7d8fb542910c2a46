"""Silence: an endpoint that was asked and answers nothing, and whose time a text then shares."""

from __future__ import annotations

import math

from cosy_sync.policies import Silence, begin_of


def test_it_begins_with_a_call_and_ends_with_its_answer() -> None:
    silence = Silence()
    assert silence.since == math.inf
    silence.ask("a", 10.0)
    assert silence.since == 10.0
    silence.end("a", True, 12.0)
    assert silence.since == math.inf


def test_an_answer_begins_it_anew_while_others_are_due() -> None:
    silence = Silence()
    silence.ask("a", 10.0)
    silence.ask("b", 11.0)
    silence.end("b", True, 15.0)
    assert silence.since == 15.0


def test_a_failure_does_not_end_it() -> None:
    silence = Silence()
    for number in range(3):
        silence.ask(number, 10.0 + number)
        silence.end(number, False, 10.5 + number)
    assert silence.since == 10.0
    silence.ask("good", 20.0)
    silence.end("good", True, 21.0)
    assert silence.since == math.inf


def test_a_text_shares_the_time_of_others_after_half_a_deadline_of_silence() -> None:
    assert begin_of(100.0, math.inf, 60.0) == 100.0
    assert begin_of(100.0, 71.0, 60.0) == 100.0
    assert begin_of(100.0, 70.0, 60.0) == 70.0
    assert begin_of(200.0, 70.0, 60.0) == 70.0
