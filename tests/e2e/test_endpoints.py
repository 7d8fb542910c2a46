"""Several endpoints, or several addresses of one name, over real sockets: nothing is lost."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

import cosy_sync
from cosy_sync import CosyClient, EjectionConfig, Endpoint, PoolConfig, TimeoutConfig
from cosy_sync.events import AddressesChanged, EndpointEjected, Event, LookupFailed
from cosy_sync.server import Server, ServerConfig

NAME = "tts.example.com"
HOSTS = [f"127.0.0.{number}" for number in (1, 2, 3, 4)]
FREE = {"engine": "tone", "rate": 0, "max_connections": 0, "seconds_per_char": 0.05}

pytestmark = pytest.mark.timeout(90)


class Servers:
    """One server on each address, all on one port; each can be ended or replaced at any time."""

    def __init__(self, count: int) -> None:
        self._servers: dict[str, Server] = {}
        self.start(HOSTS[0])
        self.port = int(self._servers[HOSTS[0]].base_url.rpartition(":")[2])
        for host in HOSTS[1:count]:
            self.start(host, self.port)

    def start(self, host: str, port: int = 0, **options: object) -> None:
        config = ServerConfig(host=host, port=port, **{"latency": 0.02, **FREE, **options})
        self._servers[host] = Server(config).start()

    def end(self, host: str) -> None:
        self._servers.pop(host).close()

    def urls(self) -> list[str]:
        return [f"http://{host}:{self.port}/batch" for host in self._servers]

    def requests(self, host: str) -> int:
        return int(str(self._servers[host].stats()["requests"]))

    def close(self) -> None:
        for host in list(self._servers):
            self.end(host)


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers(4)
    yield made
    made.close()


class Watcher:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


class Names:
    """Answers for one name in place of the system; another thread may change the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.fails = False
        self.threads: Counter[str] = Counter()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look)

    def _look(self, host: str, port: int, *args: object, **options: object) -> object:
        if host != NAME:
            return self._real(host, port, *args, **options)  # type: ignore[arg-type]
        self.threads[threading.current_thread().name.rpartition("-")[0]] += 1
        if self.fails:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in self.addresses]


def sentences(count: int) -> list[str]:
    return [f"前方第{number}个路口请向左转弯" for number in range(count)]


def eventually(happened: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def fast(url: str, **options: object) -> Endpoint:
    return Endpoint(url, max_connections=8, rate=10_000, **options)  # type: ignore[arg-type]


def named(servers: Servers) -> Endpoint:
    return fast(f"http://{NAME}:{servers.port}/batch", per_address=True)


SETTINGS = {
    "batch_size": 2,
    "deadline": 30.0,
    "timeouts": TimeoutConfig(connect=1.0, first_byte=1.0, idle=1.0),
}


# -- one of several goes bad ---------------------------------------------------------------------

TROUBLES = {
    "dies": None,
    "stalls": {"stall": 1.0},
    "answers-garbage": {"not-json": 0.5, "silent-audio": 0.5},
    "resets": {"reset": 1.0},
}


@pytest.mark.parametrize("faults", TROUBLES.values(), ids=list(TROUBLES))
def test_one_of_four_goes_bad_under_load_and_no_text_is_lost(
    faults: dict[str, float] | None, servers: Servers
) -> None:
    watcher = Watcher()
    bad, texts = HOSTS[3], sentences(2000)
    endpoints = [fast(url) for url in servers.urls()]
    with CosyClient(endpoints, observers=[watcher], **SETTINGS) as client:  # type: ignore[arg-type]
        done = 0
        for outcome in client.synth_iter(texts):
            done += outcome.audio is not None
            if outcome.index == 400:
                servers.end(bad)
                if faults is not None:
                    servers.start(bad, servers.port, faults=faults)
        assert done >= 0.999 * len(texts)
    if faults != TROUBLES["stalls"]:
        ejected = watcher.of(EndpointEjected)
        assert ejected and all(bad in event.endpoint for event in ejected)  # type: ignore[attr-defined]


def test_a_text_that_failed_goes_elsewhere_at_once(servers: Servers) -> None:
    servers.end(HOSTS[3])
    endpoints = [f"http://{HOSTS[3]}:{servers.port}/batch", servers.urls()[0]]
    planned = Watcher()
    with CosyClient(endpoints, observers=[planned], **SETTINGS) as client:  # type: ignore[arg-type]
        audios = client.synth_many(sentences(100))
    assert len(audios) == 100
    waits = {event.wait for event in planned.of(cosy_sync.events.RetryPlanned)}  # type: ignore[attr-defined]
    assert waits == {0.0}


def test_an_ejected_endpoint_comes_back(servers: Servers) -> None:
    bad = HOSTS[1]
    endpoints = [fast(url) for url in servers.urls()[:2]]
    ejection = EjectionConfig(base=0.2, longest=0.2)
    servers.end(bad)
    with CosyClient(endpoints, ejection=ejection, **SETTINGS) as client:  # type: ignore[arg-type]
        client.synth_many(sentences(100))
        endpoints = client._core.engine().endpoints.endpoints
        assert endpoints[1].health.ejected
        assert client.stats().ejections >= 1
        servers.start(bad, servers.port)
        eventually(lambda: client.synth_many(sentences(4)) and not endpoints[1].health.ejected)
        client.synth_many(sentences(100))
    assert servers.requests(bad) > 5


# -- one name on several addresses ----------------------------------------------------------------


def test_every_address_is_used_with_limits_of_its_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, *HOSTS)
    endpoint = Endpoint(f"http://{NAME}:{servers.port}/batch", max_connections=3, per_address=True)
    with CosyClient(endpoint, batch_size=2) as client:
        assert len(client.synth_many(sentences(400))) == 400
        assert client.stats().connections_open <= 12
        assert len(client.stats().breakers) == 4
        audio = client.synth("你好")
        assert audio.timing is not None
        assert audio.timing.endpoint in [f"{endpoint.url} ({host})" for host in HOSTS]
    assert all(servers.requests(host) > 10 for host in HOSTS)
    assert set(names.threads) == {"cosy"}  # cosy-keeper, and no cosy-worker-N


