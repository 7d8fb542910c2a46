"""One thread that waits for the replies of many: who is woken, in which order, one at a time."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from lanes import eventually

from cosy_sync.threads import poller, wakeups
from cosy_sync.threads.permits import Permits
from cosy_sync.threads.poller import Turn, Watched, enter, leave, pause, resume, watch

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll here")


class Line:
    """A socket that is watched, and its other end."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        watched = watch(self.near.fileno())
        assert watched is not None
        self.watched: Watched = watched

    def close(self) -> None:
        self.watched.forget()
        self.near.close()
        self.far.close()


@pytest.fixture(params=["locks", "bells"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Line]]:
    most = {"locks": 1_024.0, "bells": 1_000_000.0}[request.param]
    monkeypatch.setattr(wakeups, "_most_files", lambda: most)
    made = [Line() for _ in range(8)]
    yield made
    leave()
    for line in made:
        line.close()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "cosy-poller"])
    assert poller._poller is None or not poller._poller.runs
    assert poller._poller is None or not poller._poller.waiting  # nobody is left behind


def test_a_thread_is_woken_by_what_comes_and_reads_it(lines: list[Line]) -> None:
    threading.Timer(0.05, lambda: lines[0].far.send(b"x")).start()
    assert lines[0].watched.wait(60)
    assert lines[0].near.recv(10) == b"x"


def test_what_came_before_the_wait_ends_it_at_once(lines: list[Line]) -> None:
    lines[0].far.send(b"x")
    eventually(lambda: lines[0].near.fileno() in lines[0].watched.poller.arrived)
    assert lines[0].watched.wait(60)


def test_what_was_read_before_is_forgotten_when_the_next_exchange_begins(
    lines: list[Line],
) -> None:
    lines[0].far.send(b"x")
    eventually(lambda: lines[0].near.fileno() in lines[0].watched.poller.arrived)
    lines[0].near.recv(10)
    lines[0].watched.begin()
    assert not lines[0].watched.wait(0.05)


def test_a_wait_ends_with_its_time_and_the_next_one_works(lines: list[Line]) -> None:
    assert not lines[0].watched.wait(0.01)
    lines[0].far.send(b"x")
    assert lines[0].watched.wait(60)


def test_who_is_not_watched_any_more_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "_most_files", lambda: 1_000_000.0)
    line = Line()
    with_bell = len(os.listdir("/proc/self/fd"))
    line.watched.forget()
    assert len(os.listdir("/proc/self/fd")) == with_bell - 1
    line.close()


def test_a_connection_that_ends_wakes_its_reader(lines: list[Line]) -> None:
    lines[0].far.shutdown(socket.SHUT_RDWR)
    assert lines[0].watched.wait(60) and lines[0].near.recv(10) == b""


def test_of_those_whose_replies_came_one_runs_at_a_time(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_HELD_UP", 20.0)  # a machine that stands still holds nobody up
    running, most, order = [0], [0], []
    together = threading.Barrier(len(lines) + 1)

    def read(number: int) -> None:
        together.wait()
        assert lines[number].watched.wait(60)
        running[0] += 1
        most[0] = max(most[0], running[0])
        order.append(number)
        time.sleep(0.001)
        running[0] -= 1
        leave()

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(lines))]
    for thread in threads:
        thread.start()
    together.wait()
    held = lines[0].watched.poller
    eventually(lambda: len(held.waiting) == len(lines))
    for line in lines:
        line.far.send(b"x")
    for thread in threads:
        thread.join(20)
    assert sorted(order) == list(range(len(lines)))
    assert most[0] == 1


def test_who_enters_waits_for_who_is_in(lines: list[Line]) -> None:
    entered = threading.Event()

    def come() -> None:
        enter()
        entered.set()
        leave()

    lines[0].far.send(b"x")
    assert lines[0].watched.wait(60)  # may come without the slot: then enter
    enter()
    other = threading.Thread(target=come)
    other.start()
    leave()
    assert entered.wait(60)
    other.join(20)


