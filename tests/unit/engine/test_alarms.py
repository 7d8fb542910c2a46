"""Alarms: each is called once, in the order of their times, and not after the end."""

import threading

from cosy_sync.engine.alarms import Alarms


def test_the_earliest_alarm_rings_first_whatever_was_set_first() -> None:
    alarms, rung, done = Alarms(), [], threading.Event()
    alarms.after(0.2, lambda: (rung.append("late"), done.set()))
    alarms.after(0.05, lambda: rung.append("early"))
    alarms.after(0.0, lambda: rung.append("now"))
    assert done.wait(10)
    alarms.close()
    assert rung == ["now", "early", "late"]


def test_a_closed_one_calls_nothing_any_more_and_leaves_no_thread() -> None:
    alarms, rung = Alarms(), threading.Event()
    alarms.after(0.1, rung.set)
    alarms.close()
    alarms.after(0.0, rung.set)
    assert not rung.wait(0.3)


def test_no_thread_runs_before_the_first_alarm() -> None:
    before = set(threading.enumerate())
    Alarms()
    assert set(threading.enumerate()) <= before


def test_when_the_machine_is_out_of_threads_the_next_alarm_tries_again(monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    alarms, rung = Alarms(), [threading.Event(), threading.Event()]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    alarms.after(0.0, rung[0].set)
    monkeypatch.undo()
    alarms.after(0.0, rung[1].set)
    assert rung[0].wait(10) and rung[1].wait(10)
    alarms.close()