def test_a_change_of_addresses_under_load_loses_nothing(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, watcher = Names(monkeypatch, *HOSTS[:2]), Watcher()
    pool = PoolConfig(dns_refresh=0.05)
    client = CosyClient(named(servers), pool=pool, observers=[watcher], **SETTINGS)  # type: ignore[arg-type]
    with client:
        for outcome in client.synth_iter(sentences(2000)):
            assert outcome.audio is not None
            if outcome.index == 300:
                names.addresses = HOSTS[2:]
            elif outcome.index == 1200:
                (one, two) = (servers.requests(host) for host in HOSTS[:2])
            elif outcome.index == 1500:
                names.fails = True
        # 900 texts after the change its old addresses got nothing any more.
        assert [servers.requests(host) for host in HOSTS[:2]] == [one, two]
        assert all(servers.requests(host) > 50 for host in HOSTS[2:])
    changes = watcher.of(AddressesChanged)
    assert (
        [(set(c.joined), set(c.left)) for c in changes]
        == [  # type: ignore[attr-defined]
            (set(HOSTS[:2]), set()),
            (set(HOSTS[2:]), set(HOSTS[:2])),
        ]
    )
    assert {event.kept for event in watcher.of(LookupFailed)} == {2}  # type: ignore[attr-defined]


def test_a_move_to_another_address_is_noticed_by_the_failing_connections(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, HOSTS[0])
    monkeypatch.setattr("cosy_sync.endpoints.dns._SPACING", 0.05)
    with CosyClient(named(servers), **SETTINGS) as client:  # type: ignore[arg-type]
        client.synth("你好")
        names.addresses = HOSTS[1:2]
        servers.end(HOSTS[0])
        assert len(client.synth_many(sentences(20))) == 20  # the schedule says 30 s
        assert servers.requests(HOSTS[1]) >= 10


def test_a_name_that_cannot_be_looked_up_fails_at_once_or_is_waited_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, HOSTS[0])
    names.fails = True
    with CosyClient(named(servers), **SETTINGS) as client:  # type: ignore[arg-type]
        with pytest.raises(cosy_sync.NoEndpointError, match=NAME):
            client.synth("你好")
        threading.Timer(0.3, setattr, [names, "fails", False]).start()
        assert len(client.synth_many(sentences(10))) == 10


def test_without_per_address_one_name_is_one_endpoint(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, *HOSTS)
    with CosyClient(f"http://{NAME}:{servers.port}/batch") as client:
        assert len(client.synth_many(sentences(50))) == 50
        assert list(client.stats().breakers) == [f"http://{NAME}:{servers.port}/batch"]


def test_a_forked_child_looks_its_names_up_itself(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, *HOSTS[:2])
    other = fast(servers.urls()[2])
    with CosyClient([named(servers), other], **SETTINGS) as client:  # type: ignore[arg-type]
        client.synth_many(sentences(20))
        client.drain(other.url)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                before = servers.port
                audios = client.synth_many(sentences(20))
                used = {audio.timing.endpoint for audio in audios if audio.timing}
                status = 0 if other.url not in used and before else 1
                client.close()
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        client.synth_many(sentences(20))


def test_closing_leaves_no_keeper_behind(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, *HOSTS)
    client = CosyClient(named(servers))
    client.synth("你好")
    assert "cosy-keeper" in [thread.name for thread in threading.enumerate()]
    client.close()
    assert "cosy-keeper" not in [thread.name for thread in threading.enumerate()]


# -- drain ---------------------------------------------------------------------------------------


def test_an_endpoint_is_drained_and_replaced_under_load_without_a_failed_attempt(
    servers: Servers,
) -> None:
    first, *others = servers.urls()
    watcher, texts = Watcher(), sentences(2000)
    endpoints = [fast(url) for url in (first, *others)]
    with CosyClient(endpoints, observers=[watcher], **SETTINGS) as client:  # type: ignore[arg-type]
        for outcome in client.synth_iter(texts):
            assert outcome.audio is not None
            if outcome.index == 400:
                assert client.drain(first)
                servers.end(HOSTS[0])
            elif outcome.index == 800:
                servers.start(HOSTS[0], servers.port)
                client.resume(first)
        assert client.stats().errors == {}
    assert servers.requests(HOSTS[0]) > 20


def test_what_cannot_be_drained_is_refused() -> None:
    with CosyClient(["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]) as client:
        with pytest.raises(cosy_sync.ConfigError, match="no such endpoint"):
            client.drain("http://127.0.0.1:1/c")
        client.drain("http://127.0.0.1:1/a")
        with pytest.raises(cosy_sync.ConfigError, match="last endpoint"):
            client.drain("http://127.0.0.1:1/b")
