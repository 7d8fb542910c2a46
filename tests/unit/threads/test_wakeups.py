"""What wakes a thread: a lock, or a bell that is rung without the GIL."""

from __future__ import annotations

import os
import select
import threading

import pytest

from cosy_sync.threads import wakeups
from cosy_sync.threads.wakeups import Bell, new_bell, new_lock

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="there is no eventfd here")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_each_ring_ends_one_wait() -> None:
    bell = Bell()
    bell.release()
    assert bell.acquire(timeout=20)
    assert not bell.acquire(timeout=0)


def test_a_ring_ends_a_wait_that_has_begun() -> None:
    bell, ends = Bell(), []
    thread = threading.Thread(target=lambda: ends.append(bell.acquire()))
    thread.start()
    bell.release()
    thread.join(20)
    assert ends == [True]


def test_a_wait_longer_than_the_system_counts_begins() -> None:
    bell = Bell()
    bell.release()
    assert bell.acquire(timeout=threading.TIMEOUT_MAX)


def test_others_run_while_a_bell_is_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    while select.select([], [far], [], 0)[1]:
        os.write(far, bytes(4096))
    bell = Bell()
    with monkeypatch.context() as patch:
        patch.setattr(bell, "_fd", far)  # which has no room: the ring takes its time
        thread = threading.Thread(target=bell.release)
        thread.start()
        os.read(near, 65536)  # this thread would never get here; now there is room
        thread.join(20)
        assert not thread.is_alive()
    os.close(near)
    os.close(far)


def test_the_descriptor_goes_with_the_last_reference_and_not_before() -> None:
    before, bell = open_files(), Bell()
    held = [bell]
    del bell
    assert open_files() == before + 1
    held.pop().release()
    assert open_files() == before


@pytest.mark.parametrize(
    ("fd", "most", "kind"),
    [
        *((10, 1_024, threading.Lock), (10, 4_096, Bell), (1_023, 4_096, Bell)),
        *((1_024, 4_096, threading.Lock), (100_000, float("inf"), Bell)),
    ],
)
def test_bells_take_no_descriptors_where_they_may_become_scarce(
    fd: int, most: float, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_most_files", lambda: most)
    assert type(new_bell(fd)) is (Bell if kind is Bell else type(new_lock()))


def test_without_a_descriptor_there_is_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(wakeups, "_most_files", lambda: float("inf"))
    monkeypatch.setattr(os, "eventfd", refuse)
    assert type(new_bell(5)) is type(new_lock())


def test_a_forked_childs_end_leaves_the_parents_bell_whole() -> None:
    bell = Bell()
    child = os.fork()
    if not child:
        del bell
        os._exit(0)
    os.waitpid(child, 0)
    bell.release()
    assert bell.acquire(timeout=20)
