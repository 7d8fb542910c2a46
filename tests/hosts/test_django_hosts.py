"""Django in real web hosts, as docs/deployment.md advises: ends, reloads, a service that stalls.

Run by `COSY_TEST_HOSTS=1`, as it takes a minute; `COSY_TEST_TEXTS=4000` is the whole load.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cosy_sync.testing import Server

pytest.importorskip("django", reason="needs django (extra test)")

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CALLS = int(os.environ.get("COSY_TEST_TEXTS", "400")) // 2  # of 1 to 3 texts
CLIENTS = 64

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif("COSY_TEST_HOSTS" not in os.environ, reason="slow: set COSY_TEST_HOSTS=1"),
]

GUNICORN = ("gunicorn", "django_app:application", "--log-level", "warning", "--backlog", "2048")
SYNC = (*GUNICORN, "--preload", "-k", "sync")
GTHREAD = (*GUNICORN, "--preload", "-k", "gthread", "--threads")
PRELOADED = (*GTHREAD, "32", "-w", "2")
UWSGI = ("pyuwsgi", "--master", "--enable-threads", "--disable-logging")
UWSGI += ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all")
UWSGI += ("--worker-reload-mercy", "10")
UWSGI += (f"--home={sys.prefix}", "--module", "django_app:application", "--listen", "100")
UWSGI += ("--processes", "2", "--threads", "16")
UVICORN = ("uvicorn", "django_app:asgi", "--log-level", "warning")
HOSTS = {
    "uvicorn": UVICORN,
    "gunicorn gthread 1 x 64": (*GTHREAD, "64", "-w", "1"),
    "gunicorn gthread 2 x 32": PRELOADED,
    "gunicorn gthread 2 x 32, linger 0.02": PRELOADED,
    "gunicorn gthread 4 x 16": (*GTHREAD, "16", "-w", "4"),
    "gunicorn gevent x 2": (*GUNICORN, "-w", "2", "-k", "gevent"),
    "uwsgi 2 x 16": UWSGI,
    "gunicorn sync x 4": (*SYNC, "-w", "4"),
}


def service(**options: Any) -> Server:
    return Server(**{"rate": 0, "max_connections": 0, "echo": False, **options})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def host(
    command: Sequence[str], tts: Server, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run it; give its process and port. What it says is shown where a test fails."""
    port = free_port()
    where = {
        "gunicorn": ("--bind", f"127.0.0.1:{port}"),
        "pyuwsgi": ("--http-socket", f"127.0.0.1:{port}"),
        "uvicorn": ("--port", str(port)),
    }[command[0]]
    environ = {**os.environ, "TTS_URL": tts.url, "PYTHONPATH": str(HERE), **variables}
    line = [str(BIN / command[0]), *command[1:], *where]
    process = subprocess.Popen(line, env=environ, cwd=HERE, stderr=subprocess.PIPE)
    try:
        await_port(process, port)
        yield process, port
    finally:
        process.terminate()
        try:
            said = process.communicate(timeout=40)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[1]
            pytest.fail(f"it did not end: {said.decode()[-2000:]}")
        print(said.decode()[-4000:])