@pytest.mark.usefixtures("patient")
def test_who_was_let_in_at_once_is_no_more_among_those_who_wait(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lines[0].watched.poller
    ring, rung = held._ring, threading.Event()

    def let_in() -> None:  # before the thread that enters has begun to wait
        ring()
        rung.set()
        eventually(lambda: not held.waiting)

    def come() -> None:
        enter()
        leave()

    while not rung.is_set():  # once more where the poller looked around just then
        eventually(lambda: held._parked)
        enter()
        with monkeypatch.context() as patch:
            patch.setattr(held, "_ring", let_in)
            other = threading.Thread(target=come)
            other.start()
            rung.wait(1)
            leave()
            other.join(20)
        assert not other.is_alive() and not held.waiting


def test_who_is_held_up_holds_nobody_up(lines: list[Line]) -> None:
    enter()
    lines[0].far.send(b"x")
    done = threading.Event()
    waiting = threading.Thread(target=lambda: lines[0].watched.wait(20) and done.set())
    waiting.start()
    assert done.wait(60)  # though the slot was never given back
    waiting.join(20)
    leave()


def test_who_leaves_after_nothing_was_watched_any_more_gives_no_slot_to_those_of_later() -> None:
    first = Line()
    held = first.watched.poller
    first.close()
    eventually(lambda: not held.runs and not held._parked)
    poller._here.slot = held.slot  # as one who was let in at the end
    leave()
    second = Line()
    eventually(lambda: held._parked)
    assert held._mine.locked()  # else two would run at a time, until this one is used up
    second.close()


def test_entering_twice_and_leaving_twice_are_harmless(lines: list[Line]) -> None:
    for _ in range(3):
        enter()
        enter()
        leave()
        leave()
    lines[0].far.send(b"x")
    assert lines[0].watched.wait(60)


def _ready(line: Line) -> threading.Thread:
    """Have a thread wait for a line whose reply is there, while this thread has the slot."""
    held = line.watched.poller

    def read() -> None:
        assert line.watched.wait(60)
        leave()

    thread = threading.Thread(target=read)
    thread.start()
    eventually(lambda: line.near.fileno() in held.waiting)
    line.far.send(b"x")
    # Else the poller is not parked, and whoever hands the slot on sees it.
    eventually(lambda: line.near.fileno() in held._ready or not held._parked)
    return thread


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold nobody for held up, and leave lying what was put down, on however slow a machine."""
    monkeypatch.setattr(poller, "_HELD_UP", 20.0)
    monkeypatch.setattr(poller, "_PUT_DOWN", 20.0)
    monkeypatch.setattr(poller, "_here", threading.local())


@pytest.mark.usefixtures("patient")
def test_who_came_right_back_the_last_time_pauses_without_a_wake_up(lines: list[Line]) -> None:
    held = lines[0].watched.poller
    enter()
    pause()
    enter()  # before anybody else ran
    other = _ready(lines[0])
    before = held.turns
    pause()
    assert held.turns == before and other.is_alive()
    enter()
    assert held.turns == before and held.slot == poller._here.slot
    leave()
    other.join(20)
    assert held.turns > before


@pytest.mark.usefixtures("patient")
def test_who_stayed_away_the_last_time_hands_on_when_it_pauses(lines: list[Line]) -> None:
    held = lines[0].watched.poller
    for line in lines[:2]:
        enter()
        other = _ready(line)
        before = held.turns
        pause()
        assert held.turns > before
        other.join(20)
        assert not other.is_alive()


def test_who_pauses_and_stays_away_holds_nobody_up(lines: list[Line]) -> None:
    enter()
    pause()
    enter()
    other = _ready(lines[0])
    poller._here.returns = True  # though a busy machine may have let others run between
    pause()
    other.join(20)
    assert not other.is_alive()


def test_who_pauses_and_stays_away_wakes_a_poller_that_is_parked(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last texts of 200 threads took a second each: whoever had read their events was gone.
    monkeypatch.setattr(poller, "_LOOK", 20.0)
    held, fd = poller._poller, lines[0].near.fileno()
    assert held is not None
    before = held.turns
    held._ring()  # its looks are long from now on
    eventually(lambda: held.turns > before and held._parked and bool(held._free))
    enter()
    other = threading.Thread(target=lambda: lines[0].watched.wait(20) and leave())
    other.start()
    eventually(lambda: fd in held.waiting and held._parked)
    held._ready.append(fd)  # as a look by who had the slot before
    poller._here.returns = True
    pause()
    other.join(10)
    assert not other.is_alive()


@pytest.mark.usefixtures("patient")
def test_a_slot_that_lies_free_is_taken_without_waking_the_poller(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lines[0].watched.poller
    eventually(lambda: held._parked and bool(held._free))
    with monkeypatch.context() as patch:
        patch.setattr(held, "_ring", lambda: pytest.fail("the poller was woken"))
        enter()
        leave()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", ["first", "hurried"])
def test_who_comes_first_or_is_hurried_runs_before_those_who_are_ready(
    lines: list[Line], how: str
) -> None:
    held, turn, order = lines[0].watched.poller, Turn(), []

    def come(name: str) -> None:
        turn.take(first=how == "first") if name == "turn" else enter()
        order.append(name)
        leave()

    enter()
    threads = []
    for count, name in enumerate(("other", "another", "turn"), 1):
        threads.append(threading.Thread(target=come, args=(name,)))
        threads[-1].start()
        eventually(lambda most=count: len(held.waiting) == most)
    eventually(lambda: len(held._ready) == 3)
    if how == "hurried":
        turn.hurry()
    leave()
    for thread in threads:
        thread.join(20)
    assert order == ["turn", "other", "another"]


@pytest.mark.usefixtures("patient")
def test_who_had_entered_enters_again_after_a_wait_and_nobody_else(lines: list[Line]) -> None:
    held = lines[0].watched.poller
    resume()  # a thread of the user's own, say
    assert getattr(poller._here, "slot", 0) != held.slot
    enter()
    leave()
    resume()
    assert poller._here.slot == held.slot
    pause()
    resume()
    assert poller._here.slot != held.slot


def test_a_permit_that_was_waited_for_lets_its_thread_run_in_turn(lines: list[Line]) -> None:
    held, permits, slots = lines[0].watched.poller, Permits(1), []
    assert permits.acquire()

    def come() -> None:
        enter()
        assert permits.acquire(seconds=20)
        slots.append(poller._here.slot == held.slot)
        pause()

    other = threading.Thread(target=come)
    other.start()
    eventually(lambda: permits.wanted == 2)
    permits.release()
    other.join(20)
    assert slots == [True]


def test_hurrying_a_turn_that_nobody_waits_for_is_harmless(lines: list[Line]) -> None:
    turn = Turn()
    turn.hurry()
    turn.take(first=False)
    turn.hurry()
    leave()
    lines[0].far.send(b"x")
    assert lines[0].watched.wait(60)


def test_without_anything_watched_nobody_waits() -> None:
    assert poller._poller is None or not poller._poller.runs
    enter()
    leave()


def test_an_interrupted_wait_passes_the_slot_on(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def acquire(self, timeout: float = -1) -> bool:
            eventually(lambda: fd not in lines[0].watched.poller.waiting)  # it was being woken
            raise KeyboardInterrupt

        def release(self) -> None: ...

    fd = lines[0].near.fileno()
    monkeypatch.setattr(lines[0].watched, "wakeup", Interrupted())
    lines[0].far.send(b"x")
    with contextlib.suppress(KeyboardInterrupt):
        while lines[0].watched.wait(20):  # once at least it waits
            lines[0].near.recv(10)
            lines[0].far.send(b"x")
    lines[1].far.send(b"x")
    assert lines[1].watched.wait(60)


def test_a_forked_child_has_a_poller_of_its_own(lines: list[Line]) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            mine = Line()
            mine.far.send(b"x")
            code = 0 if mine.watched.wait(20) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lines[0].far.send(b"x")
    assert lines[0].watched.wait(60)


def test_without_epoll_each_waits_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    near, far = socket.socketpair()
    with near, far:
        assert watch(near.fileno()) is None


def test_where_threads_run_side_by_side_each_waits_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    near, far = socket.socketpair()
    with near, far:
        assert watch(near.fileno()) is None


def test_without_a_thread_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    near, far = socket.socketpair()
    with near, far:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert watch(near.fileno()) is None
        watched = watch(near.fileno())
        assert watched is not None
        far.send(b"x")
        assert watched.wait(60)
        leave()
        watched.forget()


def test_where_its_thread_cannot_start_those_who_came_meanwhile_wait_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = socket.socketpair()
    woken: list[bool] = []
    late = threading.Event()

    def refuse(self: threading.Thread) -> None:
        waiting = poller._poller
        assert waiting is not None
        other = Watched(waiting, far.fileno())  # came while the thread was about to start
        run = threading.Thread(target=lambda: (woken.append(other.wait(20)), late.set()))
        start(run)
        eventually(lambda: waiting.waiting)
        raise RuntimeError("can't start new thread")

    start = threading.Thread.start
    with near, far, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert watch(near.fileno()) is None
        assert late.wait(60) and woken == [True]
        assert poller._poller is not None and not poller._poller.runs


def test_many_threads_ping_pong_without_losing_a_wake_up(lines: list[Line]) -> None:
    def serve() -> None:
        ends = {line.far.fileno(): line.far for line in lines}
        poll = select.poll()
        for fd in ends:
            poll.register(fd, select.POLLIN)
        answered = 0
        while answered < 8 * 300:
            for fd, _ in poll.poll(1000):
                count = len(ends[fd].recv(100))
                answered += count
                ends[fd].send(b"y" * count)

    def ask(line: Line) -> None:
        for _ in range(300):
            enter()
            line.watched.begin()
            line.near.send(b"x")
            while True:
                assert line.watched.wait(60)
                with contextlib.suppress(BlockingIOError):
                    line.near.recv(10)
                    break
            leave()

    threads = [threading.Thread(target=ask, args=(line,)) for line in lines]
    threads.append(threading.Thread(target=serve))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
