"""What every store does, and what each does by itself."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import CacheStore, ConfigError, DiskCache, Entry, MemoryCache, RedisCache
from cosy_sync.cache import open_store
from cosy_sync.cache.ports import LeasingStore, MeasuredStore

A, B, C = "aa" * 20, "bb" * 20, "cc" * 20


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture(params=["memory", "disk", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Time) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryCache(clock=clock)
        return
    if request.param == "disk":
        disk = DiskCache(tmp_path, now=clock)
        yield disk
        disk.close()
        return
    redis = RedisCache(request.getfixturevalue("redis_server").url)
    yield redis
    redis.close()


def test_a_store_keeps_and_forgets(store: Any) -> None:
    assert store.get_many([A, B]) == {}
    store.put_many([Entry(A, b"1", 60), Entry(B, b"22", 60), Entry(C, b"333", 60)])
    assert store.get_many([A, C]) == {A: b"1", C: b"333"}
    assert isinstance(store, MeasuredStore) and store.usage() == (3, 6)
    store.put_many([Entry(A, b"4444", 60)])
    assert store.get_many([A]) == {A: b"4444"} and store.usage() == (3, 9)
    store.delete([A, "dd" * 20])
    assert store.get_many([A, B]) == {B: b"22"}
    store.delete(None)
    assert store.get_many([A, B, C]) == {} and store.usage() == (0, 0)
    store.put_many([Entry(A, b"1", 60)])
    assert store.get_many([A]) == {A: b"1"}


def test_nothing_is_asked_for_where_there_is_nothing_to_ask(store: Any) -> None:
    assert store.get_many([]) == {}
    store.put_many([])
    store.delete([])


def test_its_repr_shows_no_password() -> None:
    assert "geheim" not in repr(RedisCache("redis://:geheim@127.0.0.1:1/0"))


def test_memory_drops_what_was_used_least_lately() -> None:
    store = MemoryCache(6)
    store.put_many([Entry(A, b"11", 60), Entry(B, b"22", 60), Entry(C, b"33", 60)])
    store.get_many([A])
    store.put_many([Entry("dd" * 20, b"44", 60)])
    assert set(store.get_many([A, B, C])) == {A, C}
    store.put_many([Entry(B, b"7777777", 60)])
    assert store.get_many([B]) == {} and store.usage() == (3, 6)


def test_memory_forgets_in_time(clock: Time) -> None:
    store = MemoryCache(clock=clock)
    store.put_many([Entry(A, b"11", 60)])
    clock.now += 61
    assert store.get_many([A]) == {} and store.usage() == (0, 0)


# -- leases ---------------------------------------------------------------------------------------


@pytest.fixture(params=["disk", "redis"])
def two(request: pytest.FixtureRequest, tmp_path: Path, clock: Time) -> Iterator[Any]:
    """Return two processes' views of a store, and what lets time pass."""
    if request.param == "disk":
        yield DiskCache(tmp_path, now=clock), DiskCache(tmp_path, now=clock), clock
        return
    server = request.getfixturevalue("redis_server")
    one, other = RedisCache(server.url), RedisCache(server.url)
    yield one, other, None
    one.close()
    other.close()


def test_a_lease_is_one_processs_until_it_gives_it_back(two: Any) -> None:
    one, other, _ = two
    assert isinstance(one, LeasingStore)
    assert set(one.lease([A, B], 60)) == {A, B}
    assert set(other.lease([A, C], 60)) == {C}
    other.release([A, C])  # the first of these is not its own
    assert set(other.lease([A, B], 60)) == set()
    one.release([A])
    assert set(other.lease([A, B], 60)) == {A}


def test_a_lease_ends_where_its_process_died(tmp_path: Path, clock: Time) -> None:
    one, other = DiskCache(tmp_path, now=clock), DiskCache(tmp_path, now=clock)
    assert set(one.lease([A], 5)) == {A}
    clock.now += 4
    assert set(other.lease([A], 5)) == set()
    clock.now += 2
    assert set(other.lease([A], 5)) == {A}
    one.release([A])  # too late: it is the other's
    assert set(one.lease([A], 5)) == set()
    assert not list((tmp_path / "v1" / "writing").iterdir())


