"""How an endpoint's limiter and breaker are chosen and shared, seen through the client."""

from __future__ import annotations

import logging
import threading
from typing import Any

import httpx
import pybreaker
import pytest
from lanes import eventually

import cosy_sync
from cosy_sync import BreakerConfig, ConfigError, CosyClient, SharingConfig
from cosy_sync.events import Event, SharingChanged
from cosy_sync.policies import RateLimiter
from cosy_sync.shared import SharedLimiter
from cosy_sync.testing import FakeService

URL = "http://tts.test/batch"


class Watcher:
    def __init__(self) -> None:
        self.events: list[SharingChanged] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, SharingChanged):
            self.events.append(event)


def over(service: FakeService, **settings: Any) -> CosyClient:
    return CosyClient(URL, http_client=httpx.Client(transport=service), **settings)


def limiter(client: CosyClient) -> Any:
    return client._core.engine().endpoints.endpoints[0].limiter


def test_without_redis_the_limit_is_the_clients_own() -> None:
    with over(FakeService()) as client:
        assert isinstance(limiter(client).limiter, RateLimiter)


def test_calls_go_through_a_limit_in_redis(redis_server) -> None:
    sharing = SharingConfig(redis_url=redis_server.url, timeout=5.0)
    with over(FakeService(), sharing=sharing) as client:
        assert isinstance(limiter(client).limiter, SharedLimiter)
        for _ in range(3):
            assert client.synth("你好").duration > 0
        assert "cosy-limit" in {thread.name for thread in threading.enumerate()}
    redis = redis_server.client()
    assert redis.llen(f"cosy_sync:{{{URL}}}:log") == 3


