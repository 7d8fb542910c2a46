"""A lease in a bucket: one machine has it, and another when that is dead."""

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cosy_sync.jobs import JobIsBusy, lease
from cosy_sync.jobs.lease import Lease
from cosy_sync.storage import ObjectStore, objects


class Clock:
    """The store's clock runs so far ahead, and this machine's stands where it is put."""

    ahead = 0.0
    here = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    now = Lease._now
    monkeypatch.setattr(Lease, "_now", lambda self: now(self) + made.ahead)
    monkeypatch.setattr("cosy_sync.jobs.lease.time.monotonic", lambda: made.here)
    return made


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    monkeypatch.setattr(objects, "_first_user", 0)
    # Its own thread renews too late for these tests: they do it themselves.
    monkeypatch.setattr(lease, "_LENGTH", 60.0)
    before = threading.active_count()
    yield ObjectStore("memory:///")
    for each in threading.enumerate():
        if each.name == "cosy-lease":
            each._target.__self__._ended.set()  # type: ignore[attr-defined]
            each.join()
    assert threading.active_count() <= before


def taken(store: ObjectStore, owner: str) -> Lease:
    made = Lease(store, "-1-of-2", owner)
    made.take()
    return made


def test_one_has_it_until_it_is_given_back(store: ObjectStore) -> None:
    first = taken(store, "a")
    assert first.is_new_here and not first.lost and not first.is_done
    with pytest.raises(JobIsBusy, match=r"its lease ends in \d\d s"):
        taken(store, "b")
    taken_other = Lease(store, "-2-of-2", "b")
    taken_other.take()
    first.give_back(done=True)
    second = taken(store, "b")
    assert second.is_new_here and not second.is_done
    second.give_back(done=False)
    assert not second.is_done
    again = taken(store, "b")
    assert not again.is_new_here
    again.give_back(done=True)
    assert Lease(store, "-1-of-2", "c").is_done


def test_a_process_goes_on_at_once_after_kill_9(store: ObjectStore) -> None:
    taken(store, "a")
    assert not taken(store, "a").is_new_here


def test_it_is_taken_over_when_the_stores_clock_says_so(store: ObjectStore, clock: Clock) -> None:
    first = taken(store, "a")
    clock.ahead = 58.0
    with pytest.raises(JobIsBusy):
        taken(store, "b")
    clock.ahead = 62.0
    second = taken(store, "b")
    assert second.is_new_here
    # The first one was only asleep.
    assert not first._write("held")
    first._taken_over = True
    assert first.lost == "another machine has taken this part over"
    first.give_back(done=True)
    assert not second.is_done


def test_a_machine_whose_own_clock_is_wrong_changes_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 12.0)
    taken(store, "a")
    monkeypatch.setattr("time.time", lambda: 9e9)
    with pytest.raises(JobIsBusy):
        taken(store, "b")


def test_it_is_lost_when_the_store_was_away_for_its_length(
    store: ObjectStore, clock: Clock
) -> None:
    held = taken(store, "a")
    clock.here += 59
    assert not held.lost
    clock.here += 2
    assert held.lost == "the bucket was not reached for 61 s"
    assert held._write("held") and not held.lost


def test_a_write_whose_reply_was_lost_is_its_own(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = taken(store, "a")
    swap = store.swap

    def forgetful(key: str, data: bytes, tag: str | None) -> None:
        swap(key, data, tag)
        monkeypatch.setattr(store, "swap", swap)

    monkeypatch.setattr(store, "swap", forgetful)
    assert held._write("held") and held._write("held")


def test_a_lease_that_somebody_has_deleted_is_made_again(store: ObjectStore) -> None:
    import obstore

    held = taken(store, "a")
    obstore.delete(store._made, held._key)
    assert held._write("held")
    with pytest.raises(JobIsBusy):
        taken(store, "b")


def test_of_many_that_come_together_one_takes_it(store: ObjectStore) -> None:
    barrier, winners = threading.Barrier(8), []

    def come(owner: str) -> None:
        barrier.wait()
        with suppress(JobIsBusy):
            taken(store, owner)
            winners.append(owner)

    threads = [threading.Thread(target=come, args=(str(number),)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(winners) == 1
