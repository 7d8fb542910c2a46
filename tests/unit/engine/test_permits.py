"""Permits: fair, bounded, never leaked."""

import threading

import pytest
from interrupts import interrupt_at
from lanes import eventually

from cosy_sync.engine.tenants import TenantLimit
from cosy_sync.errors import ClosedError
from cosy_sync.threads.permits import Permits


def in_thread(*calls) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def waiting(permits: Permits) -> int:
    return sum(len(q) for queues in (permits._urgent, permits._normal) for q in queues.values())


def test_no_more_than_the_limit_is_granted() -> None:
    permits = Permits(2)
    assert permits.acquire() and permits.acquire()
    assert not permits.acquire()
    permits.release()
    assert permits.acquire()
    assert permits.used == 2


def test_a_cost_above_the_limit_goes_alone() -> None:
    permits = Permits(10)
    assert permits.acquire(99)
    assert not permits.acquire(1)
    permits.release(99)
    assert permits.used == 0


def test_whoever_waits_too_long_is_told_and_leaves_no_trace() -> None:
    permits = Permits(1)
    permits.acquire()
    assert not permits.acquire(seconds=0.01)
    permits.release()
    assert permits.used == 0 and waiting(permits) == 0


def test_permits_go_to_the_urgent_first_and_then_to_each_tenant_in_turn() -> None:
    permits = Permits(1)
    permits.acquire()
    order: list[str] = []

    def join(name: str, **kind: object):
        def call() -> None:
            assert permits.acquire(seconds=10, **kind)  # type: ignore[arg-type]
            order.append(name)
            permits.release()

        return call

    threads = []
    for count, (name, kind) in enumerate(
        [
            ("a1", {"key": "a"}),
            ("a2", {"key": "a"}),
            ("b1", {"key": "b"}),
            ("now", {"key": "a", "urgent": True}),
        ],
        start=1,
    ):
        threads += in_thread(join(name, **kind))
        eventually(lambda count=count: waiting(permits) == count)
    permits.release()
    for thread in threads:
        thread.join(10)
    assert order == ["now", "a1", "b1", "a2"]
    assert permits.used == 0


def test_nobody_overtakes_one_who_waits() -> None:
    permits = Permits(2)
    permits.acquire(2)
    (thread,) = in_thread(lambda: permits.acquire(2, seconds=10))
    eventually(lambda: waiting(permits) == 1)
    permits.release(1)
    assert not permits.acquire(1)
    permits.release(1)
    thread.join(10)
    assert permits.used == 2


def test_one_who_gives_up_lets_those_behind_pass() -> None:
    permits = Permits(2)
    permits.acquire(1)
    got: list[bool] = []
    first, second = in_thread(
        lambda: got.append(permits.acquire(2, seconds=0.2)),
        lambda: (
            eventually(lambda: waiting(permits) == 1),
            got.append(permits.acquire(1, key="other", seconds=10)),
        ),
    )
    first.join(10)
    second.join(10)
    assert sorted(got) == [False, True]
    assert permits.used == 2


def test_a_lower_limit_grants_nothing_until_enough_came_back() -> None:
    permits = Permits(3)
    assert permits.acquire() and permits.acquire() and permits.acquire()
    permits.resize(1)
    assert permits.used == 3
    for used in (2, 1):
        permits.release()
        assert permits.used == used
        assert not permits.acquire()
    permits.release()
    assert permits.acquire()
    assert not permits.acquire()


def test_a_higher_limit_lets_in_those_who_wait_in_their_order() -> None:
    permits = Permits(3)
    permits.resize(1)
    permits.acquire()
    order: list[str] = []

    def join(name: str, urgent: bool):
        def call() -> None:
            assert permits.acquire(seconds=10, urgent=urgent)
            order.append(name)

        return call

    threads = []
    for count, (name, urgent) in enumerate([("bulk", False), ("urgent", True)], start=1):
        threads += in_thread(join(name, urgent))
        eventually(lambda count=count: waiting(permits) == count)
    permits.resize(2)
    eventually(lambda: order == ["urgent"])
    permits.resize(3)
    for thread in threads:
        thread.join(10)
    assert order == ["urgent", "bulk"]
    assert permits.used == 3


def test_a_lower_limit_gives_nothing_to_those_who_wait() -> None:
    permits = Permits(3)
    permits.acquire(3)
    (thread,) = in_thread(lambda: permits.acquire(seconds=10))
    eventually(lambda: waiting(permits) == 1)
    permits.resize(2)
    permits.release(1)
    assert permits.used == 2 and waiting(permits) == 1
    permits.release(1)
    thread.join(10)
    assert permits.used == 2 and waiting(permits) == 0


def test_a_cost_above_a_lowered_limit_goes_alone_and_all_of_it_comes_back() -> None:
    permits = Permits(10)
    permits.resize(4)
    permits.acquire(1)
    assert not permits.acquire(8)
    (thread,) = in_thread(lambda: permits.acquire(8, seconds=10))
    eventually(lambda: waiting(permits) == 1)
    permits.release(1)
    thread.join(10)
    assert permits.used == 8
    assert not permits.acquire(1)
    permits.resize(10)
    permits.release(8)
    assert permits.used == 0


