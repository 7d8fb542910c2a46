"""Connections are reused last in, first out; never stale, never too many, never leaked."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from lanes import eventually

from cosy_sync.errors import ClosedError, ConnectError, ResourceError, ShedError
from cosy_sync.net.connection import Connection
from cosy_sync.net.pool import ConnectionPool
from cosy_sync.net.route import Route
from cosy_sync.threads import Schedule

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")
# A forked child's poller is its own, and knows nothing of these connections.
IN_A_CHILD = pytest.mark.parametrize("each_way_of_waiting", ["each thread waits"], indirect=True)

ONE, TWO, THREE = (Route(name, 80, False, None) for name in ("one", "two", "three"))
LATER = float("inf")


def keepers() -> list[threading.Thread]:
    ours = [thread for thread in threading.enumerate() if thread.name == "cosy-keeper"]
    return [thread for thread in ours if thread.ident is not None]


class Dialer:
    """Hands out one end of a socketpair and keeps the other."""

    def __init__(self) -> None:
        self.far: list[socket.socket] = []
        self.error: Exception | None = None
        self.before: Callable[[], object] = lambda: None

    def __call__(self, route: Route, until: float) -> socket.socket:
        self.before()
        if self.error is not None:
            raise self.error
        near, far = socket.socketpair()
        near.setblocking(False)
        self.far.append(far)
        return near


@pytest.fixture
def dialer() -> Iterator[Dialer]:
    dialer = Dialer()
    yield dialer
    for sock in dialer.far:
        sock.close()


Make = Callable[..., ConnectionPool]


@pytest.fixture
def make(dialer: Dialer) -> Iterator[Make]:
    made: list[ConnectionPool] = []

    def build(
        max_connections: int = 10, idle_expiry: float = 60.0, **age: object
    ) -> ConnectionPool:
        made.append(
            ConnectionPool(
                dialer,
                max_connections=max_connections,
                idle_expiry=idle_expiry,
                **age,  # type: ignore[arg-type]
            )
        )
        return made[-1]

    yield build
    for pool in made:
        pool.close()
        assert pool.count()[1] == 0


@pytest.fixture
def pool(make: Make) -> ConnectionPool:
    return make()


def opened(pool: ConnectionPool, *routes: Route) -> list[Connection]:
    return [pool.open(route, LATER) for route in routes]


def returned(pool: ConnectionPool, *routes: Route) -> list[Connection]:
    connections = opened(pool, *routes)
    for connection in connections:
        pool.give_back(connection)
    return connections


def is_open(connection: Connection) -> bool:
    return connection.sock.fileno() >= 0


def pretend_to_be_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosy_sync.forks._pid", os.getpid())  # put back, or the next is no fork
    monkeypatch.setattr("cosy_sync.net.pool.os.getpid", lambda: -1)


def end_thread_of(schedule: Schedule) -> None:
    """End the parent's scheduler, which a real fork would have taken away.

    In a child `close` leaves it alone, and it would wait there for an idle connection's end.
    """
    assert schedule.closed
    schedule._scheduler._inbox.put(None)


def test_an_empty_pool_has_nothing_to_take(pool: ConnectionPool) -> None:
    assert pool.take(ONE) is None
    assert pool.count() == (0, 0)


def test_what_came_back_last_is_taken_first(pool: ConnectionPool) -> None:
    first, second = returned(pool, ONE, ONE)
    assert pool.count() == (2, 2)
    assert pool.take(ONE) is second
    assert pool.take(ONE) is first
    assert pool.take(ONE) is None
    assert pool.count() == (2, 0)
    pool.drop(first)
    pool.drop(second)


def test_routes_do_not_share_connections(pool: ConnectionPool) -> None:
    returned(pool, ONE)
    assert pool.take(TWO) is None


@pytest.mark.parametrize("corrupt", [lambda far: far.send(b"x"), lambda far: far.close()])
def test_a_connection_that_is_not_quiet_is_not_taken(
    corrupt: Callable[[socket.socket], object], pool: ConnectionPool, dialer: Dialer
) -> None:
    good, bad = returned(pool, ONE, ONE)
    corrupt(dialer.far[1])
    assert pool.take(ONE) is good
    assert not is_open(bad)
    pool.drop(good)


def test_a_connection_that_idled_too_long_is_not_taken(make: Make) -> None:
    pool = make(idle_expiry=60.0)
    old, new = returned(pool, ONE, ONE)
    old.idle_since -= 61
    assert pool.take(ONE) is new
    assert pool.take(ONE) is None
    assert not is_open(old)
    pool.drop(new)


@pytest.mark.parametrize(("draw", "age"), [(0.0, 300.0), (0.5, 270.0)])
def test_a_connection_ages_from_its_opening_and_up_to_a_fifth_earlier(
    draw: float, age: float, make: Make
) -> None:
    pool = make(max_age=300.0, random=lambda: draw)
    before = time.monotonic()
    (connection,) = returned(pool, ONE)
    assert before + age <= connection.expires <= time.monotonic() + age


def test_a_connection_that_is_too_old_ends_between_two_requests(make: Make) -> None:
    pool = make(max_age=300.0)
    old, new = returned(pool, ONE, ONE)
    assert pool.take(ONE) is new
    old.expires = new.expires = time.monotonic()
    assert is_open(new)  # its request goes on
    pool.give_back(new)
    assert pool.take(ONE) is None
    assert not is_open(old) and not is_open(new)
    assert pool.count() == (0, 0)


def test_what_a_forgotten_route_had_is_closed(pool: ConnectionPool) -> None:
    (busy,) = opened(pool, ONE)
    idle, other = returned(pool, ONE, TWO)
    pool.forget(ONE)
    assert (is_open(idle), is_open(busy), is_open(other)) == (False, True, True)
    pool.give_back(busy)
    assert not is_open(busy)
    pool.forget(ONE)
    assert pool.count() == (1, 1)


def test_a_forgotten_route_may_be_used_again(pool: ConnectionPool) -> None:
    (first,) = returned(pool, ONE)
    assert pool.take(ONE) is first  # the pool remembers where it took the latest one
    pool.give_back(first)
    pool.forget(ONE)
    (again,) = returned(pool, ONE)
    assert pool.take(ONE) is again
    pool.drop(again)


def test_routes_without_a_connection_are_not_remembered_for_ever(make: Make) -> None:
    pool = make(max_connections=2)
    (busy,) = opened(pool, ONE)
    for number in range(1_000):
        returned(pool, Route(f"host{number}.example", 80, False, None))
        assert len(pool._stacks) <= 2 + 256
    pool.give_back(busy)
    assert pool.take(ONE) is busy
    pool.give_back(busy)


def test_expire_closes_what_is_old_and_leaves_the_rest(pool: ConnectionPool) -> None:
    old, new = returned(pool, ONE, ONE)
    old.idle_since -= 61
    pool.expire(time.monotonic())
    assert (is_open(old), is_open(new)) == (False, True)
    assert pool.count() == (1, 1)


def test_a_full_pool_closes_the_oldest_idle_connection_of_any_route(make: Make) -> None:
    pool = make(max_connections=3)
    first, second, third = returned(pool, ONE, TWO, ONE)
    first.idle_since, second.idle_since, third.idle_since = 2.0, 1.0, 3.0
    (fourth,) = opened(pool, THREE)
    assert not is_open(second) and is_open(first) and is_open(third)
    assert pool.count() == (3, 2)
    pool.drop(fourth)


def test_a_pool_whose_connections_are_all_busy_sheds(make: Make) -> None:
    pool = make(max_connections=1)
    (busy,) = opened(pool, ONE)
    with pytest.raises(ShedError, match="all 1 connections are busy"):
        pool.open(TWO, LATER)
    pool.drop(busy)
    pool.drop(*opened(pool, TWO))


def test_connections_that_are_being_opened_count(make: Make, dialer: Dialer) -> None:
    pool = make(max_connections=1)
    refusals: list[Exception] = []

    def meanwhile() -> None:
        dialer.before = lambda: None
        with pytest.raises(ShedError) as caught:
            pool.open(TWO, LATER)
        refusals.append(caught.value)

    dialer.before = meanwhile
    pool.drop(*opened(pool, ONE))
    assert len(refusals) == 1


def test_a_failed_dial_gives_its_place_back(make: Make, dialer: Dialer) -> None:
    pool = make(max_connections=1)
    dialer.error = ConnectError("refused")
    for _ in range(3):
        with pytest.raises(ConnectError):
            pool.open(ONE, LATER)
    dialer.error = None
    pool.drop(*opened(pool, ONE))


def test_a_closed_pool_opens_nothing(pool: ConnectionPool) -> None:
    pool.close()
    with pytest.raises(ClosedError):
        pool.open(ONE, LATER)


def test_what_comes_back_after_close_is_closed(pool: ConnectionPool) -> None:
    (busy,) = opened(pool, ONE)
    (idle,) = returned(pool, ONE)
    pool.close()
    assert not is_open(idle) and is_open(busy)
    pool.give_back(busy)
    assert not is_open(busy)
    assert pool.count() == (0, 0)


def test_a_connection_that_opens_while_the_pool_closes_is_closed(
    pool: ConnectionPool, dialer: Dialer
) -> None:
    dialer.before = pool.close
    with pytest.raises(ClosedError, match="while it connected"):
        pool.open(ONE, LATER)
    assert dialer.far[0].recv(1) == b""
    assert pool.count() == (0, 0)


def test_cut_ends_busy_streams_and_closes_the_pool(pool: ConnectionPool) -> None:
    (busy,) = opened(pool, ONE)
    pool.cut()
    assert busy.receive(1) == b""
    with pytest.raises(ClosedError):
        pool.open(ONE, LATER)
    pool.drop(busy)


@IN_A_CHILD
def test_abandon_works_though_the_lock_is_held(pool: ConnectionPool, dialer: Dialer) -> None:
    (busy,) = opened(pool, ONE)
    (idle,) = returned(pool, TWO)
    with pool._lock:
        pool.abandon()
    assert not is_open(busy) and not is_open(idle)
    assert pool.count() == (0, 0)
    with pytest.raises(ClosedError):
        pool.open(ONE, LATER)


def test_no_more_threads_is_no_reason_to_fail(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        (one,) = returned(pool, ONE)
    (other,) = returned(pool, TWO)
    assert is_open(one) and is_open(other)


def test_connections_may_idle_for_ever(make: Make) -> None:
    pool = make(idle_expiry=1e300)
    (idle,) = returned(pool, ONE)
    eventually(keepers)
    (keeper,) = keepers()
    keeper.join(0.05)
    assert keeper.is_alive() and is_open(idle)
    pool.close()
    keeper.join(10)
    assert not keeper.is_alive()


def test_the_keeper_does_not_keep_the_pool_alive(dialer: Dialer) -> None:
    pool = ConnectionPool(dialer, max_connections=2, idle_expiry=0.02)
    (connection,) = opened(pool, ONE)
    eventually(keepers)
    (keeper,) = keepers()
    del pool
    keeper.join(10)
    assert not keeper.is_alive()
    connection.close()


def test_a_connection_that_cannot_be_closed_keeps_no_other_from_expiring(
    make: Make, monkeypatch: pytest.MonkeyPatch, broken_log: None
) -> None:
    pool = make(idle_expiry=0.02)
    one, other = returned(pool, ONE, TWO)
    close = Connection.close

    def fail_once(connection: Connection) -> None:
        monkeypatch.setattr(Connection, "close", close)
        raise OSError("the descriptor is gone")

    monkeypatch.setattr(Connection, "close", fail_once)
    eventually(lambda: pool.count() == (0, 0) and not (is_open(one) and is_open(other)))
    one.close()
    other.close()


def test_many_threads_never_share_a_connection(make: Make) -> None:
    pool = make(max_connections=8, idle_expiry=0.001)
    busy: set[Connection] = set()
    shared: list[Connection] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for turn in range(300):
            connection = pool.take(ONE) or pool.open(ONE, LATER)
            if connection in busy:
                shared.append(connection)
            busy.add(connection)
            busy.discard(connection)
            if turn % 7:
                pool.give_back(connection)
            else:
                pool.drop(connection)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not shared
    assert pool.count()[0] == pool.count()[1] <= 8


@IN_A_CHILD
def test_in_another_process_the_parents_connections_are_forgotten_and_new_ones_opened(
    pool: ConnectionPool, dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, idle = opened(pool, ONE, ONE)
    pool.give_back(idle)
    parents = pool._schedule
    assert parents is not None
    eventually(lambda: parents._scheduler._heap)  # its thread waits for the connection's end
    pretend_to_be_a_child(monkeypatch)
    with pool._lock:  # a thread of the parent held it at the fork
        assert pool.take(ONE) is None
    end_thread_of(parents)
    assert (busy.sock.fileno(), idle.sock.fileno(), pool.count()) == (-1, -1, (0, 0))
    (mine,) = opened(pool, ONE)
    pool.give_back(mine)
    assert pool.take(ONE) is mine
    pool.drop(mine)
    pool.close()


def test_a_pool_that_was_closed_before_a_fork_is_closed_in_the_child(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.close()
    pretend_to_be_a_child(monkeypatch)
    assert pool.take(ONE) is None
    with pytest.raises(ClosedError):
        pool.open(ONE, LATER)


def test_idle_connections_of_any_route_are_given_up_for_descriptors(
    pool: ConnectionPool, dialer: Dialer
) -> None:
    idle = opened(pool, TWO, TWO, ONE)
    for each in idle:
        pool.give_back(each)

    def scarce() -> None:
        if sum(each.sock.fileno() >= 0 for each in idle) > 1:
            raise ResourceError("out of descriptors", resource="descriptors")

    dialer.before = scarce
    (made,) = opened(pool, THREE)
    assert [each.sock.fileno() >= 0 for each in idle] == [False, False, True]
    assert pool.count() == (2, 1)
    pool.drop(made)


def test_out_of_descriptors_a_quarter_of_them_is_left_to_the_program_for_a_while(
    pool: ConnectionPool, dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic()
    monkeypatch.setattr("cosy_sync.net.pool.time.monotonic", lambda: clock)
    busy = opened(pool, ONE, ONE, ONE, ONE)
    dialer.error = ResourceError("out of descriptors", resource="descriptors")
    with pytest.raises(ResourceError):
        pool.open(ONE, LATER)
    dialer.error = None
    pool.give_back(busy.pop())
    assert pool.count() == (3, 0)
    with pytest.raises(ResourceError, match="ulimit -n"):
        pool.open(TWO, LATER)
    clock += 1
    busy += opened(pool, TWO, TWO)
    assert pool.count() == (5, 0)
    for each in busy:
        pool.drop(each)


@pytest.mark.parametrize("what", ["ports", "descriptors"])
def test_where_giving_up_idle_ones_does_not_help_the_pool_says_so(
    pool: ConnectionPool, dialer: Dialer, what: str
) -> None:
    (busy,) = opened(pool, ONE)
    if what == "ports":  # those of closed connections are not free at once
        pool.give_back(busy)
    dialer.error = ResourceError("out of it", resource=what)
    with pytest.raises(ResourceError):
        pool.open(TWO, LATER)
    assert pool.count()[0] == 1
    pool.drop(busy)
