"""A client with a cache: what it knows is not sent, and whatever fails there is a miss."""

from __future__ import annotations

import inspect
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from interrupts import interrupt_at

import cosy_sync
from cosy_sync import (
    BadRequestError,
    BreakerConfig,
    BreakerOpenError,
    CacheConfig,
    ClosedError,
    CosyClient,
    DeadlineError,
    DiskCache,
    Entry,
    LimitConfig,
    MemoryCache,
    RetryConfig,
    UnavailableError,
    VerifyConfig,
)
from cosy_sync.cache import speech_cache
from cosy_sync.cache.cached_call import CachedCall
from cosy_sync.engine import Engine
from cosy_sync.testing import FakeClock, FakeService, Server

URL = "http://tts.test/batch"
NO_RETRY = RetryConfig(max_retries=0)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def make(service: FakeService) -> Iterator[Callable[..., CosyClient]]:
    clients: list[CosyClient] = []

    def build(cache: Any = "memory", **settings: Any) -> CosyClient:
        http_client = httpx.Client(transport=service)
        clients.append(CosyClient(URL, http_client=http_client, cache=cache, **settings))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def sent(service: FakeService) -> list[str]:
    return list(itertools.chain(*service.calls))


def from_cache(outcomes: Sequence[Any]) -> list[bool]:
    return [each.audio.from_cache for each in outcomes]


every_call = pytest.mark.parametrize(
    "call",
    [
        lambda client: client.synth("你好"),
        lambda client: client.submit("你好").result(10),
        lambda client: client.synth_many(["你好"])[0],
        lambda client: next(iter(client.synth_iter(["你好"]))).audio,
    ],
    ids=["synth", "submit", "synth_many", "synth_iter"],
)


def is_known(client: CosyClient, text: str) -> bool:
    digest = client.digest(text)
    return digest in client._core.engine().of(client._interactive).find([digest])  # type: ignore[union-attr]


# -- every call -----------------------------------------------------------------------------------


def test_a_text_that_was_spoken_is_not_sent_again(make: Any, service: FakeService) -> None:
    client = make()
    spoken, known = client.synth("你好"), client.synth("你好")
    assert not spoken.from_cache and known.from_cache
    assert known == spoken and known.data == spoken.data and known.format == spoken.format
    assert spoken.timing is not None and known.timing is None
    assert sent(service) == ["你好"]


def test_submit_answers_at_once_what_is_known(make: Any, service: FakeService) -> None:
    client, called = make(), threading.Event()
    assert not client.submit("你好").result(10).from_cache
    future = client.submit("你好", callback=lambda future: called.set())
    assert future.done() and future.result().from_cache
    assert called.wait(60) and sent(service) == ["你好"]


def test_synth_many_sends_only_what_is_missing_in_full_batches(
    make: Any, service: FakeService
) -> None:
    client = make(batch_size=8)
    texts = [f"第{n}句话" for n in range(100)]
    known = [text for n, text in enumerate(texts) if n % 4]
    client.synth_many(known)
    service.calls.clear()
    outcomes = client.synth_many(texts, on_error="return")
    assert [each.text for each in outcomes] == texts
    assert [each.index for each in outcomes] == list(range(100))
    assert from_cache(outcomes) == [n % 4 > 0 for n in range(100)]
    assert sorted(sent(service)) == sorted(set(texts) - set(known))
    assert sorted(map(len, service.calls)) == [1, 8, 8, 8]