def test_calls_go_through_without_redis_and_it_is_said(
    redis_server, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    watcher = Watcher()
    url = redis_server.url.replace("redis://", "redis://tts:a-secret@")
    sharing = SharingConfig(redis_url=url, clients=4)
    with (
        caplog.at_level(logging.DEBUG, "cosy_sync"),
        over(FakeService(), sharing=sharing, observers=[watcher]) as client,
    ):
        assert client.synth("你好").duration > 0
        assert client.stats().texts_ok == 1
        redis_server.start()
    (event,) = [event for event in watcher.events if event.what == "rate limit"]
    assert (event.endpoint, event.shared) == (URL, False)
    assert "25 requests/s" in event.reason
    assert f"rate limit of {URL} not shared any more: ConnectionError" in caplog.text
    for shown in (caplog.text, repr(client.config), repr(event)):
        assert "a-secret" not in shown


def test_a_wrong_password_fails_no_call_and_is_not_shown(redis_server) -> None:
    redis_server.client().config_set("requirepass", "another")
    watcher = Watcher()
    sharing = SharingConfig(redis_url=redis_server.url.replace("//", "//:a-secret@"), timeout=5.0)
    with over(FakeService(), sharing=sharing, observers=[watcher]) as client:
        assert client.synth("你好").duration > 0
        eventually(lambda: len(watcher.events) == 3)
    told = {event.what for event in watcher.events}
    assert told == {"rate limit", "breaker", "connections"}
    assert all("AuthenticationError" in event.reason for event in watcher.events)
    assert not any("a-secret" in event.reason for event in watcher.events)


def test_two_clients_share_an_open_breaker_and_listeners_hear_of_it() -> None:
    class Diary(pybreaker.CircuitBreakerListener):
        def __init__(self) -> None:
            self.changes: list[str] = []

        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            self.changes.append(f"{cb.name} {new_state.name}")

    storages: dict[str, pybreaker.CircuitMemoryStorage] = {}

    def storage(name: str) -> pybreaker.CircuitMemoryStorage:
        return storages.setdefault(name, pybreaker.CircuitMemoryStorage("closed"))

    diary = Diary()
    service = FakeService()
    config = BreakerConfig(min_calls=1, storage=storage, listeners=[diary])
    no_retry = cosy_sync.RetryConfig(max_retries=0)
    one = over(service, breaker=BreakerConfig(min_calls=1, storage=storage), retry=no_retry)
    other = over(FakeService(), breaker=config)
    with one, other:
        assert other.synth("你好").duration > 0
        service.fail(503)
        with pytest.raises(cosy_sync.UnavailableError):
            one.synth("你好")
        assert "cosy-breaker" in {thread.name for thread in threading.enumerate()}
        eventually(lambda: other.stats().breakers[URL] == "open")
        with pytest.raises(cosy_sync.BreakerOpenError):
            other.synth("你好")
    assert storages[URL].state == "open"
    assert diary.changes == [f"{URL} open"]


def test_clients_of_one_redis_share_an_open_breaker_without_a_storage_of_ones_own(
    redis_server,
) -> None:
    service, sharing = FakeService(), SharingConfig(redis_url=redis_server.url, timeout=5.0)
    settings = {"sharing": sharing, "breaker": BreakerConfig(min_calls=1)}
    no_retry = cosy_sync.RetryConfig(max_retries=0)
    one, other = over(service, retry=no_retry, **settings), over(FakeService(), **settings)
    with one, other:
        assert other.synth("你好").duration > 0
        service.fail(503)
        with pytest.raises(cosy_sync.UnavailableError):
            one.synth("你好")
        eventually(lambda: other.stats().breakers[URL] == "open")


def test_a_redis_that_goes_away_is_told_of_by_events_and_not_in_pybreakers_log(
    redis_server, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    sharing = SharingConfig(redis_url=redis_server.url, timeout=0.5)
    with over(FakeService(), sharing=sharing, observers=[watcher]) as client:
        assert client.synth("你好").duration > 0
        eventually(lambda: bool(redis_server.client().keys("*pybreaker*")))
        redis_server.stop()
        eventually(lambda: any(event.what == "breaker" for event in watcher.events))
        redis_server.start()
    (event,) = [event for event in watcher.events if event.what == "breaker"][:1]
    assert not event.shared and "ConnectionError" in event.reason
    assert not [record for record in caplog.records if record.name == "pybreaker"]


def test_a_breaker_of_ones_own_beside_a_shared_limit_is_a_setting(redis_server) -> None:
    sharing = SharingConfig(redis_url=redis_server.url, breaker=False)
    with over(FakeService(), sharing=sharing) as client:
        assert client.synth("你好").duration > 0
        assert "cosy-breaker" not in {thread.name for thread in threading.enumerate()}


def test_a_storage_that_cannot_be_made_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    def storage(name: str) -> Any:
        raise OSError("no such storage")

    watcher = Watcher()
    config = BreakerConfig(storage=storage)
    with over(FakeService(), breaker=config, observers=[watcher]) as client:
        assert client.synth("你好").duration > 0
        eventually(lambda: bool(watcher.events))
    assert watcher.events == [SharingChanged(URL, "breaker", False, "OSError: no such storage")]
    assert f"breaker of {URL} not shared any more: OSError: no such storage" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"redis_url": "http://:a-secret@host"}, "redis_url: expected redis://"),
        ({"redis_url": "redis://:a-secret@host:99999999"}, "redis_url: expected redis://"),
        ({"redis_url": 7}, "redis_url: expected redis://"),
        ({"prefix": ""}, "prefix: must be"),
        ({"prefix": "a{b"}, "prefix: must be"),
        ({"timeout": 0}, "timeout: must be"),
        ({"clients": 0}, "clients: must be"),
    ],
)
def test_what_cannot_be_is_refused_without_showing_the_url(settings, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SharingConfig(**settings)
    assert "a-secret" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosy_sync.config.sharing.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'redis>=5\.0\.1'"):
        SharingConfig(redis_url="redis://localhost")
    assert SharingConfig().redis_url is None


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:6379/1", "unix:///run/redis.sock"])
def test_addresses_of_redis_never_show(url) -> None:
    pytest.importorskip("redis")
    assert url not in repr(SharingConfig(redis_url=url))


@pytest.mark.parametrize(
    "settings",
    [
        {"listeners": [pybreaker.CircuitBreakerListener]},
        {"listeners": [object()]},
        {"listeners": pybreaker.CircuitBreakerListener()},
        {"storage": "redis"},
        {"slow_call": 0},
        {"slow_ratio": 0},
        {"slow_ratio": 1.1},
    ],
)
def test_breaker_options_that_cannot_be_are_refused(settings) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name}: must be"):
        BreakerConfig(**settings)


def test_breaker_options_that_can_be() -> None:
    listener = pybreaker.CircuitBreakerListener()
    config = BreakerConfig(listeners=[listener], slow_call=2, slow_ratio=1)
    assert config.listeners == (listener,)


def test_sharing_is_set_by_environment_and_belongs_to_the_whole_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("redis")
    monkeypatch.setenv("COSY_SYNC_SHARING_REDIS_URL", "redis://localhost:1")
    with over(FakeService()) as client:
        assert client.config.sharing.redis_url == "redis://localhost:1"
        with pytest.raises(ConfigError, match="sharing: belongs to the whole client"):
            client.with_options(sharing=SharingConfig())