def await_port(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if ask(port, -1, "/ready")[0] == 200:
            return
        time.sleep(0.05)
    pytest.fail("the host did not come up")


def ask(port: int, number: int, where: str = "/") -> tuple[int, dict[str, Any]]:
    """Return the status, 0 for none, and the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"{where}?n={number}")
        reply = connection.getresponse()
        body = reply.read()
        return reply.status, json.loads(body) if reply.status == 200 else {}
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()


def ask_all(port: int, calls: int, where: str = "/") -> list[tuple[int, dict[str, Any]]]:
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(lambda number: ask(port, number, where), range(calls)))


def share_of(tts: Server, before: dict[str, Any]) -> float:
    """Return the texts of a request since then."""
    now: dict[str, Any] = tts.stats()
    return (now["texts"] - before["texts"]) / (now["requests"] - before["requests"])


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_of_django_speaks_each_visitors_own_texts(name: str) -> None:
    if "gevent" in name:
        pytest.importorskip("gevent", reason="needs gevent (extra test)")
    linger = {"COSY_SYNC_COALESCE_LINGER": "0.02"} if "linger" in name else {}
    with service(latency=0.2) as tts, host(HOSTS[name], tts, **linger) as (_, port):
        before: dict[str, Any] = tts.stats()
        answers = ask_all(port, CALLS, "/async" if name == "uvicorn" else "/")
        print(f"{name}: {share_of(tts, before):.1f} texts a request")
    assert Counter(status for status, _ in answers) == {200: CALLS}
    assert sum(said["wrong"] for _, said in answers) == 0
    assert sum(said["texts"] for _, said in answers) == sum(1 + n % 3 for n in range(CALLS))
    if "sync" not in name and "uwsgi" not in name:
        assert share_of(tts, before) > 2


@pytest.mark.parametrize("where", ["/", "/one"])
def test_resets_and_502_of_the_service_reach_a_visitor_as_503_at_most(where: str) -> None:
    """None of them where `synth_many` speaks; where `synth` does, as the retry budget goes."""
    faults = {"reset": 0.05, "status-502": 0.05}
    with service(latency=0.1, faults=faults, seed=1) as tts, host(PRELOADED, tts) as (_, port):
        answers = ask_all(port, CALLS, where)
    statuses = Counter(status for status, _ in answers)
    print(f"{where}: {statuses}")
    assert set(statuses) <= ({200} if where == "/" else {200, 503})
    assert sum(said.get("wrong", 0) for _, said in answers) == 0


class Crowd:
    """Clients that ask until they are told to stop; each notes what it was answered."""

    def __init__(self, port: int) -> None:
        self._port, self._over = port, threading.Event()
        self._next = iter(range(10**6))
        self._lock = threading.Lock()  # guards the numbers
        self.statuses: dict[int, int] = {}
        self.pids: set[int] = set()

    def run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = next(self._next)
            self.statuses[number], said = ask(self._port, number)
            self.pids.update([said["pid"]] if said else [])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def answered(self, begun: Path) -> Counter[int]:
        """Return the statuses of the requests that reached the application."""
        numbers = {int(line) for line in begun.read_text().split()}
        return Counter(self.statuses[number] for number in numbers)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """Send it TERM and wait until it is gone, with all of its workers."""
    process.terminate()
    began = time.monotonic()
    process.wait(15)
    print(f"gone in {time.monotonic() - began:.1f} s")


@pytest.mark.parametrize("name", ["gunicorn gthread 2 x 32", "uwsgi 2 x 16"])
def test_what_a_host_has_begun_is_answered_when_it_ends_under_load(
    name: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    with service(latency=0.2) as tts, host(HOSTS[name], tts, BEGUN=str(begun)) as (process, port):
        crowd = Crowd(port)
        with crowd.at_work():
            wait_until(lambda: len(crowd.statuses) > 100)
            end(process)
    assert set(crowd.answered(begun)) == {200}


def test_a_host_that_is_reloaded_under_load_answers_all_that_it_has_begun(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with service(latency=0.2) as tts, host(PRELOADED, tts, BEGUN=str(begun)) as (process, port):
        crowd = Crowd(port)
        with crowd.at_work():
            wait_until(lambda: len(crowd.statuses) > 100)
            before = set(crowd.pids)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(crowd.pids - before) == 2)
            enough = len(crowd.statuses) + 100
            wait_until(lambda: len(crowd.statuses) > enough)
    assert set(crowd.answered(begun)) == {200}
    assert len(crowd.pids - before) == 2


@pytest.mark.parametrize("name", ["gunicorn gthread 2 x 32", "uvicorn"])
def test_at_a_service_that_stalls_for_ever_each_visitor_gets_a_504_and_the_host_ends(
    name: str, tmp_path: Path
) -> None:
    begun, variables = tmp_path / "begun", {"DEADLINE": "3", "USED_BEFORE": "0"}
    where = "/async" if name == "uvicorn" else "/"
    with (
        service(latency=0, faults={"stall": 1.0}) as tts,
        host(HOSTS[name], tts, BEGUN=str(begun), **variables) as (process, port),
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        asked = [clients.submit(ask, port, number, where) for number in range(CLIENTS)]
        wait_until(lambda: begun.exists() and len(begun.read_text().split()) == CLIENTS)
        end(process)
        statuses = Counter(each.result()[0] for each in asked)
    assert statuses == {504: CLIENTS}


PATIENCE = {
    "gunicorn sync, --timeout 2, deadline 60": (500, (*SYNC, "-w", "1", "--timeout", "2"), "60"),
    "gunicorn sync, --timeout 8, deadline 2": (504, (*SYNC, "-w", "1", "--timeout", "8"), "2"),
    "gunicorn gthread, --timeout 2, deadline 4": (504, (*PRELOADED, "--timeout", "2"), "4"),
    "uwsgi, --harakiri 2, deadline 60": (0, (*UWSGI, "--harakiri", "2"), "60"),
    "uwsgi, --harakiri 8, deadline 2": (504, (*UWSGI, "--harakiri", "8"), "2"),
}


@pytest.mark.parametrize("name", PATIENCE)
def test_who_loses_patience_first_says_what_a_visitor_gets(name: str) -> None:
    status, command, deadline = PATIENCE[name]
    variables = {"DEADLINE": deadline, "USED_BEFORE": "0"}
    with (
        service(latency=0, faults={"stall": 1.0}) as tts,
        host(command, tts, **variables) as (_, port),
    ):
        assert ask(port, 1)[0] == status


def test_a_graceful_timeout_ends_a_host_but_answers_nobody() -> None:
    variables = {"DEADLINE": "60", "USED_BEFORE": "0"}
    command = (*PRELOADED, "--graceful-timeout", "2")
    with (
        service(latency=0, faults={"stall": 1.0}) as tts,
        host(command, tts, **variables) as (process, port),
        ThreadPoolExecutor(1) as clients,
    ):
        asked = clients.submit(ask, port, 1)
        wait_until(lambda: int(str(tts.stats()["requests"])) > 0)
        end(process)
        assert asked.result()[0] == 0