def test_a_lease_in_redis_ends_by_itself(redis_server: Any) -> None:
    one, other = RedisCache(redis_server.url), RedisCache(redis_server.url)
    assert set(one.lease([A], 0.02)) == {A}
    until = 1000
    while not other.lease([A], 60) and until:
        until -= 1
    assert until
    one.release([A])
    assert set(one.lease([A], 5)) == set()
    one.close()
    other.close()


# -- the folder -----------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_folder(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = DiskCache(tmp_path / "deep" / "cache")
        store.put_many([Entry(A, b"1", 60)])
        store.lease([B], 60)
        store.close()
    finally:
        os.umask(old)
    for path in [tmp_path / "deep" / "cache", *(tmp_path / "deep" / "cache").rglob("*")]:
        if path.name.startswith("index.sqlite") or path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_made_before_something_is_kept(tmp_path: Path) -> None:
    store = DiskCache(tmp_path / "cache")
    assert store.get_many([A]) == {} and store.usage() == (0, 0)
    store.delete(None)
    store.flush()
    store.close()
    assert not (tmp_path / "cache").exists()


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DiskCache("~/x").path == tmp_path / "x"


def test_the_folder_keeps_to_its_bytes_and_drops_what_was_used_least(
    tmp_path: Path, clock: Time
) -> None:
    store = DiskCache(tmp_path, 1000, now=clock)
    digests = [f"{n:040x}" for n in range(20)]
    for digest in digests[:10]:
        clock.now += 1
        store.put_many([Entry(digest, bytes(100), 1e6)])
    clock.now += 1
    assert len(store.get_many(digests[:3])) == 3
    clock.now += 1
    store.put_many([Entry(digests[10], bytes(100), 1e6)])
    left = set(store.get_many(digests))
    assert {*digests[:3], digests[10]} <= left and digests[3] not in left
    assert store.usage()[1] <= 1000
    store.close()


def test_what_has_ended_goes_from_the_folder(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, now=clock)
    store.put_many([Entry(A, b"1", 60), Entry(B, b"2", 600)])
    clock.now += 61
    store.put_many([Entry(C, b"3", 60)])
    assert set(store.get_many([A, B, C])) == {B, C}
    store.close()


def test_sizes_are_counted_also_when_entries_are_replaced(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, 1000, now=clock)
    for _ in range(50):
        store.put_many([Entry(A, bytes(400), 60), Entry(B, bytes(400), 60)])
    assert set(store.get_many([A, B])) == {A, B}
    store.close()


def test_a_broken_index_is_made_anew_from_the_files(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, 1000, now=clock)
    store.put_many([Entry(A, bytes(300), 60), Entry(B, bytes(300), 60)])
    store.close()
    for path in (tmp_path / "v1").glob("index.sqlite*"):
        path.write_bytes(b"no database at all, for long enough" * 100)
    store.put_many([Entry(C, bytes(300), 60)])
    assert set(store.get_many([A, B, C])) == {A, B, C}
    store.put_many([Entry("dd" * 20, bytes(300), 60)])
    store.put_many([Entry("ee" * 20, bytes(300), 60)])
    assert store.usage()[1] <= 1000
    store.close()