def test_closing_wakes_all_who_wait() -> None:
    permits = Permits(1)
    permits.acquire()
    errors: list[BaseException] = []

    def call() -> None:
        try:
            permits.acquire(seconds=60)
        except ClosedError as error:
            errors.append(error)

    threads = in_thread(call, call)
    eventually(lambda: waiting(permits) == 2)
    permits.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 2
    with pytest.raises(ClosedError):
        permits.acquire()


def test_an_interrupt_while_waiting_gives_back_what_was_handed_over() -> None:
    permits = Permits(1)
    permits.acquire()

    class Interrupted(threading.Thread):
        def run(self) -> None:
            real = threading.Lock

            class TenantLimit:
                def __init__(self) -> None:
                    self.lock = real()

                def acquire(self, timeout: float = -1) -> bool:
                    if timeout == -1:
                        return self.lock.acquire()
                    permits.release()  # the hand-over comes, and then Ctrl-C
                    raise KeyboardInterrupt

                def release(self) -> None:
                    self.lock.release()

            import cosy_sync.threads.permits as budget

            class Threading:
                Lock = TenantLimit
                TIMEOUT_MAX = threading.TIMEOUT_MAX

            budget.threading = Threading  # type: ignore[attr-defined]
            try:
                permits.acquire(seconds=5)
            except KeyboardInterrupt:
                self.interrupted = True
            finally:
                budget.threading = threading  # type: ignore[attr-defined]

    thread = Interrupted()
    thread.start()
    thread.join(10)
    assert thread.interrupted
    assert permits.used == 0


def test_eight_hundred_threads_leave_no_permit_behind() -> None:
    permits, most, lock = Permits(50), [0], threading.Lock()
    start = threading.Barrier(200)

    def call() -> None:
        start.wait(30)
        for _ in range(20):
            if permits.acquire(seconds=0.05):
                with lock:
                    most[0] = max(most[0], permits.used)
                permits.release()

    threads = in_thread(*[call] * 200)
    for thread in threads:
        thread.join(60)
    assert permits.used == 0 and waiting(permits) == 0
    assert most[0] <= 50


def test_a_gate_calls_those_in_line_as_others_leave() -> None:
    gate, entered = TenantLimit(2), []
    for number in range(5):
        gate.enter_later(lambda number=number: entered.append(number))
    assert entered == [0, 1]
    gate.release()
    assert entered == [0, 1, 2]
    assert len(gate.close()) == 2


def test_urgent_ones_in_a_gates_line_go_first() -> None:
    gate, entered = TenantLimit(1), []
    for number, urgent in enumerate([False, False, True, False, True]):
        gate.enter_later(lambda number=number: entered.append(number), urgent=urgent)
    for _ in range(4):
        gate.release()
    assert entered == [0, 2, 4, 1, 3]


def test_closing_a_gate_returns_all_in_line_the_urgent_first() -> None:
    gate, entered = TenantLimit(1), []
    for number, urgent in enumerate([False, False, True]):
        gate.enter_later(lambda number=number: entered.append(number), urgent=urgent)
    for task in gate.close():
        task()
    assert entered == [0, 2, 1]
    gate.release()
    assert entered == [0, 2, 1]
    gate.enter_later(lambda: entered.append(3))  # nobody would call it any more
    assert entered == [0, 2, 1, 3]


def test_a_gate_never_lets_more_in_than_its_limit_nor_forgets_one() -> None:
    gate, lock, inside, most, done = TenantLimit(3), threading.Lock(), [0], [0], []
    three = threading.Barrier(3, timeout=20)

    def work() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        three.wait()
        with lock:
            inside[0] -= 1
            done.append(1)
        gate.release()

    def join() -> None:
        for _ in range(20):
            gate.enter_later(lambda: threading.Thread(target=work).start())

    for thread in in_thread(*[join] * 9):
        thread.join(30)
    eventually(lambda: len(done) == 180)
    assert most[0] == 3


class Giver:
    """Gives the only permit back as soon as somebody waits for it."""

    def __init__(self, permits: Permits) -> None:
        self.permits, self.gave = permits, False

    def attach(self, event: object) -> None:
        if not self.gave:
            self.gave = True
            for thread in in_thread(self.permits.release):
                thread.join()

    def detach(self, event: object) -> None:
        pass


@pytest.mark.parametrize("granted", [False, True])
def test_ctrl_c_at_any_line_of_a_wait_leaves_nothing_taken(granted: bool) -> None:
    number, more = 0, True
    while more:
        permits, taken = Permits(1), []
        giver = Giver(permits)
        permits.acquire()

        def wait(permits: Permits = permits, giver: Giver = giver, taken: list = taken) -> None:
            taken.append(permits.acquire(seconds=0.0005, stop=giver if granted else None))

        more = interrupt_at(number := number + 1, wait)
        assert waiting(permits) == 0, f"line {number}"
        if not giver.gave:
            permits.release()
        assert permits.used == sum(taken), f"line {number}"
    assert number > 20 and taken == [granted]
