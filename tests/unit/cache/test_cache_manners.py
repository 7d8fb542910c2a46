"""The cache's manners: locks, serial clients, users' checks, dropped clients, odd outcomes."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import locks
import pytest

from cosy_sync import (
    Audio,
    CacheConfig,
    ClientConfig,
    ConfigError,
    CosyClient,
    DiskCache,
    Entry,
    MemoryCache,
    VerifyConfig,
)
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"


@pytest.fixture
def make() -> Iterator[Callable[..., CosyClient]]:
    clients: list[CosyClient] = []

    def build(cache: Any, **settings: Any) -> CosyClient:
        http_client = httpx.Client(transport=FakeService())
        clients.append(CosyClient(URL, http_client=http_client, cache=cache, **settings))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


class Asking(MemoryCache):
    """A store that asks whether a lock is held whenever it is called."""

    def get_many(self, digests: Any) -> Any:
        locks.check("reading the cache")
        return super().get_many(digests)

    def put_many(self, entries: Any) -> None:
        locks.check("writing the cache")
        super().put_many(entries)

    def lease(self, digests: Any, seconds: float) -> Any:
        locks.check("taking a lease")
        return digests

    def release(self, digests: Any) -> None:
        locks.check("giving a lease back")


@pytest.mark.parametrize("kind", ["asking", "disk"])
def test_no_lock_is_held_while_the_cache_is_asked(
    monkeypatch: pytest.MonkeyPatch, make: Any, tmp_path: Path, kind: str
) -> None:
    with locks.watched(monkeypatch) as found:
        client = make(Asking() if kind == "asking" else DiskCache(tmp_path))
        for _ in range(2):
            threads = [threading.Thread(target=client.synth, args=("你好",)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            client.submit("再见").result(10)
            client.synth_many([f"第{n}句" for n in range(100)])
            list(client.synth_iter(f"第{n}句" for n in range(150)))
        client.close()
    assert found == []


def test_a_serial_client_has_a_cache_as_well(make: Any, tmp_path: Path) -> None:
    client = make(tmp_path, serial=True)
    assert not client.synth("你好").from_cache and client.synth("你好").from_cache
    assert [a.from_cache for a in client.synth_many(["你好", "再见"])] == [True, False]
    assert [o.audio.from_cache for o in client.synth_iter(["再见", "第三"])] == [True, False]
    assert client.submit("第三").result().from_cache
    assert not client.submit("第四").result().from_cache


def test_the_users_check_may_ask_the_same_client(make: Any) -> None:
    inner: list[bool] = []

    def check(text: str, audio: Audio) -> bool:
        if text.startswith("外"):
            inner.append(client.synth("里面").from_cache)
            inner.extend(each.from_cache for each in client.synth_many(["里面", "第二"]))
            inner.extend(each.audio.from_cache for each in client.synth_iter(["里面", "第三"]))
        return True

    client = make("memory", verify=VerifyConfig(check=check))
    client.synth("外面")
    assert inner == [False, True, False, True, False]


def test_a_callback_may_ask_the_same_client(make: Any) -> None:
    client, told = make("memory"), list[bool]()
    client.synth("你好")
    done = threading.Event()

    def call_back(_: Any) -> None:
        told.append(client.synth("你好").from_cache)
        done.set()

    client.submit("再见", callback=call_back).result(10)
    assert done.wait(60) and told == [True]


def test_a_client_that_is_dropped_is_gone(tmp_path: Path) -> None:
    client = CosyClient(URL, http_client=httpx.Client(transport=FakeService()), cache=tmp_path)
    client.synth("你好")
    client.submit("再见").result(10)
    list(client.synth_iter(["你好", "第三"]))
    known = weakref.ref(client)
    del client
    gc.collect()
    assert known() is None


def test_a_future_of_a_known_text_outlives_the_clients_name(tmp_path: Path) -> None:
    client = CosyClient(URL, http_client=httpx.Client(transport=FakeService()), cache=tmp_path)
    client.synth("你好")
    future = client.submit("你好")
    del client
    assert future.result(10).from_cache


def test_what_cannot_be_written_down_is_spoken_all_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> bytes:
        raise TypeError("not to be written")

    client = make("memory")
    monkeypatch.setattr("cosy_sync.cache.speech_cache.encode", refuse)
    assert client.synth("你好") and client.synth_many(["你好", "再见"])
    assert "failed to write down a text (TypeError: not to be written)" in caplog.text


def test_a_password_in_a_place_is_never_shown() -> None:
    place = "redis://:geheim@127.0.0.1:1/0"
    assert "geheim" not in repr(ClientConfig(cache=place)) + repr(CacheConfig(store=place))
    with CosyClient(URL, cache=place) as client:
        assert "geheim" not in repr(client) + repr(client.cache)


def test_an_endless_source_of_known_texts_is_handed_out_as_it_comes(make: Any) -> None:
    client = make("memory")
    client.synth("你好")
    outcomes = client.synth_iter(itertools.repeat("你好"))
    assert all(outcome.audio.from_cache for outcome in itertools.islice(outcomes, 1_000))


def test_a_full_disk_does_not_keep_what_is_there_from_being_read(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(tmp_path)
    client.synth("你好")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DiskCache, "put_many", full)
    assert not client.synth("再见").from_cache
    assert client.synth("你好").from_cache and not client.synth("再见").from_cache


def test_entries_are_what_a_store_of_ones_own_gets(make: Any) -> None:
    got: list[Entry] = []

    class Store(MemoryCache):
        def put_many(self, entries: Any) -> None:
            got.extend(entries)

    client = make(CacheConfig(store=Store(), ttl=100, stale_if_error=1000))
    client.synth("你好")
    (entry,) = got
    assert entry.digest == client.digest("你好") and isinstance(entry.data, bytes)
    assert 1090 <= entry.seconds <= 1110


def test_the_cache_of_a_client_is_not_set_as_an_attribute(make: Any) -> None:
    client = make("memory")
    with pytest.raises(ConfigError, match=r"cache: .*client\.with_options\(cache=\.\.\.\)"):
        client.cache = None