def test_a_locked_index_delays_only_the_counting(
    tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosy_sync.cache.disk_index._BUSY", 0.01)
    store = DiskCache(tmp_path, now=clock)
    store.put_many([Entry(A, b"1", 60)])
    other = sqlite3.connect(tmp_path / "v1" / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put_many([Entry(B, b"2", 60)])
    assert store.get_many([A, B]) == {A: b"1", B: b"2"}
    other.execute("ROLLBACK")
    store.flush()
    assert other.execute("SELECT count(*) FROM entries").fetchone() == (2,)
    other.close()
    store.close()


def test_what_a_killed_process_left_is_removed_after_a_while(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, now=clock)
    store.put_many([Entry(A, b"1", 1e6)])
    orphan = tmp_path / "v1" / "bb" / B
    orphan.parent.mkdir()
    orphan.write_bytes(b"22")
    half = tmp_path / "v1" / "writing" / "half"
    half.write_bytes(b"2")
    os.utime(half, (clock.now, clock.now))
    clock.now += 86_401
    store.put_many([Entry(C, b"3", 1e6)])
    assert not half.exists()
    with sqlite3.connect(tmp_path / "v1" / "index.sqlite") as db:
        assert db.execute("SELECT sum(size), count(*) FROM entries").fetchone() == (4, 3)
    db.close()
    store.close()


def test_reading_does_not_write(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, now=clock)
    store.put_many([Entry(A, b"1", 60)])
    store.close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "v1").rglob("*")}
    for _ in range(100):
        store.get_many([A, B])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "v1").rglob("*")} == before
    store.close()


def test_what_was_read_is_noted_in_groups(tmp_path: Path, clock: Time) -> None:
    store = DiskCache(tmp_path, now=clock)
    digests = [f"{n:040x}" for n in range(600)]
    store.put_many([Entry(digest, b"1", 1e6) for digest in digests])
    clock.now += 50
    store.get_many(digests[:100])
    assert len(store._touched) == 100
    store.get_many(digests)
    until = time.monotonic() + 20
    # The thread that writes them takes them first.
    while (store._touched or not store._turn) and time.monotonic() < until:
        time.sleep(0.01)
    store.close()
    with sqlite3.connect(tmp_path / "v1" / "index.sqlite") as db:
        assert db.execute("SELECT DISTINCT used FROM entries").fetchall() == [(clock.now,)]
    db.close()


def test_a_forked_child_opens_the_index_for_itself(tmp_path: Path) -> None:
    store = DiskCache(tmp_path)
    store.put_many([Entry(A, b"1", 60)])
    store._turn.clear()  # as if a thread of the parent wrote the index just now
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.put_many([Entry(B, b"2", 60)])
            assert store.get_many([A, B]) == {A: b"1", B: b"2"}
            store.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    store._turn.append(())
    store.put_many([Entry(C, b"3", 60)])
    with sqlite3.connect(tmp_path / "v1" / "index.sqlite") as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (3,)
    db.close()
    store.close()


# -- how they are named ---------------------------------------------------------------------------


def test_stores_by_name(tmp_path: Path) -> None:
    assert isinstance(open_store("memory"), MemoryCache)
    assert isinstance(open_store("redis://127.0.0.1:1/0"), RedisCache)
    assert isinstance(open_store(str(tmp_path)), DiskCache)
    assert isinstance(open_store(tmp_path), DiskCache)
    own = MemoryCache()
    assert open_store(own) is own
    typed: CacheStore = own
    assert typed.usage  # type: ignore[attr-defined]
    assert isinstance(open_store("C:/cache"), DiskCache)


@pytest.mark.parametrize(
    "place", ["redis:/:geheim@h", "redis//:geheim@h", "rediss::geheim@h", "s3://b/x", "http://h/x"]
)
def test_an_address_that_is_none_is_not_taken_for_a_folder(place: str) -> None:
    with pytest.raises(ConfigError, match=r"is no place for one; .* redis://host") as caught:
        open_store(place)
    assert "geheim" not in str(caught.value)
    assert isinstance(open_store(f"./{place}"), DiskCache)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryCache(0),
        lambda: MemoryCache(1.5),  # type: ignore[arg-type]
        lambda: DiskCache(""),
        lambda: DiskCache("x", -1),
        lambda: RedisCache("http://x"),
        lambda: RedisCache("redis://x", prefix=""),
        lambda: RedisCache("redis://x", prefix="a*"),
        lambda: RedisCache("redis://x", timeout=0),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"^(max_bytes|path|cache|prefix|timeout): "):
        make()