def test_few_misses_of_many_calls_share_requests(make: Any, service: FakeService) -> None:
    client = make(batch_size=64, coalesce=cosy_sync.CoalesceConfig(linger=0.05))
    known = [f"已知{n}" for n in range(47)]
    client.synth_many(known)
    service.calls.clear()
    barrier = threading.Barrier(10)

    def call(number: int) -> None:
        texts = known + [f"新的{number}之{n}" for n in range(17)]
        barrier.wait(10)
        assert len(client.synth_many(texts)) == 64

    threads = [threading.Thread(target=call, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(sent(service)) == 170 and len(service.calls) < 10


@pytest.mark.parametrize("read_ahead", [None, 1, 7])
def test_synth_iter_keeps_the_order_and_its_bound(
    make: Any, service: FakeService, read_ahead: int | None
) -> None:
    client = make(batch_size=8)
    texts = [f"第{n}句话" for n in range(100)]
    client.synth_many(texts[::3])
    pulled = 0

    def source() -> Iterator[str]:
        nonlocal pulled
        for text in texts:
            pulled += 1
            yield text

    for taken, outcome in enumerate(client.synth_iter(source(), read_ahead=read_ahead)):
        assert outcome.text == texts[taken] and outcome.index == taken
        assert outcome.audio.from_cache == (taken % 3 == 0)
        assert read_ahead is None or pulled <= taken + 1 + read_ahead
    assert taken == 99 and sorted(sent(service)) == sorted(texts)


def test_misses_of_synth_iter_go_in_full_batches(make: Any, service: FakeService) -> None:
    client = make(batch_size=8)
    texts = [f"第{n}句话" for n in range(800)]
    client.synth_many([text for n, text in enumerate(texts) if n % 4])
    service.calls.clear()
    assert all(client.synth_iter(iter(texts)))
    assert len(sent(service)) == 200 and len(service.calls) <= 30


def test_hits_that_wait_are_bounded_in_bytes(make: Any, service: FakeService) -> None:
    client = make(limits=LimitConfig(max_bytes_waiting=1_000_000))
    known = [f"已知的第{n}句话" for n in range(600)]  # 38 KB each
    client.synth_many(known)
    late, pulled = threading.Event(), 0

    def wait(request: httpx.Request) -> httpx.Response:
        late.wait(10)
        return service.speak(["新的一句"])

    def source() -> Iterator[str]:
        nonlocal pulled
        for text in ["新的一句", *known]:
            pulled += 1
            if pulled == 500:
                late.set()
            yield text

    service.answer(wait)
    outcomes = client.synth_iter(source())
    threading.Timer(0.3, late.set).start()
    assert next(outcomes).text == "新的一句"
    assert pulled < 200
    assert len(list(outcomes)) == 600


def test_a_stream_of_a_known_text_sounds_at_once_and_a_new_one_is_kept(
    service: FakeService,
) -> None:
    with Server(latency=0) as server:
        url = server.base_url
        with CosyClient(url, wire="runtime_http", cache="memory", voice="中文女") as client:
            with client.stream("你好世界") as stream:
                sound, rate = b"".join(stream), stream.sample_rate
            audio = client.synth("你好世界")
            assert audio.from_cache and audio.pcm() == sound and audio.sample_rate == rate
            with client.stream("你好世界") as stream:
                assert list(stream) == [sound] and stream.timing.attempts == 0
            assert client.stream("你好世界").audio() == audio
            with client.stream("只听一半的话") as stream:
                next(stream)
            assert not client.synth("只听一半的话").from_cache
            requests = server.stats()["requests"]
            client.synth("只听一半的话")
            assert server.stats()["requests"] == requests


def test_narrating_twice_sends_once(make: Any, service: FakeService) -> None:
    client = make()
    text = "今天天气很好。我们去公园吧！\n\n明天会下雨吗？"
    first = client.narrate(text)
    calls = len(service.calls)
    assert client.narrate(text).audio == first.audio and len(service.calls) == calls
    assert [each.text for each in client.narrate_iter(text)] == [
        each.text for each in first.segments
    ]
    assert len(service.calls) == calls


def test_an_error_of_the_source_comes_after_what_was_before_it(make: Any) -> None:
    client = make()
    client.synth("你好")

    def source() -> Iterator[str]:
        yield from ["你好", "再见", "你好"]
        raise OSError("gone")

    taken = []
    with pytest.raises(OSError, match="gone"):
        for outcome in client.synth_iter(source()):
            taken.append(outcome.audio.from_cache)
    assert taken == [True, False, True]


def test_bad_texts_keep_their_places(make: Any) -> None:
    client = make()
    client.synth("你好")
    outcomes = client.synth_many(["", "你好", " ", "再见"], on_error="return")
    assert [each.ok for each in outcomes] == [False, True, False, True]
    assert [each.index for each in client.synth_iter(["", "你好", " ", "再见"])] == [0, 1, 2, 3]


def test_errors_of_misses_tell_their_own_place(make: Any, service: FakeService) -> None:
    client = make(retry=NO_RETRY)
    client.synth_many(["甲甲", "乙乙"])
    service.fail(503, 1)
    outcomes = client.synth_many(["甲甲", "丙丙", "乙乙"], on_error="return")
    assert [each.ok for each in outcomes] == [True, False, True]
    assert outcomes[1].error.index == outcomes[1].index == 1
    assert outcomes[1].text == "丙丙"


def test_what_is_finished_goes_along_when_a_call_is_broken_off(make: Any) -> None:
    client = make()
    client.synth_many([f"第{n}句" for n in range(5)])

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(cosy_sync.InterruptedBatch) as caught:
        client.synth_many([f"第{n}句" for n in range(10)], progress=stop)
    assert [each.index for each in caught.value.outcomes][:5] == [0, 1, 2, 3, 4]


def test_a_dropped_call_leaves_nothing(make: Any, service: FakeService) -> None:
    client = make()
    client.synth("第3句")
    outcomes = client.synth_iter(f"第{n}句" for n in itertools.count())
    assert [next(outcomes).index for _ in range(5)] == [0, 1, 2, 3, 4]
    del outcomes
    assert client.synth("第3句").from_cache


# -- what is kept ---------------------------------------------------------------------------------


def test_other_settings_are_other_audio(make: Any, service: FakeService) -> None:
    client = make()
    client.synth("你好")
    assert not client.with_options(speed=1.5).synth("你好").from_cache
    assert client.with_options(api_key="sk-other", tenant="b").synth("你好").from_cache
    assert not client.with_options(cache=None).synth("你好").from_cache
    newer = client.with_options(cache=CacheConfig(store="memory", version="2"))
    assert not newer.synth("你好").from_cache and newer.synth("你好").from_cache


def test_a_view_has_no_store_of_its_own(make: Any) -> None:
    with pytest.raises(cosy_sync.ConfigError, match="cache: its store belongs to the whole client"):
        make().with_options(cache=MemoryCache())
    with pytest.raises(cosy_sync.ConfigError, match="cache: its store belongs to the whole client"):
        make(None).with_options(cache="memory")
    with pytest.raises(cosy_sync.ConfigError, match=r"cache: this client has none"):
        make(None).cache.stats()


def test_all_attributes_of_a_client_without_a_cache_can_be_looked_at(make: Any) -> None:
    client = make(None)
    assert not hasattr(client, "cache")
    assert "cache" not in dict(inspect.getmembers(client))  # as Ray does


@pytest.mark.parametrize("store", ["", (), [], 3, b"x", object(), ["memory", 3]])
def test_what_is_no_store_is_refused(make: Any, store: Any) -> None:
    with pytest.raises(cosy_sync.ConfigError, match=r"^cache: expected 'memory', a folder"):
        make(store)


def test_the_environment_names_a_folder(
    monkeypatch: pytest.MonkeyPatch, service: FakeService, tmp_path: Path
) -> None:
    monkeypatch.setenv("COSY_SYNC_CACHE", str(tmp_path / "cache"))
    for known in (False, True):
        with CosyClient(URL, http_client=httpx.Client(transport=service)) as client:
            assert client.synth("你好").from_cache is known


def test_audio_that_nobody_checked_is_not_kept(make: Any, service: FakeService) -> None:
    client = make(verify=VerifyConfig(enabled=False))
    client.synth("你好")
    assert not client.synth("你好").from_cache


def test_audio_that_the_users_check_refuses_is_not_kept(make: Any, service: FakeService) -> None:
    answers = iter([False, True])
    client = make(verify=VerifyConfig(check=lambda text, audio: next(answers)), retry=NO_RETRY)
    with pytest.raises(cosy_sync.BadAudioError):
        client.synth("你好")
    assert not client.synth("你好").from_cache and client.synth("你好").from_cache


def test_entries_end_about_a_day_later_and_not_all_at_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e9
    monkeypatch.setattr(speech_cache, "_wall", lambda: now)
    client = make(MemoryCache(clock=lambda: 0.0))
    texts = [f"第{n}句" for n in range(40)]
    client.synth_many(texts)
    known = []
    for hours in (21.5, 22.8, 24, 25.2, 26.5):
        now = 1e9 + 3600 * hours
        known.append(sum(is_known(client, text) for text in texts))
    assert known[0] == 40 and 40 > known[2] > 0 and known[4] == 0


def test_a_refused_text_is_refused_for_a_while_without_asking(
    make: Any, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e9
    monkeypatch.setattr(speech_cache, "_wall", lambda: now)
    client = make()
    service.fail(400, 1)
    with pytest.raises(BadRequestError) as first:
        client.synth("你好")
    with pytest.raises(BadRequestError) as second:
        client.synth("你好")
    assert len(service.calls) == 1 and second.value.status == 400
    assert second.value.message == first.value.message
    outcomes = client.synth_many(["再见", "你好"], on_error="return")
    assert [each.ok for each in outcomes] == [True, False] and outcomes[1].error.index == 1
    now += 61
    assert not client.synth("你好").from_cache


@pytest.mark.parametrize("status", [401, 402, 404, 429, 500, 503])
def test_what_is_not_the_texts_fault_is_not_kept(
    make: Any, service: FakeService, status: int
) -> None:
    client = make(retry=NO_RETRY)
    service.fail(status, 1)
    with pytest.raises(cosy_sync.CosyError):
        client.synth("你好")
    assert not client.synth("你好").from_cache


# -- its failures ---------------------------------------------------------------------------------


class BrokenStore:
    """A store of the user's that fails wherever it is told to."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.entries = set(broken), dict[str, bytes]()
        self.asked = 0

    def get_many(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        self.asked += 1
        self._fail("get")
        return {digest: self.entries[digest] for digest in digests if digest in self.entries}

    def put_many(self, entries: Sequence[Entry]) -> None:
        self._fail("put")
        self.entries.update({digest: data for digest, data, _ in entries})

    def delete(self, digests: Sequence[str] | None) -> None:
        self._fail("delete")
        for digest in list(self.entries) if digests is None else digests:
            self.entries.pop(digest, None)

    def _fail(self, what: str) -> None:
        if what in self.broken:
            raise RuntimeError("the store is broken")


@pytest.mark.parametrize("broken", [["get"], ["put"], ["get", "put", "delete"]])
def test_a_store_that_fails_is_a_miss_and_one_line_of_the_log(
    make: Any, caplog: pytest.LogCaptureFixture, broken: list[str]
) -> None:
    clock = FakeClock()
    client = make(BrokenStore(*broken), clock=clock)
    for _ in range(3):
        assert not client.synth("你好").from_cache
        assert not client.submit("你好").result(10).from_cache
        assert not from_cache(client.synth_many(["你好"] * 2, on_error="return"))[0]
        assert not from_cache(list(client.synth_iter(["你好"])))[0]
        clock.advance(5)
    lines = [each for each in caplog.records if "the cache" in each.message]
    assert len(lines) == 1 and "RuntimeError: the store is broken" in lines[0].message
    assert lines[0].levelno == logging.WARNING and "你好" not in lines[0].message
    clock.advance(60)
    client.synth("你好")
    assert len([each for each in caplog.records if "the cache" in each.message]) == 2


def test_a_store_that_fails_is_left_alone_for_a_moment(make: Any) -> None:
    clock, store = FakeClock(), BrokenStore("get")
    client = make(store, clock=clock)
    for n in range(20):
        client.synth(f"第{n}句")
    assert store.asked == 1
    store.broken.clear()
    clock.advance(10)
    client.synth("你好")
    assert client.synth("你好").from_cache


@pytest.mark.parametrize("answer", [None, [], {"x": 1}, 3])
def test_a_store_that_answers_nonsense_is_a_miss(make: Any, answer: Any) -> None:
    store = BrokenStore()
    store.get_many = lambda digests: answer  # type: ignore[method-assign]
    assert not make(store).synth("你好").from_cache


@pytest.mark.parametrize("data", [b"", b"CSC1", bytes(1000), None, "text"])
def test_an_unreadable_entry_is_deleted_and_spoken_anew(
    make: Any, service: FakeService, data: Any
) -> None:
    store = BrokenStore()
    client = make(store)
    client.synth("你好")
    (digest,) = store.entries
    store.entries[digest] = data
    assert not client.synth("你好").from_cache
    assert client.synth("你好").from_cache and len(service.calls) == 2


def test_a_torn_file_is_deleted_and_spoken_anew(make: Any, tmp_path: Path) -> None:
    client = make(tmp_path)
    client.synth_many(["你好", "再见"])
    first, second = (path for path in tmp_path.rglob("*") if len(path.name) == 40)
    first.write_bytes(first.read_bytes()[:-7])
    second.write_bytes(b"")
    assert not any(from_cache(client.synth_many(["你好", "再见"], on_error="return")))
    assert all(from_cache(client.synth_many(["你好", "再见"], on_error="return")))


def test_a_folder_that_cannot_be_written_is_a_miss(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    client = make(tmp_path)
    monkeypatch.setattr("cosy_sync.cache.disk.os.write", full)
    assert not client.synth("你好").from_cache
    assert not client.synth("你好").from_cache
    assert "No space left on device" in caplog.text
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_in_the_folders_place_is_a_miss(make: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    client = make(tmp_path / "cache")
    assert not client.synth("你好").from_cache and not client.synth("你好").from_cache


def test_a_redis_that_is_away_is_a_miss_and_counts_again_when_it_is_back(
    make: Any, redis_server: Any
) -> None:
    clock = FakeClock()
    client = make(redis_server.url, clock=clock)
    client.synth("你好")
    assert client.synth("你好").from_cache
    redis_server.stop()
    assert not client.synth("你好").from_cache
    redis_server.start()
    clock.advance(5)
    client.synth("你好")
    assert client.synth("你好").from_cache


def test_what_a_slow_store_has_is_put_into_the_quick_one(make: Any) -> None:
    quick, slow = BrokenStore(), BrokenStore()
    client = make([quick, slow])
    client.synth("你好")
    quick.entries.clear()
    assert client.synth("你好").from_cache and quick.entries == slow.entries
    slow.broken.add("get")
    assert client.synth("你好").from_cache


# -- stale-if-error -------------------------------------------------------------------------------


@pytest.fixture
def old(make: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CosyClient]:
    """Return clients whose cache has an entry that ended an hour ago."""

    def build(stale_if_error: float, **settings: Any) -> CosyClient:
        now = 1e9
        monkeypatch.setattr(speech_cache, "_wall", lambda: now)
        store = CacheConfig(store=MemoryCache(), ttl=60, stale_if_error=stale_if_error)
        client: CosyClient = make(store, retry=NO_RETRY, **settings)
        client.synth_many(["你好", "再见"])
        now += 3600
        return client

    return build


def test_old_audio_is_used_where_the_service_fails_if_that_is_wished(
    old: Any, service: FakeService
) -> None:
    client = old(7200)
    service.fail(503, 1)
    assert client.synth("你好").from_cache
    service.fail(503, 1)
    assert client.submit("再见").result(10).from_cache
    service.fail(503, 1)
    outcomes = client.synth_many(["你好", "没有的"], on_error="return")
    assert [each.ok for each in outcomes] == [True, False] and outcomes[0].audio.from_cache
    assert not client.synth("你好").from_cache  # it is well again


def test_old_audio_is_an_error_otherwise(old: Any, service: FakeService) -> None:
    for seconds in (0, 1800):
        client = old(seconds)
        service.fail(503, 1)
        with pytest.raises(UnavailableError):
            client.synth("你好")


def test_old_audio_needs_no_request_while_the_breaker_is_open(
    old: Any, service: FakeService
) -> None:
    client = old(7200, breaker=BreakerConfig(min_calls=2, open_for=1000))
    service.fail(503, 2)
    for n in range(2):
        with pytest.raises((UnavailableError, BreakerOpenError)):
            client.synth(f"没有的{n}")
    calls = len(service.calls)
    assert client.synth("你好").from_cache and client.synth("再见").from_cache
    with pytest.raises(BreakerOpenError):
        client.synth("没有的")
    assert len(service.calls) == calls


# -- other processes ------------------------------------------------------------------------------


def test_a_text_that_another_process_speaks_is_waited_for(
    make: Any, service: FakeService, tmp_path: Path
) -> None:
    other, client = make(DiskCache(tmp_path)), make(DiskCache(tmp_path))
    going, goes_on = threading.Event(), threading.Event()

    def hold(request: httpx.Request) -> httpx.Response:
        going.set()
        goes_on.wait(10)
        return service.speak(["你好"])

    service.answer(hold)
    first = other.submit("你好")
    assert going.wait(60)
    waiting = [client.submit("你好")]
    results: list[Any] = []
    calls = [
        lambda: results.append(client.synth("你好")),
        lambda: results.extend(client.synth_many(["你好"])),
        lambda: results.extend(each.audio for each in client.synth_iter(["你好", "另一句"])),
    ]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    while "另一句" not in sent(service):  # what is ours is not held up
        pass
    goes_on.set()
    for thread in threads:
        thread.join(20)
    assert not first.result(10).from_cache and waiting[0].result(10).from_cache
    assert sorted(each.from_cache for each in results) == [False, True, True, True]
    assert sorted(sent(service)) == ["你好", "另一句"]


@every_call
def test_what_another_process_put_just_before_its_lease_ended_is_not_spoken_again(
    call: Callable[[CosyClient], Any], make: Any, service: FakeService, tmp_path: Path
) -> None:
    class Late(DiskCache):
        """One in which another process puts the text right before a lease is taken."""

        def lease(self, digests: Sequence[str], seconds: float) -> Any:
            other.synth("你好")
            return super().lease(digests, seconds)

    other = make(DiskCache(tmp_path))
    client = make(Late(tmp_path))
    assert call(client).from_cache
    assert sent(service) == ["你好"] and client.stats().cache_misses == 0
    client.close()
    assert not list((tmp_path / "v1" / "leases").iterdir())


def test_what_a_dead_process_leaves_is_spoken_after_its_lease(
    make: Any, service: FakeService, tmp_path: Path
) -> None:
    client = make(DiskCache(tmp_path))
    DiskCache(tmp_path).lease([client.digest(text) for text in ("你好", "再见", "第三")], 0.2)
    assert not client.synth("你好").from_cache
    assert not client.synth_many(["再见"])[0].from_cache
    assert [each.audio.from_cache for each in client.synth_iter(["第三"])] == [False]
    assert not list((tmp_path / "v1" / "leases").iterdir())


def test_a_wait_for_another_process_ends_with_ones_own_deadline(
    make: Any, service: FakeService, tmp_path: Path
) -> None:
    client = make(DiskCache(tmp_path), deadline=0.05)
    DiskCache(tmp_path).lease([client.digest("你好")], 60)
    with pytest.raises(DeadlineError, match=r"not done within 0.05 s .*another process"):
        client.synth("你好")
    with pytest.raises(DeadlineError, match="another process"):
        client.submit("你好").result(10)
    outcomes = client.synth_many(["再见", "你好"], on_error="return")
    assert [each.ok for each in outcomes] == [True, False]
    assert outcomes[1].error.index == 1 and outcomes[1].error.deadline == 0.05
    within = client.with_options(deadline=60).synth_many(["你好"], on_error="return", within=0.05)
    assert "within" in str(within[0].error)
    assert sent(service) == ["再见"]


def test_closing_ends_the_wait_for_another_process(make: Any, tmp_path: Path) -> None:
    client = make(DiskCache(tmp_path))
    DiskCache(tmp_path).lease([client.digest("你好")], 60)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.synth("你好")
        except ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    client.close()
    thread.join(10)
    assert len(errors) == 1


def test_leases_go_back_whatever_becomes_of_a_text(
    make: Any, service: FakeService, tmp_path: Path
) -> None:
    client = make(DiskCache(tmp_path), retry=NO_RETRY)
    service.fail(503, 2)
    with pytest.raises(UnavailableError):
        client.synth("你好")
    client.synth_many(["你好", "再见"], on_error="return")
    client.submit("第三").cancel()
    list(client.synth_iter(["第四"] * 3 + ["第五"]))
    client.close()
    assert not list((tmp_path / "v1" / "leases").iterdir())


def test_without_leases_nobody_waits(make: Any, service: FakeService, tmp_path: Path) -> None:
    client = make(CacheConfig(store=DiskCache(tmp_path), lease=0))
    DiskCache(tmp_path).lease([client.digest("你好")], 60)
    assert not client.synth("你好").from_cache and client.synth("你好").from_cache


def test_a_cancelled_future_cancels_what_is_behind_it(make: Any, service: FakeService) -> None:
    client, going, goes_on = make(), threading.Event(), threading.Event()

    def hold(request: httpx.Request) -> httpx.Response:
        going.set()
        goes_on.wait(10)
        return service.speak(["你好"])

    service.answer(hold)
    first = client.submit("你好")
    assert going.wait(60)
    second = client.submit("再见")
    assert second.cancel() and second.cancelled()
    goes_on.set()
    assert first.result(10)
    client.close()
    assert sent(service) == ["你好"]


# -- what the user does ---------------------------------------------------------------------------


def test_stats_count_hits_misses_and_bytes(make: Any, tmp_path: Path) -> None:
    client = make(tmp_path)
    audio = client.synth("你好")
    client.synth_many(["你好", "再见", "你好"])
    list(client.synth_iter(["再见", "第三"]))
    client.submit("第三").result(10)
    stats, cache = client.stats(), client.cache.stats()
    assert (stats.cache_hits, stats.cache_misses) == (4, 3)
    assert (cache.hits, cache.misses, cache.entries) == (4, 3, 3)
    assert cache.bytes_saved == stats.cache_bytes >= 3 * len(audio.data)
    assert cache.bytes and cache.bytes > 3 * len(audio.data)
    assert stats.texts_ok == 7


def test_invalidate_forgets_one_text_and_clear_all(make: Any) -> None:
    client = make()
    client.synth_many(["你好", "再见"])
    client.cache.invalidate("你好")
    assert from_cache(client.synth_many(["你好", "再见"], on_error="return")) == [False, True]
    client.cache.clear()
    assert not any(from_cache(client.synth_many(["你好", "再见"], on_error="return")))


def test_a_client_without_a_cache_asks_the_engine_itself(make: Any) -> None:
    client = make(None)
    assert type(client._core.engine()).__name__ == "Engine"
    assert not client.synth("你好").from_cache and not client.synth("你好").from_cache


def test_the_users_own_store_stays_open_for_others(make: Any, tmp_path: Path) -> None:
    store = DiskCache(tmp_path)
    with make(store) as client:
        client.synth("你好")
    with make(store) as client:
        assert client.synth("你好").from_cache
    store.close()


def test_a_forked_child_shares_the_folder(service: FakeService, tmp_path: Path) -> None:
    client = CosyClient(URL, http_client=lambda: httpx.Client(transport=service), cache=tmp_path)
    client.synth("你好")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            known = client.synth("你好").from_cache
            code = 0 if known and client.stats().cache_hits == 1 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.synth("你好").from_cache
    client.close()


@pytest.mark.parametrize("count", [3, 40])
def test_ctrl_c_at_any_line_gives_no_text_anothers_audio(
    service: FakeService, make: Any, count: int
) -> None:
    texts = [f"第{'一二三四五'[n % 5] * (1 + n)}句" for n in range(count)]
    right = [audio.data for audio in make(None, batch_size=64).synth_many(texts)]
    number, more = 0, True
    while more:
        client, number = make(batch_size=64), number + 1

        def work(client: CosyClient = client) -> None:
            try:
                client.synth_many(texts)
            except KeyboardInterrupt as error:
                for each in error.outcomes:  # type: ignore[attr-defined]
                    assert each.audio.data == right[each.index] and each.text == texts[each.index]
                raise

        more = interrupt_at(number, work, only=CachedCall._take) and number < 13
        client.close()
    assert number == 13


def test_ctrl_c_while_closing_waits_closes_the_cache_all_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = make(str(tmp_path))
    client.synth("你好")
    (store,) = client._core.cache.stores
    assert store._index._idle

    def interrupt(self: Engine, seconds: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "drain", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.close()
    assert not store._index._idle
