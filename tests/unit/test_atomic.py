"""Flags, threads and hand-overs whose locks nothing can keep."""

import _thread
import sys
import threading
from collections import deque
from types import FrameType

import pytest
from lanes import eventually

from cosy_sync.atomic import (
    BareCondition,
    Flag,
    on_main_thread,
    release_last,
    run_aside,
    start_aside,
    start_thread,
    wait_for,
)


def test_a_flag_wakes_all_who_wait_and_stays_set() -> None:
    flag, woken = Flag(), []
    threads = [threading.Thread(target=lambda: woken.append(flag.wait(20))) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(flag._waiting) == 5)
    assert not flag.is_set()
    flag.set()
    for thread in threads:
        thread.join(20)
    assert woken == [True] * 5 and flag.wait(0) and flag.wait() and "set" in repr(flag)


def test_who_waits_in_vain_for_a_flag_leaves_nothing_behind() -> None:
    flag = Flag()
    assert not flag.wait(0.001) and not flag.wait(-1) and not flag._waiting
    flag.set()
    flag.clear()
    assert not flag.is_set()


def test_a_flag_has_no_lock_that_its_setter_could_meet() -> None:
    assert not any(isinstance(value, threading.Condition) for value in vars(Flag()).values())


def test_a_condition_is_entered_without_a_line_of_python() -> None:
    condition, lines = BareCondition(), []

    def watch(frame: FrameType, event: str, arg: object) -> None:
        lines.append(frame.f_code.co_name)

    sys.setprofile(watch)
    with condition:
        pass
    sys.setprofile(None)
    assert not {"__enter__", "__exit__"} & set(lines)
    with condition:
        assert condition._is_owned() and not condition.wait(0.001)
        condition.notify_all()
    assert not condition._is_owned()


def test_the_last_lock_is_taken_out_and_released_in_one() -> None:
    locks = deque([threading.Lock(), threading.Lock()])
    first, last = locks
    first.acquire()
    last.acquire()
    release_last(locks)
    assert list(locks) == [first] and not last.locked() and first.locked()
    release_last(locks)
    with pytest.raises(IndexError):
        release_last(locks)


def test_a_thread_takes_its_place_or_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    places, done = [(), ()], threading.Event()
    start_thread(places, done.set)
    assert done.wait(60) and places == [()]

    def refuse(work: object, args: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        with pytest.raises(RuntimeError):
            start_thread(places, done.set)
    assert places == [()]


def test_work_aside_is_waited_for_and_has_a_name() -> None:
    names: list[str] = []
    run_aside(lambda: names.append(threading.current_thread().name), "cosy-test")
    assert names == ["cosy-test"]
    start_aside(lambda: names.append("again"), "cosy-test")
    eventually(lambda: len(names) == 2)


def test_a_wait_of_the_main_thread_ends_with_the_lock_or_the_time() -> None:
    lock = threading.Lock()
    assert on_main_thread() and wait_for(lock, 5.0)
    assert not wait_for(lock, 0.01)
    threading.Timer(0.05, lock.release).start()
    assert wait_for(lock, 20.0)
